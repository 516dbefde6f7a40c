//! The memory of requests. One that is longer than the target's longest command has as many buffers as commands, so nothing is copied,
//! and their answers are put together again.

use std::collections::VecDeque;

use nvmf_host::Data;

use crate::driver::{Answer, Failure, Payload, Request};

/// The memory of one command.
#[derive(Debug, Default)]
pub struct Run {
    bytes: Vec<u8>,
    /// The CRC-32C of the bytes, once it was needed: what is written again unchanged goes with the same digest.
    crc32c: Option<u32>,
}

impl Run {
    fn zeros(length_bytes: usize) -> Self {
        Self { bytes: vec![0; length_bytes], crc32c: None }
    }

    /// To be filled.
    pub fn into_read(self) -> Data {
        Data::Heap(self.bytes)
    }

    /// To be written, to a target that wants a data digest or does not.
    pub fn into_write(self, data_digest: bool) -> Data {
        if !data_digest {
            return Data::Heap(self.bytes);
        }
        let crc32c = self.crc32c.unwrap_or_else(|| crc_fast::crc32_iscsi(&self.bytes));
        Data::Checked(self.bytes, crc32c)
    }

    /// What [`Run::into_read`] or [`Run::into_write`] gave, back from the queue.
    pub fn back(data: Data) -> Self {
        match data {
            Data::Heap(bytes) => Self { bytes, crc32c: None },
            Data::Checked(bytes, crc32c) => Self { bytes, crc32c: Some(crc32c) },
            _ => unreachable!("every request brings its buffer on the heap"),
        }
    }
}

/// The memory of a request: one run for each command.
#[derive(Debug)]
pub enum Pieces {
    /// A single command.
    One(Run),
    /// Several commands, each but the last as long as one may be.
    Many(Vec<Run>),
}

impl Default for Pieces {
    fn default() -> Self {
        Self::One(Run::default())
    }
}

impl Pieces {
    /// Memory for `length_bytes` in commands of at most `command_bytes_max`.
    pub fn new(length_bytes: usize, command_bytes_max: usize) -> Self {
        if length_bytes <= command_bytes_max {
            return Self::One(Run::zeros(length_bytes));
        }
        let starts = (0..length_bytes).step_by(command_bytes_max);
        Self::Many(starts.map(|start| Run::zeros(command_bytes_max.min(length_bytes - start))).collect())
    }
}

impl Payload for Pieces {
    fn runs(&self) -> impl Iterator<Item = &[u8]> {
        let runs = match self {
            Self::One(run) => std::slice::from_ref(run),
            Self::Many(runs) => runs,
        };
        runs.iter().map(|run| &run.bytes[..])
    }

    fn runs_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let runs = match self {
            Self::One(run) => std::slice::from_mut(run),
            Self::Many(runs) => runs,
        };
        runs.iter_mut().map(|run| {
            run.crc32c = None;
            &mut run.bytes[..]
        })
    }
}

/// A command of a request: whose it is, and which part of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The request.
    pub tag: u32,
    /// Which of its commands; [`Part::WHOLE`] when there is only one.
    pub piece: u32,
}

impl Part {
    /// The request is one command.
    pub const WHOLE: u32 = u32::MAX;

    /// The only command of a request.
    pub fn whole(tag: u32) -> Self {
        Self { tag, piece: Self::WHOLE }
    }
}

/// A request that is several commands.
#[derive(Debug)]
struct Cut {
    request: Request,
    /// Empty while a command has one.
    pieces: Vec<Run>,
    /// Commands that are not over.
    open: usize,
    piece_blocks: u32,
    failure: Option<Failure>,
}

/// All requests that are several commands.
#[derive(Debug)]
pub struct Cuts {
    cuts: Vec<Option<Cut>>,
    /// Commands that found no room, of each queue.
    waiting: Vec<VecDeque<Part>>,
}

impl Cuts {
    /// For so many tags over so many queues.
    pub fn new(tags: usize, queues: usize) -> Self {
        let mut cuts = Vec::new();
        cuts.resize_with(tags, || None);
        Self { cuts, waiting: vec![VecDeque::new(); queues] }
    }

    /// True when commands of this queue wait; what is submitted later goes after them.
    #[inline]
    pub fn has_waiting(&self, queue: usize) -> bool {
        !self.waiting[queue].is_empty()
    }

    /// Takes a request; its commands wait for [`Cuts::next`].
    pub fn begin(&mut self, queue: usize, request: Request, pieces: Vec<Run>) {
        let open = pieces.len();
        let blocks =
            |bytes: usize, of: usize| (bytes as u64 * u64::from(request.length_blocks) / of as u64) as u32;
        let total: usize = pieces.iter().map(|run| run.bytes.len()).sum();
        let piece_blocks = blocks(pieces[0].bytes.len(), total);
        self.waiting[queue].extend((0..open as u32).map(|piece| Part { tag: request.tag, piece }));
        let cut = Cut { request, pieces, open, piece_blocks, failure: None };
        let before = self.cuts[request.tag as usize].replace(cut);
        assert!(before.is_none(), "a tag is in flight once");
    }

    /// The next command of a queue, as a request of its own, with its memory.
    pub fn next(&mut self, queue: usize) -> Option<(Part, Request, Run)> {
        let part = self.waiting[queue].pop_front()?;
        let cut = self.cut(part);
        let done_blocks = part.piece * cut.piece_blocks;
        let request = Request {
            lba: cut.request.lba + u64::from(done_blocks),
            length_blocks: cut.piece_blocks.min(cut.request.length_blocks - done_blocks),
            ..cut.request
        };
        let data = std::mem::take(&mut cut.pieces[part.piece as usize]);
        Some((part, request, data))
    }

    /// A command found no room: it is the next one again.
    pub fn put_back(&mut self, queue: usize, part: Part, data: Run) {
        self.cut(part).pieces[part.piece as usize] = data;
        self.waiting[queue].push_front(part);
    }

    fn cut(&mut self, part: Part) -> &mut Cut {
        self.cuts[part.tag as usize].as_mut().expect("a request lives until its last command is over")
    }

    /// A command is over; with the last one of a request, so is that.
    pub fn finish(&mut self, part: Part, data: Run, failure: Option<Failure>) -> Option<Answer<Pieces>> {
        let cut = self.cut(part);
        cut.pieces[part.piece as usize] = data;
        cut.failure = cut.failure.or(failure);
        cut.open -= 1;
        if cut.open > 0 {
            return None;
        }
        let Cut { request, pieces, failure, .. } = self.cuts[part.tag as usize].take()?;
        Some(Answer { tag: request.tag, data: Pieces::Many(pieces), failure })
    }

    /// The connection is gone: what waits was never sent.
    pub fn lose_waiting(&mut self, answers: &mut Vec<Answer<Pieces>>) {
        for queue in 0..self.waiting.len() {
            while let Some((part, _, data)) = self.next(queue) {
                answers.extend(self.finish(part, data, Some(Failure::Lost)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::Kind;

    fn request(tag: u32, lba: u64, length_blocks: u32) -> Request {
        Request { tag, kind: Kind::Write, lba, length_blocks }
    }

    fn many(length_bytes: usize, command_bytes_max: usize) -> Vec<Run> {
        match Pieces::new(length_bytes, command_bytes_max) {
            Pieces::Many(pieces) => pieces,
            Pieces::One(_) => panic!("it is longer than a command"),
        }
    }

    #[test]
    fn a_checksum_is_kept_until_the_bytes_change() {
        let mut pieces = Pieces::new(10, 100);
        pieces.runs_mut().for_each(|run| run.copy_from_slice(b"0123456789"));
        let crc_of = |pieces: Pieces| match pieces {
            Pieces::One(run) => match run.into_write(true) {
                Data::Checked(bytes, crc32c) => {
                    (Pieces::One(Run::back(Data::Checked(bytes, crc32c))), crc32c)
                }
                data => panic!("{data:?}"),
            },
            Pieces::Many(_) => panic!("it is one command"),
        };
        let (mut pieces, first) = crc_of(pieces);
        assert_eq!(first, crc_fast::crc32_iscsi(b"0123456789"));
        assert!(matches!(&pieces, Pieces::One(run) if run.crc32c == Some(first)));
        pieces.runs_mut().for_each(|run| run[9] = b'8');
        let (pieces, second) = crc_of(pieces);
        assert_eq!(second, crc_fast::crc32_iscsi(b"0123456788"));
        // What a read has filled has another one.
        let Pieces::One(run) = pieces else { panic!("it is one command") };
        assert_eq!(Run::back(run.into_read()).crc32c, None);
    }

    #[test]
    fn a_request_is_cut_at_the_limit_and_answered_once() {
        assert!(matches!(Pieces::new(4096, 4096), Pieces::One(run) if run.bytes.len() == 4096));
        let mut cuts = Cuts::new(4, 2);
        cuts.begin(1, request(3, 100, 20), many(10 << 10, 4096));
        assert!(cuts.has_waiting(1) && !cuts.has_waiting(0));
        let mut sent = Vec::new();
        while let Some((part, request, data)) = cuts.next(1) {
            assert_eq!(data.bytes.len(), request.length_blocks as usize * 512);
            sent.push((part, request.lba, request.length_blocks, data));
        }
        let places: Vec<_> = sent.iter().map(|(_, lba, blocks, _)| (*lba, *blocks)).collect();
        assert_eq!(places, [(100, 8), (108, 8), (116, 4)]);
        // In any order.
        let mut answers = Vec::new();
        for (number, (part, _, _, mut data)) in sent.into_iter().rev().enumerate() {
            data.bytes.fill(part.piece as u8);
            let failure = (number == 1).then_some(Failure::Unanswered);
            answers.extend(cuts.finish(part, data, failure));
        }
        let [answer] = &answers[..] else { panic!("{answers:?}") };
        assert_eq!((answer.tag, answer.failure), (3, Some(Failure::Unanswered)));
        assert_eq!(
            answer.data.runs().map(|run| (run.len(), run[0])).collect::<Vec<_>>(),
            [(4096, 0), (4096, 1), (2048, 2)]
        );
    }

    #[test]
    fn what_finds_no_room_is_next_again_and_is_lost_with_the_connection() {
        let mut cuts = Cuts::new(1, 1);
        cuts.begin(0, request(0, 0, 16), many(8192, 4096));
        let (part, _, data) = cuts.next(0).expect("the first");
        cuts.put_back(0, part, data);
        let (again, _, data) = cuts.next(0).expect("the first again");
        assert_eq!(again, part);
        let mut answers = Vec::new();
        cuts.lose_waiting(&mut answers);
        assert!(answers.is_empty(), "one command is in flight");
        let answer = cuts.finish(part, data, None).expect("the last one");
        assert_eq!((answer.failure, answer.data.length_bytes()), (Some(Failure::Lost), 8192));
    }
}
