//! An initiator that follows the rules, with every choice left to a seed, against the session. Whatever is negotiated,
//! however the streams are cut: every command gets one answer, every byte is the right one, and nothing stays behind.

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use super::bench::*;
use crate::params::{DigestType, Negotiated};
use crate::pdu::*;
use crate::session::testing::{Chunks, TestHost};
use crate::session::*;

/// xorshift64*: the same seed gives the same numbers everywhere.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    /// 0..bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }
}

/// Data of a task: known from its number alone.
fn bytes_of(itt: u32, length: usize) -> Vec<u8> {
    (0..length as u32).map(|offset| (itt.wrapping_mul(31) ^ offset ^ (offset >> 8)) as u8).collect()
}

#[derive(Debug)]
enum Expected {
    Read { edtl: u32, got: Vec<u8> },
    Write { edtl: u32 },
    Ping { length: usize },
    Abort,
}

struct Model {
    random: Random,
    values: Negotiated,
    session: Session<Chunks>,
    host: TestHost,
    connections: Vec<ConnectionIndex>,
    /// Bytes on their way to the target and back, per connection.
    to_target: Vec<VecDeque<u8>>,
    from_target: Vec<Vec<u8>>,
    open: BTreeMap<u32, (usize, Expected)>,
    aborted: BTreeMap<u32, usize>,
    executing: Vec<Command<Chunks>>,
    next_itt: u32,
    cmd_sn: u32,
    max_cmd_sn: u32,
    last_given_out: u32,
    cmd_sn_of: BTreeMap<u32, u32>,
    answered: u32,
}

impl Model {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let values = random_values(&mut random);
        let window_commands = 1 + random.below(12) as u32;
        let config = SessionConfig { window_commands, ..SessionConfig::default() };
        let mut session = Session::new(config, Default::default(), &values, FIRST_CMD_SN);
        let count = 1 + random.below(3) as usize;
        let params = |cid| ConnectionParams { cid, stat_sn: FIRST_STAT_SN, negotiated: values.clone() };
        let connections =
            (0..count).map(|n| session.add_connection(&params(n as u16), 0).expect("room")).collect();
        let host = TestHost { chunk_bytes: 1 + random.below(3000) as usize, budget_bytes: usize::MAX };
        Self {
            random,
            values,
            session,
            host,
            connections,
            to_target: vec![VecDeque::new(); count],
            from_target: vec![Vec::new(); count],
            open: BTreeMap::new(),
            aborted: BTreeMap::new(),
            executing: Vec::new(),
            next_itt: 0,
            cmd_sn: FIRST_CMD_SN,
            max_cmd_sn: FIRST_CMD_SN.wrapping_add(window_commands - 1),
            last_given_out: FIRST_CMD_SN.wrapping_sub(1),
            cmd_sn_of: BTreeMap::new(),
            answered: 0,
        }
    }

    fn window_is_open(&self) -> bool {
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
    }

    fn put(&mut self, lane: usize, pdu: &Pdu) {
        let bytes = pdu.wire(self.values.header_digest.is_on(), self.values.data_digest.is_on());
        self.to_target[lane].extend(bytes);
    }

    /// One more request of some kind, if the window allows.
    fn ask(&mut self) {
        if !self.window_is_open() {
            return;
        }
        let lane = self.random.below(self.connections.len() as u64) as usize;
        let itt = self.next_itt;
        self.next_itt += 1;
        match self.random.below(10) {
            0 => {
                let length = self.random.below(513) as usize;
                let cmd_sn = self.take_cmd_sn();
                self.put(
                    lane,
                    &request(Opcode::NOP_OUT, F, itt, RESERVED_TAG, cmd_sn, &bytes_of(itt, length)),
                );
                self.open.insert(itt, (lane, Expected::Ping { length }));
            }
            1 => self.ask_abort(itt),
            2..=5 => {
                let edtl = self.random.below(20_000) as u32;
                let cmd_sn = self.take_cmd_sn();
                self.cmd_sn_of.insert(itt, cmd_sn);
                self.put(lane, &command(itt, cmd_sn, R | F, edtl, [0; 16], &[]));
                self.open.insert(itt, (lane, Expected::Read { edtl, got: Vec::new() }));
            }
            _ => self.ask_write(itt, lane),
        }
    }

    fn take_cmd_sn(&mut self) -> u32 {
        let cmd_sn = self.cmd_sn;
        self.cmd_sn = cmd_sn.wrapping_add(1);
        cmd_sn
    }

    fn ask_write(&mut self, itt: u32, lane: usize) {
        let edtl = 1 + self.random.below(30_000) as u32;
        let data = bytes_of(itt, edtl as usize);
        let first_burst = self.values.first_burst_length.min(edtl) as usize;
        let segment = self.values.our_max_recv_data_segment_length as usize;
        let most = if self.values.immediate_data { first_burst.min(segment) } else { 0 };
        let along = if self.random.coin() { most } else { self.random.below(most as u64 + 1) as usize };
        let unsolicited = !self.values.initial_r2t && self.random.coin() && along < first_burst;
        let cmd_sn = self.take_cmd_sn();
        self.cmd_sn_of.insert(itt, cmd_sn);
        let flags = if unsolicited { W } else { W | F };
        self.put(lane, &command(itt, cmd_sn, flags, edtl, TestHost::write_cdb(edtl), &data[..along]));
        if unsolicited {
            let mut at = along;
            let mut data_sn = 0;
            while at < first_burst {
                let piece = (1 + self.random.below(segment as u64) as usize).min(first_burst - at);
                let last = at + piece == first_burst;
                self.put(lane, &data_out(itt, RESERVED_TAG, data_sn, at as u32, &data[at..at + piece], last));
                at += piece;
                data_sn += 1;
            }
        }
        self.open.insert(itt, (lane, Expected::Write { edtl }));
    }

    fn ask_abort(&mut self, itt: u32) {
        let tasks = self
            .open
            .iter()
            .filter(|(_, (_, expected))| matches!(expected, Expected::Read { .. } | Expected::Write { .. }));
        let tasks: Vec<(u32, usize)> = tasks.map(|(tag, (lane, _))| (*tag, *lane)).collect();
        if tasks.is_empty() {
            return;
        }
        let (tag, lane) = tasks[self.random.below(tasks.len() as u64) as usize];
        self.put(lane, &management(TmfFunction::ABORT_TASK, itt, tag, self.cmd_sn, self.cmd_sn_of[&tag]));
        self.open.insert(itt, (lane, Expected::Abort));
        self.aborted.insert(itt, tag as usize);
    }

    /// Moves some bytes to the target, now and then straight into a buffer.
    fn deliver(&mut self) {
        let lane = self.random.below(self.connections.len() as u64) as usize;
        let connection = self.connections[lane];
        let most = [7, 48, 1500, 9000, 100_000, 100_000][self.random.below(6) as usize];
        let take = most.min(self.to_target[lane].len());
        let mut bytes: Vec<u8> = self.to_target[lane].drain(..take).collect();
        if self.random.coin()
            && let Some(destination) = self.session.payload_destination(connection)
        {
            let direct = destination.len().min(bytes.len());
            destination[..direct].copy_from_slice(&bytes[..direct]);
            self.session.payload_received(connection, 0, direct);
            bytes.drain(..direct);
        }
        let consumed =
            self.session.handle_bytes(connection, 0, &bytes, &mut self.host).expect("no rule is broken");
        assert_eq!(consumed, bytes.len());
    }

    fn work(&mut self) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Command(command) => self.on_command(command),
                Event::TaskManagement(request) => {
                    if let Some(task) = request.referenced {
                        assert!(self.session.abort_task(task));
                        self.executing.retain(|command| command.task != task);
                    }
                    assert!(self.session.complete_task_management(request.id, TmfResponse::COMPLETE));
                }
                other => panic!("{other:?}"),
            }
        }
        while !self.executing.is_empty() && self.random.below(3) != 0 {
            let index = self.random.below(self.executing.len() as u64) as usize;
            let command = self.executing.remove(index);
            self.finish(command);
        }
    }

    fn on_command(&mut self, command: Command<Chunks>) {
        let itt = u32::from_be_bytes(self.itt_of(&command).to_be_bytes());
        let cmd_sn = self.cmd_sn_of[&itt];
        let ahead = cmd_sn.wrapping_sub(self.last_given_out);
        assert!(ahead > 0 && ahead < 1 << 31, "in the order of CmdSN");
        self.last_given_out = cmd_sn;
        if let Some(data) = &command.data_out {
            assert_eq!(data.bytes(), bytes_of(itt, data.bytes().len()), "task {itt}");
        }
        self.executing.push(command);
    }

    fn itt_of(&self, command: &Command<Chunks>) -> u32 {
        self.session.tasks.get(command.task).expect("just given out").itt
    }

    fn finish(&mut self, command: Command<Chunks>) {
        let itt = self.itt_of(&command);
        if command.write {
            assert!(self.session.complete(command.task, Completion::good(command.data_out_wanted)));
            return;
        }
        // Sometimes less than expected, sometimes more.
        let edtl = command.expected_data_transfer_length;
        let length = match self.random.below(4) {
            0 => self.random.below(u64::from(edtl) + 1) as usize,
            1 => edtl as usize + 5,
            _ => edtl as usize,
        };
        let chunk_bytes = 1 + self.random.below(5000) as usize;
        let completion = Completion {
            data_in: Some(Chunks::of(&bytes_of(itt, length), chunk_bytes)),
            data_in_length: length as u64,
            ..Completion::good(0)
        };
        assert!(self.session.complete(command.task, completion));
    }

    /// Takes some of what the target sends and acts on whole PDUs.
    fn take(&mut self) {
        let lane = self.random.below(self.connections.len() as u64) as usize;
        let connection = self.connections[lane];
        let most = [11, 1000, 100_000, 100_000][self.random.below(4) as usize];
        let mut slices = [IoSlice::new(&[]); 5];
        let filled = self.session.tx_slices(connection, &mut slices);
        let shown = slices[..filled].iter().flat_map(|slice| slice.iter().copied());
        let taken: Vec<u8> = shown.take(most).collect();
        self.session.tx_advance(connection, taken.len());
        self.from_target[lane].extend(taken);
        let (header_digest, data_digest) =
            (self.values.header_digest.is_on(), self.values.data_digest.is_on());
        while let Some((bhs, _)) = Bhs::from_prefix(&self.from_target[lane]) {
            let total = bhs.layout(header_digest, data_digest).total_bytes;
            if self.from_target[lane].len() < total {
                return;
            }
            let bytes: Vec<u8> = self.from_target[lane].drain(..total).collect();
            for pdu in Pdu::parse_all(&bytes, header_digest, data_digest) {
                self.on_pdu(lane, &pdu);
            }
        }
    }

    fn on_pdu(&mut self, lane: usize, pdu: &Pdu) {
        let header: DataIn = pdu.header();
        let ahead = header.max_cmd_sn.get().wrapping_sub(self.max_cmd_sn);
        if ahead < 1 << 31 {
            self.max_cmd_sn = header.max_cmd_sn.get();
        }
        let itt = header.itt.get();
        match pdu.opcode() {
            Opcode::R2T => self.on_r2t(lane, pdu),
            Opcode::DATA_IN => self.on_data_in(lane, itt, &header, &pdu.data),
            Opcode::SCSI_RESPONSE => {
                let response: ScsiResponse = pdu.header();
                self.end(lane, itt, u64::from(response.residual.get()), response.flags);
            }
            Opcode::NOP_IN if itt == RESERVED_TAG => {}
            Opcode::NOP_IN => {
                let Some((_, Expected::Ping { length })) = self.open.remove(&itt) else { panic!("a ping") };
                let echoed = length.min(self.values.their_max_recv_data_segment_length as usize);
                assert_eq!(pdu.data, bytes_of(itt, length)[..echoed]);
                self.answered += 1;
            }
            Opcode::TMF_RESPONSE => {
                let tag = self.aborted.remove(&itt).expect("an abort of ours") as u32;
                let response = pdu.header::<TmfResponsePdu>().response;
                assert!(matches!(response, TmfResponse::COMPLETE | TmfResponse::TASK_DOES_NOT_EXIST));
                self.open.remove(&itt);
                // No answer to the task comes any more.
                self.open.remove(&tag);
                self.answered += 1;
            }
            other => panic!("{other:?}"),
        }
    }

    fn on_r2t(&mut self, lane: usize, pdu: &Pdu) {
        let r2t: R2t = pdu.header();
        let itt = r2t.itt.get();
        let Some((_, Expected::Write { edtl })) = self.open.get(&itt) else { return };
        assert!(r2t.desired_length_bytes.get() <= self.values.max_burst_length);
        let data = bytes_of(itt, *edtl as usize);
        let segment = 1 + self.random.below(u64::from(self.values.our_max_recv_data_segment_length)) as usize;
        for pdu in answer(&r2t, &data, segment.max(100)) {
            self.put(lane, &pdu);
        }
    }

    fn on_data_in(&mut self, lane: usize, itt: u32, header: &DataIn, data: &[u8]) {
        assert!(data.len() <= self.values.their_max_recv_data_segment_length as usize);
        let Some((_, Expected::Read { got, .. })) = self.open.get_mut(&itt) else { panic!("a read, {itt}") };
        assert_eq!(header.buffer_offset_bytes.get() as usize, got.len());
        got.extend(data);
        if header.flags & DataIn::STATUS != 0 {
            self.end(lane, itt, u64::from(header.residual.get()), header.flags);
        }
    }

    fn end(&mut self, lane: usize, itt: u32, residual: u64, flags: u8) {
        let (asked_on, expected) = self.open.remove(&itt).unwrap_or_else(|| panic!("{itt} is answered once"));
        assert_eq!(asked_on, lane, "on the connection of the command");
        self.answered += 1;
        match expected {
            Expected::Read { edtl, got } => {
                assert_eq!(got, bytes_of(itt, got.len()), "task {itt}");
                let underflow = if flags & DataIn::RESIDUAL_UNDERFLOW != 0 { residual } else { 0 };
                assert_eq!(got.len() as u64 + underflow, u64::from(edtl));
            }
            Expected::Write { .. } => assert_eq!(flags, F),
            other => panic!("{other:?}"),
        }
    }
}

fn random_values(random: &mut Random) -> Negotiated {
    let digest = |on| if on { DigestType::Crc32c } else { DigestType::None };
    let max_burst_length = 512 << random.below(6);
    Negotiated {
        header_digest: digest(random.coin()),
        data_digest: digest(random.coin()),
        our_max_recv_data_segment_length: 512 << random.below(5),
        their_max_recv_data_segment_length: 512 << random.below(5),
        max_burst_length,
        first_burst_length: (512 << random.below(6)).min(max_burst_length),
        initial_r2t: random.coin(),
        immediate_data: random.coin(),
        max_connections: 3,
        max_outstanding_r2t: 1 + random.below(4) as u16,
        ..Negotiated::default()
    }
}

#[test]
fn an_initiator_that_follows_the_rules_is_always_served() {
    for seed in 0..100 {
        let mut model = Model::new(seed);
        let mut steps = 0;
        while model.next_itt < 60 || !model.open.is_empty() {
            match model.random.below(8) {
                0 if model.next_itt < 60 => model.ask(),
                0..=3 => model.deliver(),
                4 => model.work(),
                _ => model.take(),
            }
            steps += 1;
            assert!(steps < 400_000, "seed {seed} hangs: {:?}", model.open);
        }
        assert!(model.answered >= 30, "seed {seed}");
        // What was aborted may still be executing or on its way; the session forgets it all.
        let left: Vec<ConnectionIndex> = model.connections.clone();
        left.into_iter().for_each(|connection| model.session.remove_connection(connection));
        assert_eq!(model.session.task_count(), 0, "seed {seed}");
        assert_eq!(model.session.counters().rejects, 0, "seed {seed}");
    }
}
