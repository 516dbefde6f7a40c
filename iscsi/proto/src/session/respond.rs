//! From a completion to Data-In and SCSI Response (RFC 7143 sections 11.4 and 11.7), with residuals.

use super::Session;
use super::event::{Completion, TaskId};
use super::host::Payload;
use super::limits::SENSE_BYTES_MAX;
use super::task::{Task, TaskState};
use super::transfer::Failure;
use super::transmit::{DataInStream, StatusPdu, Waiting};
use crate::pdu::{DataIn, FLAG_FINAL, ScsiResponse, ScsiResponseCode, U24};
use zerocopy::transmute;

const STATUS_GOOD: u8 = 0x00;
const STATUS_CHECK_CONDITION: u8 = 0x02;
const STATUS_TASK_SET_FULL: u8 = 0x28;

/// Residual bits and counts of a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Residuals {
    flags: u8,
    count: u32,
    bidirectional_read_count: u32,
}

impl Residuals {
    /// Compares what the initiator expects with what SCSI has or takes (section 11.4.5).
    fn of<P>(task: &Task<P>, data_in_length: u64, data_out_length: u64) -> Self {
        const O: u8 = ScsiResponse::RESIDUAL_OVERFLOW;
        const U: u8 = ScsiResponse::RESIDUAL_UNDERFLOW;
        const READ_O: u8 = ScsiResponse::BIDIRECTIONAL_READ_OVERFLOW;
        const READ_U: u8 = ScsiResponse::BIDIRECTIONAL_READ_UNDERFLOW;
        let expected = u64::from(task.expected_bytes);
        match (task.read, task.write) {
            (true, true) => {
                let (write_flags, count) = compare(expected, data_out_length, O, U);
                let read_expected = u64::from(task.bidirectional_read_bytes);
                let (read_flags, read_count) = compare(read_expected, data_in_length, READ_O, READ_U);
                Self { flags: write_flags | read_flags, count, bidirectional_read_count: read_count }
            }
            (read, write) => {
                let (expected, actual) = match (read, write) {
                    (true, _) => (expected, data_in_length),
                    (_, true) => (expected, data_out_length),
                    // Neither direction was announced, so nothing is expected.
                    _ => (0, data_in_length.max(data_out_length)),
                };
                let (flags, count) = compare(expected, actual, O, U);
                Self { flags, count, bidirectional_read_count: 0 }
            }
        }
    }
}

fn compare(expected: u64, actual: u64, overflow: u8, underflow: u8) -> (u8, u32) {
    let count = u32::try_from(expected.abs_diff(actual)).unwrap_or(u32::MAX);
    match expected.cmp(&actual) {
        std::cmp::Ordering::Equal => (0, 0),
        std::cmp::Ordering::Less => (overflow, count),
        std::cmp::Ordering::Greater => (underflow, count),
    }
}

/// The bytes of Data-In that the initiator takes.
fn read_expected_bytes<P>(task: &Task<P>) -> u64 {
    match (task.read, task.write) {
        (true, true) => u64::from(task.bidirectional_read_bytes),
        (true, false) => u64::from(task.expected_bytes),
        (false, _) => 0,
    }
}

impl<P: Payload> Session<P> {
    /// Ends a task: queues its Data-In and response. False when the id is stale (aborted): the data is dropped.
    ///
    /// # Panics
    /// When `data_in` holds less than both `data_in_length` and what the initiator expects.
    pub fn complete(&mut self, task: TaskId, completion: Completion<'_, P>) -> bool {
        let Some(live) = self.tasks.get(task).filter(|task| task.state == TaskState::Executing) else {
            return false;
        };
        let index = usize::from(live.connection);
        let failed = completion.target_failure;
        let sent_bytes = match failed {
            true => 0,
            false => read_expected_bytes(live).min(completion.data_in_length) as usize,
        };
        let residuals = match failed {
            //= RFC 7143 section 11.4.5: no residual unless the command was completed at the target
            true => Residuals::default(),
            false => Residuals::of(live, completion.data_in_length, completion.data_out_length),
        };
        let response = Response {
            itt: live.itt,
            status: if failed { 0 } else { completion.status },
            code: if failed { ScsiResponseCode::TARGET_FAILURE } else { ScsiResponseCode::COMPLETED },
            residuals,
            sense: &completion.sense[..completion.sense.len().min(SENSE_BYTES_MAX)],
            bidirectional: live.read && live.write,
            first_data_sn: if live.read && live.write { live.transfer.r2t_count() } else { 0 },
        };
        // The place in the window is given back first, so that the response says so.
        self.drop_task(task);
        if self.connections[index].as_ref().is_none_or(|connection| !connection.sends()) {
            return true;
        }
        match completion.data_in {
            Some(payload) if sent_bytes > 0 => {
                assert!(payload.len() >= sent_bytes, "a completion brings the data it announces");
                self.queue_data_in(index, payload, sent_bytes, &response);
                self.build_ahead(index);
            }
            _ => {
                assert!(sent_bytes == 0, "a completion brings the data it announces");
                self.send_response(index, &response);
            }
        }
        true
    }

    /// Ends a task that never was given out.
    pub(super) fn respond_failure(&mut self, id: TaskId, failure: Failure) {
        let task = self.tasks.get(id).expect("a live task");
        let index = usize::from(task.connection);
        //= RFC 7143 section 11.4.7.2: ABORTED COMMAND, with the code of the condition
        let (status, code) = match failure {
            Failure::ProtocolServiceCrc => (STATUS_CHECK_CONDITION, [0x47, 0x05]),
            Failure::IncorrectAmountOfData => (STATUS_CHECK_CONDITION, [0x0c, 0x0d]),
            Failure::TaskSetFull => (STATUS_TASK_SET_FULL, [0, 0]),
        };
        let mut sense = [0; 18];
        sense[0] = 0x70;
        sense[2] = 0x0b;
        sense[7] = 10;
        sense[12..14].copy_from_slice(&code);
        let response = Response {
            itt: task.itt,
            status,
            code: ScsiResponseCode::COMPLETED,
            residuals: Residuals::of(task, 0, 0),
            sense: if status == STATUS_CHECK_CONDITION { &sense } else { &[] },
            bidirectional: false,
            first_data_sn: 0,
        };
        self.drop_task(id);
        if self.connections[index].as_ref().is_some_and(|connection| connection.sends()) {
            self.send_response(index, &response);
        }
    }

    fn queue_data_in(&mut self, index: usize, payload: P, length_bytes: usize, response: &Response<'_>) {
        let max_burst_bytes = self.rules.max_burst_bytes as usize;
        let connection = self.open(index);
        //= RFC 7143 section 11.7.3: status rides on the last Data-In only without sense, and not for bidirectional commands
        let collapsed =
            response.status == STATUS_GOOD && response.sense.is_empty() && !response.bidirectional;
        let segments = data_in_count(length_bytes, connection.segment_bytes_max, max_burst_bytes);
        let slot = connection.tx.keep(payload);
        connection.tx.push_waiting(Waiting::Read(DataInStream {
            slot,
            itt: response.itt,
            offset_bytes: 0,
            length_bytes,
            data_sn: response.first_data_sn,
            status: collapsed.then_some((response.residuals.flags, response.residuals.count)),
        }));
        if !collapsed {
            let mut header = response.header();
            header.exp_data_sn = response.first_data_sn.wrapping_add(segments).into();
            let pdu = StatusPdu { header: transmute!(header), data: with_length(response.sense) };
            connection.tx.push_waiting(Waiting::Status(Box::new(pdu)));
        }
    }

    fn send_response(&mut self, index: usize, response: &Response<'_>) {
        let header = response.header();
        if response.sense.is_empty() {
            self.send_status(index, transmute!(header), &[]);
        } else {
            self.send_status(index, transmute!(header), &with_length(response.sense));
        }
    }

    /// Builds what waits on a connection as far ahead as allowed.
    pub(super) fn build_ahead(&mut self, index: usize) {
        let max_burst_bytes = self.rules.max_burst_bytes as usize;
        while let Some(connection) = self.connections.get_mut(index).and_then(Option::as_mut) {
            match connection.tx.to_build() {
                None => return,
                Some(Waiting::Status(_)) => {
                    let pdu = connection.tx.take_status();
                    self.send_status(index, pdu.header, &pdu.data);
                }
                Some(Waiting::Read(stream)) => {
                    let (mut header, length_bytes) =
                        next_data_in(stream, connection.segment_bytes_max, max_burst_bytes);
                    header.exp_cmd_sn = self.window.exp_cmd_sn().into();
                    header.max_cmd_sn = self.window.max_cmd_sn().into();
                    if header.flags & DataIn::STATUS != 0 {
                        header.stat_sn = connection.take_stat_sn().into();
                    }
                    connection.tx.build_data_in(&transmute!(header), length_bytes);
                }
            }
        }
    }
}

/// The next PDU of a read, without the session's sequence numbers, and how many bytes it carries.
fn next_data_in(stream: &DataInStream, segment_bytes_max: usize, max_burst_bytes: usize) -> (DataIn, usize) {
    let left_bytes = stream.length_bytes - stream.offset_bytes;
    let burst_left_bytes = max_burst_bytes - stream.offset_bytes % max_burst_bytes;
    let length_bytes = left_bytes.min(burst_left_bytes).min(segment_bytes_max);
    let mut header = DataIn {
        data_segment_length: U24::new(length_bytes),
        data_sn: stream.data_sn.into(),
        buffer_offset_bytes: (stream.offset_bytes as u32).into(),
        ..DataIn::new(stream.itt)
    };
    if length_bytes == left_bytes || length_bytes == burst_left_bytes {
        header.flags |= FLAG_FINAL;
    }
    if let Some((flags, count)) = stream.status
        && length_bytes == left_bytes
    {
        header.flags |= DataIn::STATUS | flags;
        header.residual = count.into();
    }
    (header, length_bytes)
}

/// A SCSI Response in the making.
struct Response<'a> {
    itt: u32,
    status: u8,
    code: ScsiResponseCode,
    residuals: Residuals,
    sense: &'a [u8],
    bidirectional: bool,
    /// DataSN of the first Data-In; R2Ts and Data-In of a bidirectional command are numbered together.
    first_data_sn: u32,
}

impl Response<'_> {
    /// Without the sequence numbers.
    fn header(&self) -> ScsiResponse {
        let sense_bytes = if self.sense.is_empty() { 0 } else { 2 + self.sense.len() };
        let mut header = ScsiResponse::new(self.itt, self.code, self.status);
        header.flags |= self.residuals.flags;
        header.data_segment_length = U24::new(sense_bytes);
        header.residual = self.residuals.count.into();
        header.bidirectional_read_residual = self.residuals.bidirectional_read_count.into();
        header
    }
}

/// SenseLength and sense data: the data segment of a response (section 11.4.7).
fn with_length(sense: &[u8]) -> Vec<u8> {
    if sense.is_empty() {
        return Vec::new();
    }
    let mut data = Vec::with_capacity(2 + sense.len());
    data.extend((sense.len() as u16).to_be_bytes());
    data.extend(sense);
    data
}

/// How many Data-In PDUs a read takes.
fn data_in_count(length_bytes: usize, segment_bytes_max: usize, max_burst_bytes: usize) -> u32 {
    let whole_bursts = length_bytes / max_burst_bytes;
    let rest_bytes = length_bytes % max_burst_bytes;
    (whole_bursts * max_burst_bytes.div_ceil(segment_bytes_max) + rest_bytes.div_ceil(segment_bytes_max))
        as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(read: bool, write: bool, expected_bytes: u32, bidirectional_read_bytes: u32) -> Task<()> {
        let mut task = Task::default();
        (task.read, task.write) = (read, write);
        (task.expected_bytes, task.bidirectional_read_bytes) = (expected_bytes, bidirectional_read_bytes);
        task
    }

    #[test]
    fn residuals_table() {
        const O: u8 = 0x04;
        const U: u8 = 0x02;
        // read, write, expected, data in, data out -> flags, count
        let table: [(bool, bool, u32, u64, u64, u8, u32); 16] = [
            (true, false, 512, 512, 0, 0, 0),
            (true, false, 0, 512, 0, O, 512),
            (true, false, 8192, 512, 0, U, 7680),
            (true, false, 200, 512, 0, O, 312),
            (true, false, 512, 0, 0, U, 512),
            (true, false, 0, 0, 0, 0, 0),
            (false, true, 512, 0, 512, 0, 0),
            (false, true, 0, 0, 512, O, 512),
            (false, true, 1024, 0, 512, U, 512),
            (false, true, 200, 0, 512, O, 312),
            // The command reads although it was announced as a write.
            (false, true, 512, 512, 0, U, 512),
            // And the other way round.
            (true, false, 512, 0, 512, U, 512),
            (false, false, 0, 0, 512, O, 512),
            (false, false, 0, 36, 0, O, 36),
            (false, false, 99, 0, 0, 0, 0),
            (true, false, 0, 1 << 40, 0, O, u32::MAX),
        ];
        for (read, write, expected, data_in, data_out, flags, count) in table {
            let residuals = Residuals::of(&task(read, write, expected, 0), data_in, data_out);
            assert_eq!(
                residuals,
                Residuals { flags, count, bidirectional_read_count: 0 },
                "read {read} write {write} expected {expected} in {data_in} out {data_out}"
            );
        }
    }

    #[test]
    fn bidirectional_residuals_are_two() {
        let residuals = Residuals::of(&task(true, true, 100, 50), 60, 90);
        assert_eq!(residuals, Residuals { flags: 0x02 | 0x10, count: 10, bidirectional_read_count: 10 });
        let residuals = Residuals::of(&task(true, true, 100, 50), 40, 110);
        assert_eq!(residuals, Residuals { flags: 0x04 | 0x08, count: 10, bidirectional_read_count: 10 });
    }

    #[test]
    fn the_number_of_data_in_pdus_is_known_before() {
        assert_eq!(data_in_count(4096, 8192, 65536), 1);
        assert_eq!(data_in_count(8193, 8192, 65536), 2);
        assert_eq!(data_in_count(100, 30, 50), 4, "a burst of 50 takes two PDUs");
        assert_eq!(data_in_count(110, 30, 50), 5);
    }
}
