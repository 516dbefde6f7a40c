//! How much of what waits to be sent goes to the kernel in one call.
//!
//! The kernel hands a stream down in pieces of up to a certain size ([`Stream::segment_bytes`]), and a piece costs it about the same
//! whether it is full or not: on loopback, 15 answers of 4 KiB in one piece cost 0.45 µs each, 16 in two cost 0.7 µs. So what fills
//! no piece waits behind full ones for the next turn, by which more is likely to have come. It waits for one turn at most.

use std::io::IoSlice;

use crate::net::{Stream, StreamError};

/// A run of bytes of at least this length is cut where a piece ends. Before a shorter one the cut is made, so that what belongs
/// together stays together.
const CUT_WITHIN_BYTES: usize = 16 * 1024;
/// Vectors that a call with a cut run takes at most.
const CUT_VECTORS: usize = 64;

/// Answers go at the end of a turn, or when so many bytes of them wait: then the other end has something to do meanwhile, and the
/// buffers of reads are used again while they are still in the cache.
const EARLY_BYTES: usize = 160 * 1024;
/// The same behind a large answer: the kernel takes half a megabyte in one call for less than in two.
const EARLY_LARGE_BYTES: usize = 400 * 1024;
/// From which on an answer is a large one.
const LARGE_ANSWER_BYTES: usize = 64 * 1024;

/// Whether what waits to be sent should go before the end of the turn, now that an answer with `answer_bytes` of data has joined it.
#[inline]
pub const fn goes_early(waiting_bytes: usize, answer_bytes: usize) -> bool {
    waiting_bytes >= if answer_bytes < LARGE_ANSWER_BYTES { EARLY_BYTES } else { EARLY_LARGE_BYTES }
}

/// What comes in this turn, behind what waits now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behind {
    /// More bytes: whatever is left over goes with them.
    More,
    /// Nothing.
    Nothing,
}

/// One turn of sending on one stream.
#[derive(Clone, Copy, Debug)]
pub struct Gather {
    segment_bytes: usize,
    /// A full piece was sent in this turn, and whatever the last turn had left went with it.
    sent_whole: bool,
}

impl Gather {
    /// The beginning of a turn's sending.
    #[inline]
    pub fn new(stream: &dyn Stream) -> Self {
        Self { segment_bytes: stream.segment_bytes(), sent_whole: false }
    }

    /// Sends what should go now of the first `filled` of the `vectors`; how many bytes the stream took. `Ok(0)`: what is shown
    /// waits for the next turn. When every vector is filled, more waits than they show, which comes behind them whatever `behind`
    /// says.
    #[inline]
    pub fn send(
        &mut self,
        stream: &mut dyn Stream,
        vectors: &[IoSlice<'_>],
        filled: usize,
        behind: Behind,
    ) -> Result<usize, StreamError> {
        let behind = if filled == vectors.len() { Behind::More } else { behind };
        let vectors = &vectors[..filled];
        let bytes = vectors.iter().map(|vector| vector.len()).sum::<usize>();
        let now_bytes = self.now_bytes(bytes, behind);
        match now_bytes {
            0 => Ok(0),
            _ if now_bytes == bytes => stream.try_send(vectors),
            _ => send_cut(stream, vectors, now_bytes),
        }
    }

    /// How many of `bytes` should go now.
    #[inline]
    fn now_bytes(&mut self, bytes: usize, behind: Behind) -> usize {
        if bytes < self.segment_bytes {
            let waits = self.sent_whole && (behind == Behind::More || bytes <= self.segment_bytes / 2);
            return if waits { 0 } else { bytes };
        }
        self.sent_whole = true;
        let rest_bytes = bytes % self.segment_bytes;
        if behind == Behind::Nothing && rest_bytes > self.segment_bytes / 2 {
            bytes
        } else {
            bytes - rest_bytes
        }
    }
}

/// Sends about the first `bytes`, of which there are more.
#[cold]
fn send_cut(stream: &mut dyn Stream, vectors: &[IoSlice<'_>], bytes: usize) -> Result<usize, StreamError> {
    let mut room = bytes;
    for (index, vector) in vectors.iter().enumerate() {
        if vector.len() <= room {
            room -= vector.len();
        } else if index > 0 && (room == 0 || vector.len() < CUT_WITHIN_BYTES || index >= CUT_VECTORS) {
            return stream.try_send(&vectors[..index]);
        } else {
            let mut cut = [IoSlice::new(&[]); CUT_VECTORS];
            cut[..index].copy_from_slice(&vectors[..index]);
            cut[index] = IoSlice::new(&vector[..room]);
            return stream.try_send(&cut[..=index]);
        }
    }
    unreachable!("less goes than there is")
}

#[cfg(test)]
mod tests {
    use std::io::IoSliceMut;
    use std::net::SocketAddr;

    use super::*;
    use crate::net::StreamParcel;

    const SEGMENT: usize = 65_483;

    /// Takes everything, and remembers the sizes of the calls.
    struct Recorder {
        segment_bytes: usize,
        calls: Vec<usize>,
    }

    impl Stream for Recorder {
        fn try_recv(&mut self, _: &mut [IoSliceMut<'_>]) -> Result<usize, StreamError> {
            Err(StreamError::WouldBlock)
        }
        fn try_send(&mut self, from: &[IoSlice<'_>]) -> Result<usize, StreamError> {
            self.calls.push(from.iter().map(|slice| slice.len()).sum());
            Ok(*self.calls.last().expect("just pushed"))
        }
        fn segment_bytes(&self) -> usize {
            self.segment_bytes
        }
        fn peer(&self) -> SocketAddr {
            self.local()
        }
        fn local(&self) -> SocketAddr {
            SocketAddr::from(([127, 0, 0, 1], 1))
        }
        fn into_parcel(self: Box<Self>) -> StreamParcel {
            StreamParcel::Simulated(0)
        }
    }

    /// The calls of one turn that has runs of the lengths `waiting` to send, 64 at a time; what is left.
    fn turn(waiting: Vec<usize>, calls: &mut Vec<usize>) -> Vec<usize> {
        turn_of(SEGMENT, waiting, calls)
    }

    fn turn_of(segment_bytes: usize, mut waiting: Vec<usize>, calls: &mut Vec<usize>) -> Vec<usize> {
        let bytes = vec![0; 200_000];
        let mut stream = Recorder { segment_bytes, calls: Vec::new() };
        let mut gather = Gather::new(&stream);
        while !waiting.is_empty() {
            let mut vectors = [IoSlice::new(&[]); 64];
            let filled = waiting.len().min(vectors.len());
            for (vector, length) in vectors.iter_mut().zip(&waiting) {
                *vector = IoSlice::new(&bytes[..*length]);
            }
            let sent = gather.send(&mut stream, &vectors, filled, Behind::Nothing);
            let mut sent = sent.expect("a recorder takes everything");
            if sent == 0 {
                break;
            }
            while sent > 0 {
                let first = waiting[0].min(sent);
                sent -= first;
                waiting[0] -= first;
                if waiting[0] == 0 {
                    waiting.remove(0);
                }
            }
        }
        calls.extend(stream.calls);
        waiting
    }

    fn answers(count: usize, data: usize) -> Vec<usize> {
        [24, data].repeat(count)
    }

    #[test]
    fn large_answers_wait_for_more_of_them() {
        assert!(!goes_early(159 * 1024, 4096) && goes_early(160 * 1024, 4096));
        assert!(!goes_early(3 * (24 + 131_072), 131_072) && goes_early(4 * (24 + 131_072), 131_072));
        assert!(goes_early(24 + (1 << 20), 1 << 20), "one that is large enough waits for nobody");
    }

    #[test]
    fn little_goes_at_once() {
        let mut calls = Vec::new();
        assert!(turn(answers(15, 4096), &mut calls).is_empty());
        assert_eq!(calls, [15 * 4120]);
    }

    #[test]
    fn a_short_rest_waits_behind_a_full_piece_for_one_turn() {
        let mut calls = Vec::new();
        let left = turn(answers(17, 4096), &mut calls);
        assert_eq!(calls, [15 * 4120 + 24], "cut before the run that crosses the end of the piece");
        assert_eq!(left.iter().sum::<usize>(), 17 * 4120 - calls[0]);
        assert!(turn(left, &mut calls).is_empty(), "nothing came: it goes alone");
    }

    #[test]
    fn a_long_rest_does_not_wait() {
        let mut calls = Vec::new();
        assert!(turn(answers(30, 4096), &mut calls).is_empty());
        assert_eq!(calls, [30 * 4120]);
    }

    #[test]
    fn calls_that_follow_each_other_end_with_pieces() {
        let mut calls = Vec::new();
        let left = turn(answers(127, 4096), &mut calls);
        assert_eq!(calls.iter().chain(&left).sum::<usize>(), 127 * 4120);
        for call in &calls {
            let filled = call.div_ceil(SEGMENT) * SEGMENT - call;
            assert!(filled < 4120, "{call} bytes end in a piece of which {filled} are empty");
        }
        assert!(left.iter().sum::<usize>() <= SEGMENT / 2);
    }

    #[test]
    fn a_long_run_is_cut_where_a_piece_ends() {
        let mut calls = Vec::new();
        let left = turn(answers(1, 131_072), &mut calls);
        assert_eq!((calls.as_slice(), left.as_slice()), ([2 * SEGMENT].as_slice(), [130].as_slice()));
    }

    #[test]
    fn nothing_waits_for_two_turns() {
        for (first, second) in (1..40).flat_map(|first| (0..40).map(move |second| (first, second))) {
            let mut calls = Vec::new();
            let mut left = turn(answers(first, 4096), &mut calls);
            let (old, before): (usize, usize) = (left.iter().sum(), calls.iter().sum());
            left.extend(answers(second, 4096));
            turn(left, &mut calls);
            assert!(calls.iter().sum::<usize>() - before >= old, "{first} and then {second}");
        }
    }

    #[test]
    fn runs_longer_than_a_piece_get_through() {
        for segment_bytes in [1, 100, 1448, 5792, 20_000] {
            for data in [1, 1447, 8192, 17_000, 131_072] {
                let mut calls = Vec::new();
                let mut left = answers(3, data);
                for _ in 0..2 {
                    left = turn_of(segment_bytes, left, &mut calls);
                }
                assert!(left.is_empty(), "{data} bytes in pieces of {segment_bytes}: {left:?}");
            }
        }
    }
}
