//! What a host keeps about one session: its connections, its commands in flight, its numbers.

use std::collections::BTreeMap;
use std::rc::Rc;

use initiator::pdu::{FINAL, NO_TAG, Pdu, opcode};
use reactor::time::Time;

use super::wire::Wire;
use crate::history::OpId;

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Security negotiation was asked for.
    Security,
    /// Operational negotiation was asked for.
    Operational,
    /// Full feature phase.
    Full,
}

/// Data-Out that is to be sent.
#[derive(Clone, Debug)]
pub struct Burst {
    /// The task's tag.
    pub itt: u32,
    /// The target's tag, or [`NO_TAG`] for unsolicited data.
    pub ttt: u32,
    /// The unit.
    pub lun: u8,
    /// What is next to be sent, and where the burst ends.
    pub range: std::ops::Range<usize>,
    /// The next DataSN.
    pub data_sn: u32,
    /// Not sent before.
    pub not_before: Time,
    /// The data of the whole command.
    pub data: Rc<Vec<u8>>,
}

/// One connection.
#[derive(Debug)]
pub struct Link {
    /// Its bytes.
    pub wire: Wire,
    /// Its connection id.
    pub cid: u16,
    /// How far it has come.
    pub stage: Stage,
    /// The StatSN that the next response must have.
    pub stat_sn: Option<u32>,
    /// MaxRecvDataSegmentLength of the target.
    pub send_bytes_max: usize,
    /// Data-Out to be sent.
    pub bursts: Vec<Burst>,
    /// A login that is not done by then is a violation.
    pub deadline: Time,
}

/// A command in flight.
pub struct Task {
    /// Its operation; commands that touch no block have none.
    pub op: Option<OpId>,
    /// Index of its connection.
    pub link: usize,
    /// The unit.
    pub lun: u8,
    /// Its CmdSN.
    pub cmd_sn: u32,
    /// It was sent for immediate delivery.
    pub immediate: bool,
    /// First block.
    pub lba: u64,
    /// Data to the target.
    pub data_out: Rc<Vec<u8>>,
    /// How much of it was sent or asked for.
    pub asked: usize,
    /// Data that came, how much the command asks for, and how much was announced as expected.
    pub data_in: Vec<u8>,
    /// See `data_in`.
    pub wanted: usize,
    /// See `data_in`.
    pub expected: usize,
    /// Data-In PDUs and R2Ts that came.
    pub data_in_pdus: u32,
    /// See `data_in_pdus`.
    pub r2ts: u32,
    /// Bytes of the Data-In sequence in progress.
    pub sequence_bytes: usize,
    /// An answer must have come by then.
    pub deadline: Time,
    /// Its place in the history when it was sent.
    pub sent_at: usize,
    /// It is being aborted.
    pub aborting: bool,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { op, link, lun, cmd_sn, immediate, asked, r2ts, data_in_pdus, .. } = self;
        write!(
            f,
            "operation {op:?} on connection {link}, unit {lun}, CmdSN {cmd_sn}, immediate {immediate}; "
        )?;
        write!(f, "{asked} bytes sent or asked for, {r2ts} R2Ts, {data_in_pdus} Data-In PDUs")
    }
}

/// A request beside the commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// ABORT TASK.
    AbortTask {
        /// The task's tag.
        itt: u32,
    },
    /// ABORT TASK SET, CLEAR TASK SET or LOGICAL UNIT RESET.
    EndTasks {
        /// The function.
        function: u8,
        /// The unit.
        lun: u8,
        /// The tasks that are meant.
        meant: Vec<u32>,
    },
    /// Logout of the session.
    Logout,
    /// A ping with this data.
    Ping(Vec<u8>),
}

/// A request in flight.
#[derive(Debug)]
pub struct Asked {
    /// What.
    pub request: Request,
    /// On which connection.
    pub link: usize,
    /// Answered by then, or a violation.
    pub deadline: Time,
}

/// What login agreed on for the session.
#[derive(Clone, Debug)]
pub struct Agreed {
    /// InitialR2T.
    pub initial_r2t: bool,
    /// ImmediateData.
    pub immediate_data: bool,
    /// MaxBurstLength.
    pub burst: usize,
    /// FirstBurstLength.
    pub first_burst: usize,
    /// MaxOutstandingR2T.
    pub outstanding_r2t: usize,
    /// MaxConnections.
    pub connections: usize,
}

/// One session.
#[derive(Debug)]
pub struct Session {
    /// Its connections.
    pub links: Vec<Link>,
    /// Its handle, once the leading login is done.
    pub tsih: u16,
    /// The next CmdSN.
    pub cmd_sn: u32,
    /// The window.
    pub exp_cmd_sn: u32,
    /// See `exp_cmd_sn`.
    pub max_cmd_sn: u32,
    /// Commands in flight.
    pub tasks: BTreeMap<u32, Task>,
    /// Other requests in flight.
    pub asked: BTreeMap<u32, Asked>,
    /// Tasks that ended without an answer, by a function on that connection.
    pub fenced: BTreeMap<u32, (Option<OpId>, usize, usize)>,
    /// What was agreed.
    pub agreed: Agreed,
    /// Everything that was in flight has ended; an answer that was on its way says nothing new.
    pub ended: bool,
    /// When a new session took its place.
    pub replaced_at: Option<Time>,
}

impl Session {
    /// A session that begins with `link`.
    pub fn new(link: Link, cmd_sn: u32) -> Self {
        let agreed = Agreed {
            initial_r2t: true,
            immediate_data: true,
            burst: 262_144,
            first_burst: 65_536,
            outstanding_r2t: 1,
            connections: 1,
        };
        Self {
            links: vec![link],
            tsih: 0,
            cmd_sn,
            exp_cmd_sn: cmd_sn,
            max_cmd_sn: cmd_sn.wrapping_sub(1),
            tasks: BTreeMap::new(),
            asked: BTreeMap::new(),
            fenced: BTreeMap::new(),
            agreed,
            ended: false,
            replaced_at: None,
        }
    }

    /// Indices of the connections in full feature phase.
    pub fn full_links(&self) -> Vec<usize> {
        (0..self.links.len()).filter(|&at| self.links[at].stage == Stage::Full).collect()
    }

    /// True while a logout is not answered.
    pub fn is_logging_out(&self) -> bool {
        self.asked.values().any(|asked| asked.request == Request::Logout)
    }

    /// True when a connection is gone that should not be.
    pub fn is_lost(&self) -> bool {
        // Around the answer to a logout the target closes one after the other.
        let logout = self.asked.values().find(|asked| asked.request == Request::Logout);
        match logout {
            Some(asked) => self.links[asked.link].wire.is_over(),
            None => self.links.iter().any(|link| link.wire.is_over()),
        }
    }

    /// True while the window takes another command.
    pub fn window_open(&self) -> bool {
        self.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
    }

    /// Sends `pdu` on `link` with CmdSN and ExpStatSN filled in; CmdSN is taken unless it is immediate.
    pub fn send(&mut self, link: usize, mut pdu: Pdu, immediate: bool) {
        let stat_sn = self.links[link].stat_sn.unwrap_or(0);
        pdu.set_word(24, self.cmd_sn).set_word(28, stat_sn);
        if !immediate {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        self.links[link].wire.send(&pdu);
    }

    /// True when `cmd_sn` is before `limit`.
    pub fn before(cmd_sn: u32, limit: u32) -> bool {
        (cmd_sn.wrapping_sub(limit) as i32) < 0
    }

    /// Sends one Data-Out PDU of `link`: of which burst, and how long, is up to `below`.
    pub fn send_data_out(&mut self, link: usize, now: Time, below: &mut dyn FnMut(u64) -> u64) -> bool {
        let link = &mut self.links[link];
        if link.bursts.is_empty() || link.wire.queued_bytes() > 64 << 10 {
            return false;
        }
        let mut unsolicited_seen = false;
        let mut eligible = Vec::new();
        for (at, burst) in link.bursts.iter().enumerate() {
            // Bursts of one task, and unsolicited ones of all tasks, are sent in order.
            let first = if burst.ttt == NO_TAG {
                !std::mem::replace(&mut unsolicited_seen, true)
            } else {
                !link.bursts[..at].iter().any(|other| other.itt == burst.itt)
            };
            if first && burst.not_before <= now {
                eligible.push(at);
            }
        }
        if eligible.is_empty() {
            return false;
        }
        let at = eligible[below(eligible.len() as u64) as usize];
        let burst = &mut link.bursts[at];
        let most = burst.range.len().min(link.send_bytes_max);
        let length = if below(4) == 0 { 1 + below(most as u64) as usize } else { most };
        let from = burst.range.start;
        burst.range.start += length;
        let done = burst.range.is_empty();
        let mut pdu = Pdu::new(opcode::DATA_OUT, if done { FINAL } else { 0 });
        pdu.set_lun(u64::from(burst.lun)).set_itt(burst.itt);
        pdu.set_word(20, burst.ttt).set_word(28, link.stat_sn.unwrap_or(0));
        pdu.set_word(36, burst.data_sn).set_word(40, from as u32);
        pdu.data = burst.data[from..from + length].to_vec();
        burst.data_sn += 1;
        if done {
            link.bursts.remove(at);
        }
        link.wire.send(&pdu);
        true
    }
}
