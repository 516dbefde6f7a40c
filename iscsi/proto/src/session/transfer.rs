//! Data-Out of one command: what came unsolicited, what was asked for with R2T, what is missing
//! (RFC 7143 sections 4.2.5.2, 11.7 and 11.8).
//!
//! Headers are judged here before a byte of their data is taken. Offsets count within the command's buffer.

use smallvec::SmallVec;

/// Why a command fails although its connection lives on (section 11.4.7.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A data digest was wrong or a Data-Out PDU is missing in the sequence.
    ProtocolServiceCrc,
    /// A sequence ended with less than was asked for.
    IncorrectAmountOfData,
    /// No memory for the data.
    TaskSetFull,
}

/// Data-Out that ends the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// Unsolicited data where none is open, or more than FirstBurstLength or the command allows.
    Unsolicited,
    /// Unknown tag, wrong offset, or more than was asked for.
    Solicited,
}

/// The fields of a Data-Out header that matter here.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DataOutHeader {
    pub(crate) ttt: Option<u32>,
    pub(crate) data_sn: u32,
    pub(crate) offset_bytes: u32,
    pub(crate) length_bytes: u32,
    pub(crate) is_final: bool,
}

/// One R2T in flight.
#[derive(Clone, Copy, Debug)]
struct Burst {
    ttt: u32,
    offset_bytes: u32,
    length_bytes: u32,
    received_bytes: u32,
    data_sn: u32,
}

/// What the next R2T asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct R2tSpan {
    pub(crate) r2t_sn: u32,
    pub(crate) offset_bytes: u32,
    pub(crate) length_bytes: u32,
}

/// The transfer of one command.
#[derive(Debug, Default)]
pub(crate) struct Transfer {
    /// How many bytes the command takes: what SCSI wants within the expected length.
    take_bytes: u32,
    expected_bytes: u32,
    /// The initiator has not ended its unsolicited data yet.
    unsolicited_open: bool,
    unsolicited_bytes: u32,
    unsolicited_limit_bytes: u32,
    unsolicited_data_sn: u32,
    /// Where the next R2T starts.
    asked_bytes: u32,
    r2t_sn: u32,
    bursts: SmallVec<[Burst; 2]>,
    /// Bytes that Data-Out PDUs brought, counted when their headers were accepted.
    received_bytes: u32,
    failure: Option<Failure>,
}

impl Transfer {
    /// Starts over for a command that brings `immediate_bytes` with it.
    pub(crate) fn begin(
        &mut self,
        take_bytes: u32,
        expected_bytes: u32,
        immediate_bytes: u32,
        unsolicited_open: bool,
        first_burst_bytes: u32,
    ) {
        // The list keeps its memory: a slot that needed many R2Ts once does not allocate again.
        self.bursts.clear();
        self.take_bytes = take_bytes;
        self.expected_bytes = expected_bytes;
        self.unsolicited_open = unsolicited_open;
        self.unsolicited_bytes = immediate_bytes;
        self.unsolicited_limit_bytes = first_burst_bytes.min(expected_bytes);
        self.unsolicited_data_sn = 0;
        self.asked_bytes = immediate_bytes;
        self.r2t_sn = 0;
        self.received_bytes = 0;
        self.failure = None;
    }

    /// Bytes that the command takes.
    pub(crate) const fn take_bytes(&self) -> u32 {
        self.take_bytes
    }

    /// R2Ts sent so far.
    pub(crate) const fn r2t_count(&self) -> u32 {
        self.r2t_sn
    }

    /// Why the command fails, if it does.
    pub(crate) const fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Fails the command; the first reason stays. Its outstanding sequences are still awaited, so that the
    /// response comes behind all of its data.
    pub(crate) fn fail(&mut self, failure: Failure) {
        self.failure.get_or_insert(failure);
    }

    /// Bytes that came behind the command itself.
    pub(crate) const fn received_bytes(&self) -> u32 {
        self.received_bytes
    }

    /// Judges a header and counts its data as received. Returns where the data goes.
    pub(crate) fn accept(&mut self, header: DataOutHeader) -> Result<u32, Violation> {
        let offset_bytes = match header.ttt {
            None => self.accept_unsolicited(header),
            Some(ttt) => self.accept_solicited(ttt, header),
        }?;
        self.received_bytes = self.received_bytes.wrapping_add(header.length_bytes);
        Ok(offset_bytes)
    }

    fn accept_unsolicited(&mut self, header: DataOutHeader) -> Result<u32, Violation> {
        let end = header.offset_bytes.checked_add(header.length_bytes).ok_or(Violation::Unsolicited)?;
        let contiguous = header.offset_bytes == self.unsolicited_bytes;
        if !self.unsolicited_open || !contiguous || end > self.unsolicited_limit_bytes {
            return Err(Violation::Unsolicited);
        }
        if header.data_sn != self.unsolicited_data_sn {
            self.fail(Failure::ProtocolServiceCrc);
        }
        self.unsolicited_data_sn = self.unsolicited_data_sn.wrapping_add(1);
        self.unsolicited_bytes = end;
        self.asked_bytes = end;
        if header.is_final
            && end < self.unsolicited_limit_bytes
            && self.expected_bytes > self.unsolicited_limit_bytes
        {
            self.fail(Failure::IncorrectAmountOfData);
        }
        Ok(header.offset_bytes)
    }

    fn accept_solicited(&mut self, ttt: u32, header: DataOutHeader) -> Result<u32, Violation> {
        let burst = self.bursts.iter_mut().find(|burst| burst.ttt == ttt).ok_or(Violation::Solicited)?;
        let missing = burst.length_bytes - burst.received_bytes;
        let contiguous = header.offset_bytes == burst.offset_bytes + burst.received_bytes;
        let last = header.length_bytes == missing;
        if !contiguous || header.length_bytes > missing || (last && !header.is_final) {
            return Err(Violation::Solicited);
        }
        let in_sequence = header.data_sn == burst.data_sn;
        burst.data_sn = burst.data_sn.wrapping_add(1);
        burst.received_bytes += header.length_bytes;
        if !in_sequence {
            self.fail(Failure::ProtocolServiceCrc);
        }
        if header.is_final && !last {
            self.fail(Failure::IncorrectAmountOfData);
        }
        Ok(header.offset_bytes)
    }

    /// The data of an accepted PDU is there (or was found damaged): a final one ends its sequence.
    pub(crate) fn finish(&mut self, ttt: Option<u32>, is_final: bool) {
        match ttt {
            _ if !is_final => {}
            None => self.unsolicited_open = false,
            Some(ttt) => self.bursts.retain(|burst| burst.ttt != ttt),
        }
    }

    /// True when an R2T should be sent now.
    pub(crate) fn wants_r2t(&self, outstanding_max: u16) -> bool {
        !self.unsolicited_open
            && self.failure.is_none()
            && self.asked_bytes < self.take_bytes
            && self.bursts.len() < usize::from(outstanding_max)
    }

    /// Registers the next R2T under `ttt`; call it while [`Transfer::wants_r2t`].
    pub(crate) fn next_r2t(&mut self, ttt: u32, max_burst_bytes: u32) -> R2tSpan {
        assert!(self.asked_bytes < self.take_bytes, "there is something to ask for");
        let length_bytes = (self.take_bytes - self.asked_bytes).min(max_burst_bytes);
        let span = R2tSpan { r2t_sn: self.r2t_sn, offset_bytes: self.asked_bytes, length_bytes };
        let offset_bytes = self.asked_bytes;
        self.bursts.push(Burst { ttt, offset_bytes, length_bytes, received_bytes: 0, data_sn: 0 });
        self.asked_bytes += length_bytes;
        self.r2t_sn += 1;
        span
    }

    /// True when no more Data-Out is to come for this command.
    pub(crate) fn is_done(&self) -> bool {
        let all_asked = self.failure.is_some() || self.asked_bytes >= self.take_bytes;
        !self.unsolicited_open && self.bursts.is_empty() && all_asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer(take: u32, expected: u32, immediate: u32, open: bool, first_burst: u32) -> Transfer {
        let mut transfer = Transfer::default();
        transfer.begin(take, expected, immediate, open, first_burst);
        transfer
    }

    fn header(ttt: Option<u32>, data_sn: u32, offset: u32, length: u32, is_final: bool) -> DataOutHeader {
        DataOutHeader { ttt, data_sn, offset_bytes: offset, length_bytes: length, is_final }
    }

    #[test]
    fn immediate_data_alone_is_done_at_once() {
        assert!(transfer(4096, 4096, 4096, false, 65536).is_done());
        assert!(transfer(0, 0, 0, false, 65536).is_done());
        assert!(!transfer(4096, 4096, 512, false, 65536).is_done());
        assert!(transfer(512, 4096, 4096, false, 65536).is_done(), "more than SCSI wants is surplus");
    }

    #[test]
    fn unsolicited_data_ends_with_f() {
        let mut t = transfer(3000, 3000, 1000, true, 65536);
        assert_eq!(t.accept(header(None, 0, 1000, 1000, false)), Ok(1000));
        t.finish(None, false);
        assert!(!t.is_done());
        assert_eq!(t.accept(header(None, 1, 2000, 1000, true)), Ok(2000));
        t.finish(None, true);
        assert!(t.is_done());
        assert_eq!(t.accept(header(None, 2, 3000, 0, true)), Err(Violation::Unsolicited));
    }

    #[test]
    fn unsolicited_data_stays_within_first_burst_and_expectation() {
        assert_eq!(
            transfer(9000, 9000, 0, true, 1000).accept(header(None, 0, 0, 1001, true)),
            Err(Violation::Unsolicited)
        );
        assert_eq!(
            transfer(500, 500, 0, true, 1000).accept(header(None, 0, 0, 501, true)),
            Err(Violation::Unsolicited)
        );
        assert!(transfer(9000, 9000, 0, true, 1000).accept(header(None, 0, 0, 1000, true)).is_ok());
    }

    #[test]
    fn unsolicited_offset_must_follow_on() {
        for offset in [0, 99, 101, u32::MAX, 0x8000_0000] {
            let mut t = transfer(4096, 4096, 100, true, 65536);
            assert_eq!(t.accept(header(None, 0, offset, 10, true)), Err(Violation::Unsolicited), "{offset}");
        }
    }

    #[test]
    fn less_unsolicited_data_than_first_burst_fails_the_command() {
        let mut t = transfer(9000, 9000, 0, true, 1000);
        assert!(t.accept(header(None, 0, 0, 999, true)).is_ok());
        t.finish(None, true);
        assert_eq!(t.failure(), Some(Failure::IncorrectAmountOfData));
        assert!(t.is_done() && !t.wants_r2t(1));
        let mut t = transfer(900, 900, 0, true, 1000);
        assert!(t.accept(header(None, 0, 0, 500, true)).is_ok());
        t.finish(None, true);
        assert!(t.wants_r2t(1), "a short command's rest is asked for");
    }

    #[test]
    fn a_wrong_data_sn_fails_the_command_behind_its_data() {
        for wrong in [1, 27, u32::MAX] {
            let mut t = transfer(100, 100, 0, true, 100);
            assert_eq!(t.accept(header(None, wrong, 0, 50, false)), Ok(0));
            assert!(!t.is_done());
            assert_eq!(t.accept(header(None, 1, 50, 50, true)), Ok(50));
            t.finish(None, true);
            assert!(t.is_done());
            assert_eq!(t.failure(), Some(Failure::ProtocolServiceCrc));
        }
    }

    #[test]
    fn r2ts_cover_the_rest_in_bursts_up_to_the_limit() {
        let mut t = transfer(1000, 1000, 100, false, 100);
        let mut spans = Vec::new();
        while t.wants_r2t(2) {
            spans.push(t.next_r2t(spans.len() as u32, 400));
        }
        let span = |r2t_sn, offset_bytes, length_bytes| R2tSpan { r2t_sn, offset_bytes, length_bytes };
        assert_eq!(spans, [span(0, 100, 400), span(1, 500, 400)]);
        // The second is answered first.
        assert_eq!(t.accept(header(Some(1), 0, 500, 400, true)), Ok(500));
        t.finish(Some(1), true);
        assert!(t.wants_r2t(2));
        assert_eq!(t.next_r2t(2, 400), span(2, 900, 100));
        assert_eq!(t.accept(header(Some(2), 0, 900, 100, true)), Ok(900));
        t.finish(Some(2), true);
        for (n, offset) in [(0, 100), (1, 300)] {
            assert_eq!(t.accept(header(Some(0), n, offset, 200, n == 1)), Ok(offset));
            t.finish(Some(0), n == 1);
        }
        assert!(t.is_done() && t.failure().is_none());
    }

    #[test]
    fn solicited_data_outside_of_its_r2t_is_a_violation() {
        let bad = [
            header(Some(8), 0, 0, 100, true),
            header(Some(7), 0, 1, 100, true),
            header(Some(7), 0, 0, 101, true),
            header(Some(7), 0, 100, 1, true),
            header(Some(7), 0, u32::MAX, 2, true),
            // All bytes without F.
            header(Some(7), 0, 0, 100, false),
            header(None, 0, 0, 100, true),
        ];
        for header in bad {
            let mut t = transfer(100, 100, 0, false, 100);
            t.next_r2t(7, 100);
            assert!(t.accept(header).is_err(), "{header:?}");
        }
    }

    #[test]
    fn an_r2t_that_ends_early_fails_the_command() {
        let mut t = transfer(100, 100, 0, false, 100);
        t.next_r2t(7, 100);
        assert!(t.accept(header(Some(7), 0, 0, 60, true)).is_ok());
        t.finish(Some(7), true);
        assert_eq!(t.failure(), Some(Failure::IncorrectAmountOfData));
        assert!(t.is_done());
    }
}
