//! What comes from the target in full feature phase, and whether it may.

use std::rc::Rc;

use initiator::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, opcode};
use initiator::scsi::{Sense, parse_sense, status};
use reactor::time::Time;

use super::session::{Burst, Request, Session};
use super::{Ctx, Host};
use crate::Violation;
use crate::content;
use crate::history::{Kind, Outcome};

fn violation(rule: &'static str, pdu: &Pdu) -> Violation {
    Violation::new(rule, format!("{:02x?}", pdu.bhs))
}

fn check(holds: bool, rule: &'static str, pdu: &Pdu) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(violation(rule, pdu)) }
}

impl Host {
    /// A PDU has come on connection `at`.
    pub(super) fn on_pdu(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        at: usize,
        pdu: &Pdu,
    ) -> Result<(), Violation> {
        self.check_numbers(session, at, pdu)?;
        match pdu.opcode() {
            opcode::SCSI_RESPONSE => self.on_response(ctx, session, at, pdu),
            opcode::DATA_IN => self.on_data_in(ctx, session, at, pdu),
            opcode::R2T => self.on_r2t(ctx, session, at, pdu),
            opcode::TASK_MANAGEMENT_RESPONSE => self.on_management(ctx, session, at, pdu),
            opcode::NOP_IN => on_nop_in(session, at, pdu),
            opcode::LOGOUT_RESPONSE => self.on_logout(ctx, session, pdu),
            // The target closes by itself soon.
            opcode::ASYNC_MESSAGE => Ok(()),
            _ => Err(violation("nothing is rejected, and only targets' opcodes come", pdu)),
        }
    }

    fn check_numbers(&self, session: &mut Session, at: usize, pdu: &Pdu) -> Result<(), Violation> {
        let status_follows = pdu.opcode() == opcode::DATA_IN && pdu.bhs[1] & 1 == 0;
        let link = &mut session.links[at];
        let stat_sn = link.stat_sn.expect("set by the login");
        if !status_follows {
            check(pdu.word(24) == stat_sn, "StatSN is contiguous", pdu)?;
            let takes_none =
                pdu.opcode() == opcode::R2T || pdu.opcode() == opcode::NOP_IN && pdu.itt() == NO_TAG;
            link.stat_sn = Some(stat_sn.wrapping_add(u32::from(!takes_none)));
        }
        let (exp, max) = (pdu.word(28), pdu.word(32));
        if Session::before(session.exp_cmd_sn, exp) {
            session.exp_cmd_sn = exp;
        }
        check(!Session::before(session.cmd_sn, exp), "ExpCmdSN follows what was sent", pdu)?;
        if Session::before(session.max_cmd_sn, max) {
            session.max_cmd_sn = max;
        }
        Ok(())
    }

    fn on_r2t(
        &mut self,
        ctx: &Ctx<'_>,
        session: &mut Session,
        at: usize,
        pdu: &Pdu,
    ) -> Result<(), Violation> {
        let (itt, ttt) = (pdu.itt(), pdu.word(20));
        let (sn, offset, length) = (pdu.word(36), pdu.word(40) as usize, pdu.word(44) as usize);
        let agreed = &session.agreed;
        let Some(task) = session.tasks.get_mut(&itt) else {
            return self.check_fenced(session, at, pdu);
        };
        let open = session.links[at].bursts.iter().filter(|b| b.itt == itt && b.ttt != NO_TAG).count();
        check(task.link == at, "a task stays on its connection", pdu)?;
        check(ttt != NO_TAG && sn == task.r2ts, "R2Ts are numbered", pdu)?;
        check(offset == task.asked, "R2Ts ask for data in order, each byte once", pdu)?;
        check(length > 0 && length <= agreed.burst, "an R2T asks for no more than MaxBurstLength", pdu)?;
        check(offset + length <= task.data_out.len(), "an R2T asks for data that there is", pdu)?;
        check(open < agreed.outstanding_r2t, "no more R2Ts than agreed are open", pdu)?;
        task.r2ts += 1;
        task.asked = offset + length;
        let burst = Burst {
            itt,
            ttt,
            lun: task.lun,
            range: offset..offset + length,
            data_sn: 0,
            not_before: Time::ZERO,
            data: Rc::clone(&task.data_out),
        };
        let not_before = self.hold(ctx);
        session.links[at].bursts.push(Burst { not_before, ..burst });
        Ok(())
    }

    fn on_data_in(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        at: usize,
        pdu: &Pdu,
    ) -> Result<(), Violation> {
        let (receive_max, _, _) = ctx.options.lengths;
        let burst = session.agreed.burst;
        let Some(task) = session.tasks.get_mut(&pdu.itt()) else {
            return self.check_fenced(session, at, pdu);
        };
        check(task.link == at, "a task stays on its connection", pdu)?;
        check(pdu.word(36) == task.data_in_pdus, "Data-In PDUs are numbered", pdu)?;
        check(pdu.word(40) as usize == task.data_in.len(), "data comes in order", pdu)?;
        check(pdu.data.len() <= receive_max as usize, "a data segment is no longer than we take", pdu)?;
        task.data_in.extend_from_slice(&pdu.data);
        check(task.data_in.len() <= task.expected, "no more data comes than was expected", pdu)?;
        task.data_in_pdus += 1;
        task.sequence_bytes += pdu.data.len();
        check(task.sequence_bytes <= burst, "a sequence is no longer than MaxBurstLength", pdu)?;
        if pdu.bhs[1] & FINAL != 0 {
            task.sequence_bytes = 0;
        }
        if pdu.bhs[1] & 1 != 0 {
            check(pdu.bhs[1] & FINAL != 0, "the PDU with the status is the last", pdu)?;
            self.finish_task(ctx, session, pdu, pdu.bhs[3], None)?;
        }
        Ok(())
    }

    fn on_response(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        at: usize,
        pdu: &Pdu,
    ) -> Result<(), Violation> {
        let Some(task) = session.tasks.get(&pdu.itt()) else {
            self.check_fenced(session, at, pdu)?;
            if let Some((Some(op), ..)) = session.fenced.remove(&pdu.itt())
                && pdu.bhs[3] == status::GOOD
            {
                ctx.end(op, Outcome::Good, Vec::new());
            }
            return Ok(());
        };
        check(task.link == at, "a task stays on its connection", pdu)?;
        check(pdu.bhs[2] == 0, "the target does not fail", pdu)?;
        check(task.sequence_bytes == 0, "the last Data-In of a sequence is marked", pdu)?;
        // It counts both, but is 0 where there was no Data-In (section 11.4.8).
        let count = if task.data_in_pdus > 0 { task.data_in_pdus + task.r2ts } else { 0 };
        check(pdu.word(36) == count, "ExpDataSN counts Data-In and R2T", pdu)?;
        let sense = pdu.data.get(2..).and_then(parse_sense);
        self.finish_task(ctx, session, pdu, pdu.bhs[3], sense)
    }

    /// A PDU for a task that is not in progress: right only when the task was ended on another connection, or its
    /// session was replaced.
    fn check_fenced(&self, session: &Session, at: usize, pdu: &Pdu) -> Result<(), Violation> {
        let fenced = session.fenced.get(&pdu.itt());
        let elsewhere = fenced.is_some_and(|&(_, link, by)| link == at && by != at);
        check(elsewhere, "a command is answered once, and never after it was aborted", pdu)
    }

    fn finish_task(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        pdu: &Pdu,
        status_byte: u8,
        sense: Option<Sense>,
    ) -> Result<(), Violation> {
        let task = session.tasks.remove(&pdu.itt()).expect("the caller looked");
        if status_byte == status::GOOD {
            let (flags, residual) = (pdu.bhs[1] & 0x06, pdu.word(44) as usize);
            let expected = if task.data_out.is_empty() { task.expected - task.wanted } else { 0 };
            let right = residual == expected && flags == if expected > 0 { 2 } else { 0 };
            check(right, "residuals are right", pdu)?;
            check(task.data_in.len() == task.wanted, "a good command moves all of its data", pdu)?;
            check(task.asked == task.data_out.len(), "a good command has taken all of its data", pdu)?;
        }
        ctx.log.note(
            ctx.world.now(),
            format_args!("h{} done {:x} {status_byte:x} {sense:x?}", self.id, pdu.itt()),
        );
        let Some(id) = task.op else { return Ok(()) };
        let op = ctx.history.op(id).clone();
        let outcome = self.judge(ctx, status_byte, sense, pdu)?;
        let mut seen = Vec::new();
        if outcome == Outcome::Good && op.kind == Kind::Read {
            let values = content::values(&task.data_in, task.lun, op.sector, ctx.options.block_bytes);
            seen = values.map_err(|garbage| {
                let detail = format!("{garbage:?}, operation {id} on unit {}", task.lun);
                Violation::new("a read gives what somebody wrote there", detail)
            })?;
            self.check_provenance(ctx, task.lun, op.sector, &seen)?;
            let per_block = ctx.options.block_sectors() as usize;
            let whole = seen.chunks(per_block).all(|block| block.iter().all(|value| *value == block[0]));
            if !whole && !ctx.options.may_tear() {
                return Err(Violation::new("a block is written whole", format!("{seen:?}")));
            }
            self.remember(ctx, task.lun, task.lba, &task.data_in);
        }
        if outcome == Outcome::Good && matches!(op.kind, Kind::Write { .. }) {
            self.remember(ctx, task.lun, task.lba, &task.data_out);
        }
        ctx.end(id, outcome, seen);
        Ok(())
    }

    fn check_provenance(&self, ctx: &Ctx<'_>, lun: u8, first: u64, seen: &[u32]) -> Result<(), Violation> {
        for (sector, &value) in (first..).zip(seen) {
            let known = value == 0
                || value < ctx.history.next_id() && {
                    let op = ctx.history.op(value);
                    op.changes() && op.lun == lun && op.covers(sector)
                };
            if !known {
                let detail = format!("sector {sector} of unit {lun} holds {value}");
                return Err(Violation::new("a read gives what somebody wrote there", detail));
            }
        }
        Ok(())
    }

    /// What a status says about the operation.
    fn judge(&self, ctx: &Ctx<'_>, code: u8, sense: Option<Sense>, pdu: &Pdu) -> Result<Outcome, Violation> {
        const UNIT_ATTENTION: u8 = 6;
        const MISCOMPARE: u8 = 0xe;
        match (code, sense) {
            (status::GOOD, _) => Ok(Outcome::Good),
            (status::TASK_SET_FULL, _) | (0x08, _) => Ok(Outcome::Refused),
            (status::CHECK_CONDITION, Some(Sense { key: UNIT_ATTENTION | MISCOMPARE, .. })) => {
                Ok(Outcome::Refused)
            }
            (status::CHECK_CONDITION, Some(_)) if ctx.options.disk_fails() => Ok(Outcome::Ended),
            _ => {
                let detail = format!("status {code:#x}, sense {sense:x?}, {:02x?}", pdu.bhs);
                Err(Violation::new("a command succeeds where nothing fails", detail))
            }
        }
    }

    fn on_logout(&mut self, ctx: &mut Ctx<'_>, session: &mut Session, pdu: &Pdu) -> Result<(), Violation> {
        let asked = session.asked.remove(&pdu.itt());
        let right = asked.map(|asked| asked.request) == Some(Request::Logout) && pdu.bhs[2] == 0;
        check(right || session.ended, "a logout is answered once", pdu)?;
        self.fence_all(ctx, session);
        self.logged_out = true;
        Ok(())
    }
}

fn on_nop_in(session: &mut Session, at: usize, pdu: &Pdu) -> Result<(), Violation> {
    if pdu.itt() != NO_TAG {
        let asked = session.asked.remove(&pdu.itt());
        if session.ended && asked.is_none() {
            return Ok(());
        }
        let Some(Request::Ping(data)) = asked.map(|asked| asked.request) else {
            return Err(violation("a ping is answered once", pdu));
        };
        return check(data.starts_with(&pdu.data), "a ping comes back with its data", pdu);
    }
    if pdu.word(20) != NO_TAG {
        let mut answer = Pdu::new(opcode::NOP_OUT | IMMEDIATE, FINAL);
        answer.bhs[8..16].copy_from_slice(&pdu.bhs[8..16]);
        answer.set_itt(NO_TAG).set_word(20, pdu.word(20));
        session.send(at, answer, true);
    }
    Ok(())
}
