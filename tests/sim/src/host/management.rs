//! Task management: ending tasks early, and what that means for the blocks.

use initiator::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, opcode};

use super::session::{Asked, Request, Session};
use super::{Ctx, Host};
use crate::Violation;
use crate::history::Outcome;
use crate::limits::REQUEST_PATIENCE;

const ABORT_TASK: u8 = 1;
const ABORT_TASK_SET: u8 = 2;
const FUNCTION_COMPLETE: u8 = 0;
const TASK_DOES_NOT_EXIST: u8 = 1;

impl Host {
    /// Aborts one task.
    pub(super) fn abort_task(&mut self, ctx: &mut Ctx<'_>, session: &mut Session, itt: u32) {
        let joined = session.links.len() > 1;
        let Some(task) = session.tasks.get_mut(&itt) else { return };
        let immediate = task.immediate;
        if immediate && joined {
            // Its CmdSN is also the next command's, which may be on its way on another connection.
            let (lun, link) = (task.lun, task.link);
            return self.end_tasks(ctx, session, ABORT_TASK_SET, lun, link);
        }
        task.aborting = true;
        let (lun, cmd_sn, own_link) = (task.lun, task.cmd_sn, task.link);
        let elsewhere = !immediate && self.chance(300);
        let link = self.any_link(session).filter(|_| elsewhere).unwrap_or(own_link);
        let mut pdu = Pdu::new(opcode::TASK_MANAGEMENT | IMMEDIATE, FINAL | ABORT_TASK);
        pdu.set_lun(u64::from(lun)).set_word(20, itt).set_word(32, cmd_sn);
        self.ask(ctx, session, link, pdu, Request::AbortTask { itt });
    }

    /// Ends the tasks of a unit with `function`.
    pub(super) fn end_tasks(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        function: u8,
        lun: u8,
        link: usize,
    ) {
        let mut pdu = Pdu::new(opcode::TASK_MANAGEMENT | IMMEDIATE, FINAL | function);
        pdu.set_lun(u64::from(lun)).set_word(20, NO_TAG);
        // A command for immediate delivery on another connection may arrive behind the function.
        let meant = session
            .tasks
            .iter_mut()
            .filter(|(_, task)| task.lun == lun && (!task.immediate || task.link == link));
        let meant = meant.map(|(itt, task)| {
            task.aborting = true;
            *itt
        });
        let meant = meant.collect();
        // Other hosts' commands may vanish from now on, until the answer is here and beyond.
        ctx.history.resets.push((ctx.history.events.len(), lun, self.id));
        self.ask(ctx, session, link, pdu, Request::EndTasks { function, lun, meant });
    }

    /// Sends a request that is answered on its own, for immediate delivery.
    pub(super) fn ask(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        link: usize,
        mut pdu: Pdu,
        request: Request,
    ) {
        let itt = self.take_itt();
        pdu.set_itt(itt);
        let deadline = ctx.world.now().after(REQUEST_PATIENCE);
        ctx.log.note(ctx.world.now(), format_args!("h{} asks {itt:x} on {link}: {request:?}", self.id));
        if let Request::EndTasks { lun, .. } = request {
            ctx.history.resetting.push((lun, (self.id, itt)));
        }
        session.asked.insert(itt, Asked { request, link, deadline });
        session.send(link, pdu, true);
    }

    pub(super) fn on_management(
        &mut self,
        ctx: &mut Ctx<'_>,
        session: &mut Session,
        at: usize,
        pdu: &Pdu,
    ) -> Result<(), Violation> {
        let response = pdu.bhs[2];
        let asked = session.asked.remove(&pdu.itt()).filter(|asked| asked.link == at);
        ctx.log.note(ctx.world.now(), format_args!("h{} answer {:x}: {response}", self.id, pdu.itt()));
        match asked.map(|asked| asked.request) {
            Some(Request::AbortTask { itt }) => {
                let unanswered = session.tasks.get(&itt).map(|task| (task.link, task.lun, task.sent_at));
                let Some((link, lun, sent_at)) = unanswered else { return Ok(()) };
                // A function for all tasks of the unit may have ended it; else its answer came first.
                let gone = response == TASK_DOES_NOT_EXIST
                    && (link != at
                        || session.links[link].wire.is_over()
                        || self.was_reset(ctx, lun, sent_at, true));
                if response != FUNCTION_COMPLETE && !gone {
                    let detail = format!("response {response} for a task that is not answered");
                    return Err(Violation::new("ABORT TASK ends a task", detail));
                }
                self.fence(ctx, session, itt, at);
                Ok(())
            }
            Some(Request::EndTasks { lun, meant, .. }) if response == FUNCTION_COMPLETE => {
                self.reset_ended(ctx, lun, pdu.itt());
                meant.into_iter().for_each(|itt| self.fence(ctx, session, itt, at));
                Ok(())
            }
            None if session.ended => Ok(()),
            _ => Err(Violation::new("a function is answered once, and done", format!("{:02x?}", pdu.bhs))),
        }
    }

    /// True when another host, or with `own` anybody, may have ended the tasks of `lun` after `since`.
    pub(super) fn was_reset(&self, ctx: &Ctx<'_>, lun: u8, since: usize, own: bool) -> bool {
        let ended =
            |&(at, unit, by): &(usize, u8, usize)| at >= since && unit == lun && (own || by != self.id);
        let going_on = |&(unit, (by, _)): &(u8, (usize, u32))| unit == lun && (own || by != self.id);
        ctx.history.resets.iter().any(ended) || ctx.history.resetting.iter().any(going_on)
    }

    /// A request of ours to end the tasks of `lun` was answered, or never will be.
    fn reset_ended(&self, ctx: &mut Ctx<'_>, lun: u8, itt: u32) {
        ctx.history.resets.push((ctx.history.events.len(), lun, self.id));
        ctx.history.resetting.retain(|(_, request)| *request != (self.id, itt));
    }

    /// A task has ended without an answer: what it has not done, it never does.
    fn fence(&mut self, ctx: &mut Ctx<'_>, session: &mut Session, itt: u32, by_link: usize) {
        let Some(task) = session.tasks.remove(&itt) else { return };
        if let Some(op) = task.op {
            ctx.end(op, Outcome::Ended, Vec::new());
        }
        session.fenced.insert(itt, (task.op, task.link, by_link));
        if !ctx.options.abuse.stale_data {
            session.links[task.link].bursts.retain(|burst| burst.itt != itt);
        }
    }

    /// Every task of the session has ended.
    pub(super) fn fence_all(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) {
        session.ended = true;
        for (itt, asked) in std::mem::take(&mut session.asked) {
            if let Request::EndTasks { lun, .. } = asked.request {
                self.reset_ended(ctx, lun, itt);
            }
        }
        for itt in session.tasks.keys().copied().collect::<Vec<_>>() {
            // Answers that were on their way before may still come, on any connection.
            self.fence(ctx, session, itt, usize::MAX);
        }
    }
}
