//! A simulated initiator: one session after the other, many commands at once, and every way to leave early.
//!
//! ```text
//!            connect            leading login done: what the old sessions had in flight is fenced
//!   nothing ─────────▶ current ──────────────────────────────────────────────────────▶ reads, writes, aborts, …
//!      ▲                  │ connection lost, dropped, or a new login on purpose
//!      └──────────────────┴──▶ old: still heard, still sending what it held back, until the target has closed it
//! ```

mod issue;
mod login;
mod management;
mod receive;
mod session;
mod wire;

use std::collections::BTreeMap;

use initiator::pdu::{FINAL, IMMEDIATE, NO_TAG, Pdu, opcode};
use reactor::sim::{SimRandom, SimWorld};
use reactor::time::Time;

use crate::Violation;
use crate::content::Value;
use crate::history::{History, Op, OpId, Outcome};
use crate::limits::{CLOSE_PATIENCE, HOLD_MAX, RETRY_MAX};
use crate::log::Log;
use crate::options::Options;
use login::LoginStep;
use session::{Request, Session, Stage};

/// Status class and detail of a login to a session that is not there.
const NO_SUCH_SESSION: (u8, u8) = (2, 0x0a);

/// What all hosts do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Their work.
    Work,
    /// Nothing new: what is in flight ends.
    Settle,
    /// The first reads everything.
    Read,
    /// They log out.
    Leave,
}

/// What a host sees of the rest of the world.
pub struct Ctx<'a> {
    /// Clock and network.
    pub world: &'a SimWorld,
    /// What the seed decided.
    pub options: &'a Options,
    /// What happened.
    pub history: &'a mut History,
    /// The same for the hash.
    pub log: &'a mut Log,
    /// Operations that have not ended.
    pub open: &'a mut Vec<OpId>,
    /// What hosts do now.
    pub mode: Mode,
    /// The node runs and means to go on: it closes nothing by itself.
    pub steady: bool,
}

impl Ctx<'_> {
    fn begin(&mut self, op: Op) -> OpId {
        let id = self.history.begin(op);
        self.open.push(id);
        id
    }

    /// An operation ends.
    pub fn end(&mut self, id: OpId, outcome: Outcome, seen: Vec<Value>) {
        self.log.note(self.world.now(), format_args!("op {id} {outcome:?} {seen:?}"));
        self.open.retain(|&other| other != id);
        self.history.end(id, outcome, seen);
    }
}

/// One initiator.
pub struct Host {
    id: usize,
    random: SimRandom,
    name: String,
    isid: [u8; 6],
    current: Option<Session>,
    old: Vec<Session>,
    next_itt: u32,
    retry_at: Time,
    ops_left: u32,
    final_reads: u64,
    logged_out: bool,
    known: BTreeMap<(u8, u64), Vec<u8>>,
}

impl Host {
    /// Host number `id`.
    pub fn new(id: usize, random: SimRandom, options: &Options) -> Self {
        let (_, blocks) = options.hot;
        Self {
            id,
            random,
            name: format!("iqn.2024-01.org.example:host-{}", id % 2),
            isid: [0x80, 0, 0, 0, 0, id as u8],
            current: None,
            old: Vec::new(),
            next_itt: 1 + ((id as u32) << 24),
            retry_at: Time::ZERO,
            ops_left: options.ops,
            final_reads: if id == 0 { blocks * u64::from(options.luns) } else { 0 },
            logged_out: false,
            known: BTreeMap::new(),
        }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.below(bound)
    }

    fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.random.below(1000) < permille
    }

    fn take_itt(&mut self) -> u32 {
        self.next_itt += 1;
        self.next_itt
    }

    fn any_link(&mut self, session: &Session) -> Option<usize> {
        let links = session.full_links();
        (!links.is_empty()).then(|| links[self.below(links.len() as u64) as usize])
    }

    /// When the next burst may be sent.
    fn hold(&mut self, ctx: &Ctx<'_>) -> Time {
        if ctx.mode == Mode::Work && self.chance(ctx.options.abuse.hold_permille) {
            let wait_ns = self.below(HOLD_MAX.as_nanos() as u64);
            return ctx.world.now().after(std::time::Duration::from_nanos(wait_ns));
        }
        Time::ZERO
    }

    /// Operations that it still means to begin.
    pub fn ops_left(&self) -> u32 {
        self.ops_left
    }

    /// Nothing is in flight and a session is there.
    pub fn is_settled(&self) -> bool {
        let idle = |session: &Session| {
            session.tasks.is_empty()
                && session.asked.is_empty()
                && session.full_links().len() == session.links.len()
        };
        self.old.is_empty() && self.current.as_ref().is_some_and(idle)
    }

    /// It has read everything that it had to read at the end.
    pub fn has_read(&self) -> bool {
        self.final_reads == 0 && self.is_settled()
    }

    /// It has no session any more.
    pub fn has_left(&self) -> bool {
        self.current.is_none() && self.old.is_empty()
    }

    /// When it wants to be called again at the latest.
    pub fn deadline(&self, now: Time) -> Time {
        let later = |at: Time| if at > now { at } else { Time::NEVER };
        let mut next = if self.current.is_none() { later(self.retry_at) } else { Time::NEVER };
        for session in self.current.iter().chain(&self.old) {
            let tasks = session.tasks.values().map(|task| task.deadline);
            let asked = session.asked.values().map(|asked| asked.deadline);
            let links =
                session.links.iter().filter(|link| link.stage != Stage::Full).map(|link| link.deadline);
            let bursts = session.links.iter().flat_map(|link| &link.bursts).map(|burst| burst.not_before);
            let closed = session.replaced_at.map(|at| at.after(CLOSE_PATIENCE));
            next =
                tasks.chain(asked).chain(links).chain(bursts).chain(closed).map(later).fold(next, Time::min);
        }
        next
    }

    /// One step; true when anything moved.
    pub fn step(&mut self, ctx: &mut Ctx<'_>) -> Result<bool, Violation> {
        let mut moved = self.step_old(ctx)?;
        let Some(mut session) = self.current.take() else {
            return Ok(self.log_in(ctx) || moved);
        };
        moved |= self.hear(ctx, &mut session)?;
        moved |= self.speak(ctx, &mut session);
        self.check_deadlines(ctx, &mut session)?;
        if self.logged_out {
            self.logged_out = false;
            session.replaced_at = Some(ctx.world.now());
            self.leave(ctx, session);
        } else if session.is_lost() {
            self.leave(ctx, session);
        } else {
            moved |= self.misbehave_or_keep(ctx, session);
        }
        Ok(moved)
    }

    fn log_in(&mut self, ctx: &mut Ctx<'_>) -> bool {
        // An old session that nobody has ended is ended by a new one, even if that leaves at once.
        let unsure = self.old.iter().any(|session| session.replaced_at.is_none());
        if ctx.world.now() < self.retry_at || ctx.mode == Mode::Leave && !unsure {
            return false;
        }
        let cmd_sn = if self.chance(300) { 0u32.wrapping_sub(self.below(20) as u32) } else { 1 };
        let Some(link) = self.connect(ctx, 0, 0, cmd_sn) else {
            self.wait_a_while(ctx);
            return false;
        };
        self.current = Some(Session::new(link, cmd_sn));
        true
    }

    fn wait_a_while(&mut self, ctx: &Ctx<'_>) {
        let wait_ns = 1 + self.below(RETRY_MAX.as_nanos() as u64);
        self.retry_at = ctx.world.now().after(std::time::Duration::from_nanos(wait_ns));
    }

    /// `session` is not the current one any more.
    fn leave(&mut self, ctx: &mut Ctx<'_>, session: Session) {
        ctx.log.note(ctx.world.now(), format_args!("h{} leaves session {}", self.id, session.tsih));
        self.old.push(session);
        self.wait_a_while(ctx);
    }

    /// Takes what comes on every connection.
    fn hear(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) -> Result<bool, Violation> {
        let mut moved = false;
        for at in 0..session.links.len() {
            moved |= session.links[at].wire.pump();
            self.take_pdus(ctx, session, at)?;
            let link = &session.links[at];
            let leaving = self.logged_out || session.is_logging_out();
            let expected = !ctx.steady || ctx.options.net.reset_permille > 0 || leaving;
            if link.wire.is_over() && session.replaced_at.is_none() && !expected {
                let detail = format!("host {}, connection {at}, {:?}", self.id, link.stage);
                return Err(Violation::new("the target closes no connection by itself", detail));
            }
        }
        Ok(moved)
    }

    fn take_pdus(&mut self, ctx: &mut Ctx<'_>, session: &mut Session, at: usize) -> Result<(), Violation> {
        while let Some(pdu) = session.links[at].wire.take()? {
            if session.links[at].stage == Stage::Full {
                self.on_pdu(ctx, session, at, &pdu)?;
                continue;
            }
            match self.on_login(ctx, session, at, &pdu)? {
                LoginStep::Going => {}
                LoginStep::Refused(class, detail) => {
                    // A logout may have overtaken it: then its session is gone.
                    let left =
                        (self.logged_out || session.is_logging_out()) && (class, detail) == NO_SUCH_SESSION;
                    if ctx.steady && ctx.options.net.reset_permille == 0 && !left {
                        let detail = format!("host {}, connection {at}: {class:02x}{detail:02x}", self.id);
                        return Err(Violation::new("a correct login succeeds", detail));
                    }
                    session.links[at].wire.reset();
                }
                LoginStep::Done => self.on_logged_in(ctx, session, at),
            }
        }
        Ok(())
    }

    fn on_logged_in(&mut self, ctx: &mut Ctx<'_>, session: &mut Session, at: usize) {
        ctx.log.note(ctx.world.now(), format_args!("h{} in session {} on {at}", self.id, session.tsih));
        if at > 0 {
            return;
        }
        // Reinstatement: whatever ran in older sessions has ended.
        let mut old = std::mem::take(&mut self.old);
        for session in &mut old {
            self.fence_all(ctx, session);
            session.replaced_at.get_or_insert(ctx.world.now());
        }
        self.old = old;
        for cid in 1..ctx.options.connections.min(session.agreed.connections) {
            let link = self.connect(ctx, cid as u16, session.tsih, session.cmd_sn);
            session.links.extend(link);
        }
    }

    /// Sends data and commands.
    fn speak(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) -> bool {
        let mut moved = false;
        for at in 0..session.links.len() {
            let mut random = self.random.clone();
            moved |= session.send_data_out(at, ctx.world.now(), &mut |bound| random.below(bound));
            self.random = random;
        }
        if session.full_links().is_empty()
            || !session.window_open()
            || session.tasks.len() >= ctx.options.depth
        {
            return moved;
        }
        match ctx.mode {
            Mode::Work if self.ops_left > 0 => {
                // Not now is soon; only when it finds nothing to ask for has it to wait for something.
                let now = self.chance(500);
                let issued = now && self.issue(ctx, session);
                self.ops_left -= u32::from(issued);
                moved |= issued || !now;
            }
            Mode::Read => moved |= self.issue_final(ctx, session),
            Mode::Leave if !self.logged_out => {
                self.log_out(ctx, session);
                moved = true;
            }
            _ => {}
        }
        moved
    }

    fn log_out(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) {
        if let Some(link) = self.any_link(session) {
            let pdu = Pdu::new(opcode::LOGOUT | IMMEDIATE, FINAL);
            self.ask(ctx, session, link, pdu, Request::Logout);
        }
    }

    /// After a command was sent, perhaps something worse.
    fn misbehave_or_keep(&mut self, ctx: &mut Ctx<'_>, mut session: Session) -> bool {
        let abuse = ctx.options.abuse;
        let logging_out = session.is_logging_out();
        let busy = ctx.mode == Mode::Work && !session.tasks.is_empty() && !logging_out && self.chance(150);
        if !busy || session.full_links().is_empty() {
            self.current = Some(session);
            return false;
        }
        if self.chance(abuse.abort_permille) {
            let at = self.below(session.tasks.len() as u64) as usize;
            let itt = *session.tasks.keys().nth(at).expect("one of those that were counted");
            if !session.tasks[&itt].aborting {
                self.abort_task(ctx, &mut session, itt);
            }
        }
        if self.chance(abuse.reset_permille)
            && let Some(link) = self.any_link(&session)
        {
            let function = [2, 4, 5, 5][self.below(4) as usize];
            let lun = self.below(u64::from(ctx.options.luns)) as u8;
            self.end_tasks(ctx, &mut session, function, lun, link);
        }
        if self.chance(20)
            && let Some(link) = self.any_link(&session)
        {
            let length = self.below(64) as usize;
            let data = vec![0x5a; length];
            let mut pdu = Pdu::new(opcode::NOP_OUT | IMMEDIATE, FINAL).with_data(data.clone());
            pdu.set_word(20, NO_TAG);
            self.ask(ctx, &mut session, link, pdu, Request::Ping(data));
        }
        if self.chance(abuse.logout_permille) {
            self.log_out(ctx, &mut session);
        } else if self.chance(abuse.drop_permille) {
            for link in &mut session.links {
                if self.random.below(2) == 0 { link.wire.reset() } else { link.wire.close() }
            }
            self.leave(ctx, session);
            return true;
        } else if self.chance(abuse.reinstate_permille) {
            self.leave(ctx, session);
            return true;
        }
        self.current = Some(session);
        true
    }

    /// Sessions that were left: what they still say counts, and in the end the target closes them.
    fn step_old(&mut self, ctx: &mut Ctx<'_>) -> Result<bool, Violation> {
        let mut moved = false;
        let mut kept = Vec::new();
        for mut session in std::mem::take(&mut self.old) {
            let steady = std::mem::replace(&mut ctx.steady, false);
            let heard = self.hear(ctx, &mut session);
            ctx.steady = steady;
            moved |= heard?;
            // A logout on an old session ends nothing new.
            self.logged_out = false;
            for at in 0..session.links.len() {
                let mut random = self.random.clone();
                moved |= session.send_data_out(at, ctx.world.now(), &mut |bound| random.below(bound));
                self.random = random;
                if session.links[at].wire.is_over() {
                    session.links[at].bursts.clear();
                }
            }
            let over = session.links.iter().all(|link| link.wire.is_over());
            match session.replaced_at {
                Some(_) if over => moved = true,
                Some(at) if at.after(CLOSE_PATIENCE) < ctx.world.now() => {
                    let detail = format!("host {}, session {}", self.id, session.tsih);
                    return Err(Violation::new("the connections of an ended session are closed", detail));
                }
                _ => kept.push(session),
            }
        }
        self.old = kept;
        Ok(moved)
    }

    fn check_deadlines(&mut self, ctx: &mut Ctx<'_>, session: &mut Session) -> Result<(), Violation> {
        let now = ctx.world.now();
        let late = session.asked.values().find(|asked| asked.deadline <= now);
        if let Some(asked) = late {
            let detail = format!("host {}: {:?}", self.id, asked.request);
            return Err(Violation::new("every request is answered", detail));
        }
        if session.links.iter().any(|link| link.stage != Stage::Full && link.deadline <= now) {
            return Err(Violation::new("every login is answered", format!("host {}", self.id)));
        }
        let late = session.tasks.iter().filter(|(_, task)| task.deadline <= now && !task.aborting);
        for itt in late.map(|(itt, _)| *itt).collect::<Vec<_>>() {
            let task = &session.tasks[&itt];
            // Whether a function of ours met an immediate command on another connection is not known.
            let unsure = task.immediate && session.links.len() > 1;
            if !self.was_reset(ctx, task.lun, task.sent_at, unsure) {
                let detail = format!("host {}, tag {itt:#x}, {:?}", self.id, session.tasks[&itt]);
                return Err(Violation::new("every command is answered", detail));
            }
            self.abort_task(ctx, session, itt);
        }
        Ok(())
    }

    /// Takes every byte that is on its way, and what it says.
    pub fn hear_everything(&mut self, ctx: &mut Ctx<'_>) -> Result<(), Violation> {
        let current = self.current.take();
        for mut session in std::mem::take(&mut self.old).into_iter().chain(current) {
            for at in 0..session.links.len() {
                session.links[at].wire.pump_all();
                self.take_pdus(ctx, &mut session, at)?;
            }
            self.old.push(session);
        }
        self.logged_out = false;
        Ok(())
    }

    /// The node is gone: every session is over, and nothing that was in flight will be answered.
    pub fn lose_node(&mut self, ctx: &mut Ctx<'_>) {
        let current = self.current.take();
        for mut session in std::mem::take(&mut self.old).into_iter().chain(current) {
            self.fence_all(ctx, &mut session);
        }
        self.logged_out = false;
        self.wait_a_while(ctx);
    }
}
