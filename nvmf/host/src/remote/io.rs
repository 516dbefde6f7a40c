//! I/Os in, answers out: cutting what is longer than one command, and putting it together again.

use nvme_spec::NvmOpcode;
use nvme_spec::nvm::IoControl;
use reactor::buffer::Sgl;
use volume::bdev::{Done, Extent, Io, IoStatus, Op};

use super::Remote;
use super::table::{Command, Owner};
use crate::command::{Kind, blocks_max, command, plan};
use crate::limits::{BACKLOG_ROOM, PIECES_IN_FLIGHT_MAX, TRANSFER_BYTES};

/// An I/O that is more than one command.
#[derive(Debug)]
pub(super) struct LongIo {
    tag: u64,
    kind: Kind,
    opcode: NvmOpcode,
    control: IoControl,
    /// What was not started yet (without data only; data is started at once).
    rest: Extent,
    /// Commands that are not over.
    open: u32,
    /// The first failure, by place.
    status: IoStatus,
    /// Buffers of the pieces that are over, in their places.
    pieces: Vec<Sgl>,
}

impl Remote {
    /// Takes an I/O; the answer at once when there is nothing to do.
    pub(crate) fn submit(&mut self, io: Io) -> Option<Done> {
        if let Some(status) = self.answer_at_once(&io.op) {
            return Some(Done { tag: io.tag, status, sgl: io.sgl });
        }
        self.in_flight += 1;
        if self.backlog.is_empty() && self.table.room() >= BACKLOG_ROOM {
            self.start(io);
        } else {
            self.backlog.push_back(io);
        }
        None
    }

    fn answer_at_once(&self, op: &Op) -> Option<IoStatus> {
        if self.closing {
            return Some(IoStatus::Gone);
        }
        match *op {
            // Which blocks are allocated is not asked of the controller: all are said to be.
            Op::BlockStatus(extent) => {
                Some(IoStatus::Mapped { mapped: true, length_blocks: extent.length_blocks })
            }
            Op::OrWrite { .. } => panic!("the channel says that it does not answer this operation"),
            _ => op.extent().is_some_and(|extent| extent.length_blocks == 0).then_some(IoStatus::Good),
        }
    }

    fn start(&mut self, io: Io) {
        let (kind, opcode, control) = plan(&io.op, self.deallocates).expect("answered at once");
        let extent = io.op.extent().unwrap_or(Extent { lba: 0, length_blocks: 0 });
        let block_bytes = self.info.map_or(512, |info| info.logical_block_bytes);
        // Every controller that is taken allows so much.
        let limit = blocks_max(TRANSFER_BYTES, block_bytes, kind);
        if extent.length_blocks <= limit {
            let sqe = command(opcode, self.config.nsid, extent, control);
            let owner = Owner::Whole { tag: io.tag };
            let index = self.table.insert(Command::new(sqe, kind, owner, io.sgl));
            return self.dispatch(index);
        }
        assert!(kind != Kind::CompareAndWrite, "no longer one is said to be answered");
        let long = LongIo {
            tag: io.tag,
            kind,
            opcode,
            control,
            rest: extent,
            open: 0,
            status: IoStatus::Good,
            pieces: Vec::new(),
        };
        let key = self.long.iter().position(Option::is_none).unwrap_or_else(|| {
            self.long.push(None);
            self.long.len() - 1
        });
        self.long[key] = Some(long);
        if kind == Kind::Zero {
            self.start_zero_pieces(key as u32);
        } else {
            self.start_data_pieces(key as u32, io.sgl, block_bytes);
        }
    }

    fn long(&mut self, key: u32) -> &mut LongIo {
        self.long[key as usize].as_mut().expect("a long I/O lives until its last piece is over")
    }

    /// Starts as many commands without data as may be in flight at once.
    fn start_zero_pieces(&mut self, key: u32) {
        let nsid = self.config.nsid;
        while self.table.room() > 0 {
            let long = self.long(key);
            if long.open == PIECES_IN_FLIGHT_MAX
                || long.rest.length_blocks == 0
                || long.status != IoStatus::Good
            {
                break;
            }
            let piece = take_blocks(&mut long.rest, blocks_max(0, 1, Kind::Zero));
            long.open += 1;
            let sqe = command(long.opcode, nsid, piece, long.control);
            let owner = Owner::Piece { long: key, index: 0 };
            let index = self.table.insert(Command::new(sqe, Kind::Zero, owner, Sgl::empty()));
            self.dispatch(index);
        }
    }

    /// Cuts the data between its buffers and starts all of it.
    fn start_data_pieces(&mut self, key: u32, mut sgl: Sgl, block_bytes: u32) {
        let mut indexes = Vec::new();
        while !sgl.is_empty() {
            let front = sgl.take_front(TRANSFER_BYTES as usize);
            assert!(!front.is_empty(), "no buffer is longer than a transfer");
            let piece_blocks = front.len() as u64 / u64::from(block_bytes);
            let nsid = self.config.nsid;
            let long = self.long(key);
            let index = long.pieces.len() as u32;
            long.pieces.push(Sgl::empty());
            long.open += 1;
            let piece = take_blocks(&mut long.rest, piece_blocks);
            let sqe = command(long.opcode, nsid, piece, long.control);
            let (kind, owner) = (long.kind, Owner::Piece { long: key, index });
            indexes.push(self.table.insert(Command::new(sqe, kind, owner, front)));
        }
        for index in indexes {
            self.dispatch(index);
        }
    }

    /// A command is over.
    pub(super) fn finish_command(&mut self, index: u32, status: IoStatus, sgl: Sgl) {
        let command = self.table.remove(index);
        match command.owner {
            Owner::Whole { tag } => self.finish_io(tag, status, sgl),
            Owner::Piece { long, index } => self.finish_piece(long, index, status, sgl),
        }
        while !self.backlog.is_empty() && self.table.room() >= BACKLOG_ROOM {
            let io = self.backlog.pop_front().expect("it is not empty");
            self.start(io);
        }
    }

    fn finish_piece(&mut self, key: u32, index: u32, status: IoStatus, sgl: Sgl) {
        let long = self.long(key);
        long.open -= 1;
        if !status.is_good() && is_before(status, long.status) {
            long.status = status;
        }
        if let Some(piece) = long.pieces.get_mut(index as usize) {
            *piece = sgl;
        }
        if long.kind == Kind::Zero {
            self.start_zero_pieces(key);
        }
        let long = self.long(key);
        let is_stuck = long.open == 0 && (long.rest.length_blocks == 0 || long.status != IoStatus::Good);
        if is_stuck {
            let long = self.long[key as usize].take().expect("looked at above");
            let join = |mut all: Sgl, piece: Sgl| {
                all.append(piece);
                all
            };
            let sgl = long.pieces.into_iter().fold(Sgl::empty(), join);
            self.finish_io(long.tag, long.status, sgl);
        }
    }
}

/// Takes at most `blocks` off the front.
fn take_blocks(rest: &mut Extent, blocks: u64) -> Extent {
    let piece = Extent { lba: rest.lba, length_blocks: rest.length_blocks.min(blocks) };
    *rest = Extent { lba: piece.end(), length_blocks: rest.length_blocks - piece.length_blocks };
    piece
}

/// Of two failures the one at the lower block is told.
fn is_before(status: IoStatus, other: IoStatus) -> bool {
    let lba = |status| match status {
        IoStatus::ReadError { lba } | IoStatus::WriteError { lba } => Some(lba),
        IoStatus::Good => None,
        _ => Some(0),
    };
    lba(other).is_none_or(|other| lba(status).is_some_and(|lba| lba < other))
}
