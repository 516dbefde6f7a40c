//! What a host asks of the blocks.

use std::ops::Range;
use std::rc::Rc;

use initiator::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, opcode};
use initiator::scsi::{self, Cdb};

use super::session::{Burst, Session, Task};
use super::{Ctx, Host};
use crate::content;
use crate::history::{Kind, Op};
use crate::limits::{OVERLAP_MAX, TASK_PATIENCE};

const READ: u8 = 0x40;
const WRITE: u8 = 0x20;

/// A command before it has a tag.
struct Plan {
    op: Option<Op>,
    lun: u8,
    lba: u64,
    cdb: Cdb,
    data_out: Vec<u8>,
    wanted: usize,
    expected: usize,
}

impl Host {
    /// Sends one more command, if it finds one that it may send.
    pub(super) fn issue(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) -> bool {
        let Some(link) = self.any_link(session) else { return false };
        let Some(plan) = self.plan(ctx) else { return false };
        self.send_plan(ctx, session, link, plan);
        true
    }

    /// Sends the next of the reads at the end: what is there must be explained.
    pub(super) fn issue_final(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) -> bool {
        let Some(link) = self.any_link(session) else { return false };
        let Some(number) = self.final_reads.checked_sub(1) else { return false };
        self.final_reads = number;
        let (first, count) = ctx.options.hot;
        let lba = first + number % count;
        let plan = self.read_plan(ctx, (number / count) as u8, lba..lba + 1);
        self.send_plan(ctx, session, link, plan);
        true
    }

    fn send_plan(&mut self, ctx: &mut Ctx<'_>, session: &mut Session, link: usize, plan: Plan) {
        let id = plan.op.map(|op| ctx.begin(op));
        let (itt, now) = (self.take_itt(), ctx.world.now());
        ctx.log.note(now, format_args!("h{} op {id:?} itt {itt:x} cdb {:02x?}", self.id, plan.cdb));
        let immediate = self.chance(20);
        let attribute = [1, 1, 1, 1, 1, 1, 1, 2, 3, 0][self.below(10) as usize];
        let length = plan.data_out.len();
        let flags = attribute | if plan.expected > 0 { READ } else { 0 } | if length > 0 { WRITE } else { 0 };
        let mut pdu = Pdu::new(opcode::SCSI_COMMAND | if immediate { IMMEDIATE } else { 0 }, flags);
        pdu.set_lun(u64::from(plan.lun)).set_itt(itt);
        pdu.set_word(20, plan.expected.max(length) as u32);
        pdu.bhs[32..48].copy_from_slice(&plan.cdb);
        let data_out = Rc::new(plan.data_out);
        let asked = self.add_unasked(ctx, session, link, &mut pdu, &data_out);
        let task = Task {
            op: id,
            link,
            lun: plan.lun,
            cmd_sn: session.cmd_sn,
            immediate,
            lba: plan.lba,
            data_out,
            asked,
            data_in: Vec::new(),
            wanted: plan.wanted,
            expected: plan.expected,
            data_in_pdus: 0,
            r2ts: 0,
            sequence_bytes: 0,
            deadline: now.after(TASK_PATIENCE),
            sent_at: ctx.history.events.len(),
            aborting: false,
        };
        session.tasks.insert(itt, task);
        session.send(link, pdu, immediate);
    }

    /// Adds immediate data and plans unsolicited data as far as agreed; how much that is in all.
    fn add_unasked(
        &mut self,
        ctx: &Ctx<'_>,
        session: &mut Session,
        link: usize,
        pdu: &mut Pdu,
        data: &Rc<Vec<u8>>,
    ) -> usize {
        let first_burst = session.agreed.first_burst.min(data.len());
        let mut sent = 0;
        if session.agreed.immediate_data && self.chance(800) {
            let most = first_burst.min(session.links[link].send_bytes_max);
            sent = if self.chance(800) { most } else { self.below(most as u64 + 1) as usize };
            pdu.data = data[..sent].to_vec();
        }
        if session.agreed.initial_r2t || sent == first_burst || self.chance(300) {
            pdu.bhs[1] |= FINAL;
            return sent;
        }
        let (itt, lun) = (pdu.itt(), pdu.bhs[9]);
        let (not_before, data) = (self.hold(ctx), Rc::clone(data));
        let burst = Burst { itt, ttt: NO_TAG, lun, range: sent..first_burst, data_sn: 0, not_before, data };
        session.links[link].bursts.push(burst);
        first_burst
    }

    fn plan(&mut self, ctx: &Ctx<'_>) -> Option<Plan> {
        let lun = self.below(u64::from(ctx.options.luns)) as u8;
        match self.below(100) {
            0..40 => self.plan_read(ctx, lun),
            40..76 => self.plan_write(ctx, lun),
            76..84 => Some(self.plan_flush(lun)),
            84..89 => self.plan_unmap(ctx, lun),
            89..93 => self.plan_write_same(ctx, lun),
            93..98 => self.plan_compare(ctx, lun),
            _ => Some(plain(lun, scsi::test_unit_ready())),
        }
    }

    /// Blocks, few enough of whose writes are open.
    fn blocks(&mut self, ctx: &Ctx<'_>, lun: u8, most: u64, changes: bool) -> Option<Range<u64>> {
        let (first, count) = ctx.options.hot;
        let start = first + self.below(count);
        let length = 1 + self.below(most.min(first + count - start));
        let per_block = ctx.options.block_sectors();
        let open = ctx.history.open_writes(ctx.open, lun, start * per_block, length * per_block);
        (!changes || open < OVERLAP_MAX).then_some(start..start + length)
    }

    fn op(&self, ctx: &Ctx<'_>, lun: u8, blocks: &Range<u64>, kind: Kind) -> Op {
        let per_block = ctx.options.block_sectors();
        let (sector, sectors) = (blocks.start * per_block, (blocks.end - blocks.start) * per_block);
        Op { host: self.id, lun, sector, sectors, kind, seen: Vec::new(), outcome: None }
    }

    fn plan_read(&mut self, ctx: &Ctx<'_>, lun: u8) -> Option<Plan> {
        let blocks = self.blocks(ctx, lun, ctx.options.length_blocks_max, false)?;
        Some(self.read_plan(ctx, lun, blocks))
    }

    fn read_plan(&mut self, ctx: &Ctx<'_>, lun: u8, blocks: Range<u64>) -> Plan {
        let length = (blocks.end - blocks.start) as u32;
        let wanted = (length * ctx.options.block_bytes) as usize;
        let expected = wanted + if self.chance(50) { 1 + self.below(5000) as usize } else { 0 };
        let mut cdb = scsi::read_16(blocks.start, length);
        cdb[1] = if self.chance(100) { 0x08 } else { 0 };
        let op = self.op(ctx, lun, &blocks, Kind::Read);
        Plan { op: Some(op), lba: blocks.start, wanted, expected, ..plain(lun, cdb) }
    }

    fn plan_write(&mut self, ctx: &Ctx<'_>, lun: u8) -> Option<Plan> {
        let blocks = self.blocks(ctx, lun, ctx.options.length_blocks_max, true)?;
        let fua = self.chance(150);
        let length = (blocks.end - blocks.start) as u32;
        let op = self.op(ctx, lun, &blocks, Kind::Write { fua });
        let mut data_out = vec![0; (length * ctx.options.block_bytes) as usize];
        content::fill(&mut data_out, ctx.history.next_id(), lun, op.sector);
        let cdb = if fua { scsi::write_16_fua } else { scsi::write_16 }(blocks.start, length);
        Some(Plan { op: Some(op), lba: blocks.start, data_out, ..plain(lun, cdb) })
    }

    fn plan_flush(&mut self, lun: u8) -> Plan {
        let kind = Kind::Flush;
        let op = Op { host: self.id, lun, sector: 0, sectors: 0, kind, seen: Vec::new(), outcome: None };
        Plan { op: Some(op), ..plain(lun, scsi::synchronize_cache_16()) }
    }

    fn plan_unmap(&mut self, ctx: &Ctx<'_>, lun: u8) -> Option<Plan> {
        if ctx.options.disk.no_holes && ctx.options.backing != crate::options::Backing::Memory {
            return None;
        }
        let blocks = self.blocks(ctx, lun, ctx.options.length_blocks_max, true)?;
        let data_out = scsi::unmap_list(&[(blocks.start, (blocks.end - blocks.start) as u32)]);
        let op = self.op(ctx, lun, &blocks, Kind::Zero);
        let cdb = scsi::unmap(data_out.len() as u16);
        Some(Plan { op: Some(op), lba: blocks.start, data_out, ..plain(lun, cdb) })
    }

    fn plan_write_same(&mut self, ctx: &Ctx<'_>, lun: u8) -> Option<Plan> {
        let blocks = self.blocks(ctx, lun, ctx.options.length_blocks_max, true)?;
        let zeros = self.chance(400);
        let kind = if zeros { Kind::Zero } else { Kind::Write { fua: false } };
        let op = self.op(ctx, lun, &blocks, kind);
        let mut data_out = vec![0; ctx.options.block_bytes as usize];
        if !zeros {
            content::fill_same(&mut data_out, ctx.history.next_id(), lun);
        }
        let mut cdb = scsi::write_16(blocks.start, (blocks.end - blocks.start) as u32);
        cdb[0] = 0x93;
        // The lba of no block: what is written is not what is remembered.
        Some(Plan { op: Some(op), lba: u64::MAX, data_out, ..plain(lun, cdb) })
    }

    fn plan_compare(&mut self, ctx: &Ctx<'_>, lun: u8) -> Option<Plan> {
        let blocks = self.blocks(ctx, lun, 1, true)?;
        let bytes = ctx.options.block_bytes as usize;
        let known = self.known.get(&(lun, blocks.start)).cloned().unwrap_or_else(|| vec![0; bytes]);
        let first = blocks.start * ctx.options.block_sectors();
        let expected = content::values(&known, lun, first, ctx.options.block_bytes).ok()?;
        let op = self.op(ctx, lun, &blocks, Kind::CompareAndWrite { expected });
        let mut data_out = known;
        data_out.resize(2 * bytes, 0);
        content::fill(&mut data_out[bytes..], ctx.history.next_id(), lun, first);
        let cdb = scsi::compare_and_write(blocks.start, 1);
        Some(Plan { op: Some(op), lba: u64::MAX, data_out, ..plain(lun, cdb) })
    }

    /// Keeps what blocks were last known to hold.
    pub(super) fn remember(&mut self, ctx: &Ctx<'_>, lun: u8, lba: u64, data: &[u8]) {
        if lba != u64::MAX {
            for (lba, block) in (lba..).zip(data.chunks(ctx.options.block_bytes as usize)) {
                self.known.insert((lun, lba), block.to_vec());
            }
        }
    }
}

fn plain(lun: u8, cdb: Cdb) -> Plan {
    Plan { op: None, lun, lba: u64::MAX, cdb, data_out: Vec::new(), wanted: 0, expected: 0 }
}
