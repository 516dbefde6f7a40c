//! One seed from the empty disks to the verdict.

use std::sync::mpsc::Receiver;
use std::time::Duration;

use reactor::poller::Progress;
use reactor::sim::{DiskFaults, NetFaults, SimRandom, SimWorld};

use crate::Violation;
use crate::history::{Event, History, Kind, Op, OpId, Outcome};
use crate::host::{Ctx, Host, Mode};
use crate::limits::{STOPPING_TURN, TURNS_MAX};
use crate::log::Log;
use crate::options::{Ending, Options};
use crate::planted::Bug;
use crate::register;
use crate::world::{Machine, Node};

/// What a world that kept all promises was like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// The hash of everything that happened.
    pub hash: u64,
    /// Lines of the log.
    pub lines: u64,
    /// Operations.
    pub ops: usize,
    /// Operations that were answered as done.
    pub good: usize,
    /// Turns of the reactors.
    pub turns: u64,
}

/// Runs the world of `seed` to its end.
pub fn run(seed: u64, bug: Option<Bug>, print: bool) -> Result<Report, Violation> {
    run_with(Options::draw(seed), bug, print)
}

/// Runs a world to its end.
pub fn run_with(options: Options, bug: Option<Bug>, print: bool) -> Result<Report, Violation> {
    let mut runner = Runner::new(options, bug, print)?;
    if let Err(violation) = runner.work() {
        let detail = format!("{} (at {:?}, turn {})", violation.detail, runner.world.now(), runner.turns);
        return Err(Violation { detail, ..violation });
    }
    let (history, options) = (&runner.history, &runner.options);
    let stride = if options.may_tear() { 1 } else { options.block_sectors() };
    register::check(history, options.may_lose_power(), stride)?;
    let good = (1..history.next_id()).filter(|&id| history.op(id).outcome == Some(Outcome::Good)).count();
    let (hash, lines) = (runner.log.hash(), runner.log.lines());
    Ok(Report { hash, lines, ops: history.len(), good, turns: runner.turns })
}

/// A node that was told to stop.
struct Stopping {
    drained: Receiver<()>,
    /// The front ends are through; now it is the volumes' turn.
    volumes: bool,
    missing: usize,
    flushes: Vec<OpId>,
}

struct Runner {
    options: Options,
    world: SimWorld,
    random: SimRandom,
    machine: Machine,
    node: Option<Node>,
    stopping: Option<Stopping>,
    hosts: Vec<Host>,
    history: History,
    log: Log,
    open: Vec<OpId>,
    mode: Mode,
    endings: Vec<Ending>,
    turns: u64,
}

impl Runner {
    fn new(options: Options, bug: Option<Bug>, print: bool) -> Result<Self, Violation> {
        let world = SimWorld::new(options.seed);
        world.set_auto_advance(false);
        world.set_net_faults(options.net);
        let mut random = world.fork_random();
        let machine = Machine::new(&world, &options, bug);
        let node = Some(Node::start(&world, &options, &machine)?);
        let hosts = (0..options.hosts).map(|id| Host::new(id, random.fork(), &options)).collect();
        let mut log = Log::new(print);
        log.note(world.now(), format_args!("{options:?}"));
        Ok(Self {
            endings: options.endings.clone(),
            options,
            world,
            random,
            machine,
            node,
            stopping: None,
            hosts,
            history: History::default(),
            log,
            open: Vec::new(),
            mode: Mode::Work,
            turns: 0,
        })
    }

    fn work(&mut self) -> Result<(), Violation> {
        while !self.hosts.iter().all(Host::has_left) || self.mode != Mode::Leave {
            self.turn()?;
            self.next_mode();
            if self.turns > TURNS_MAX {
                let detail = format!("{:?}, {} operations open", self.mode, self.open.len());
                return Err(Violation::new("the world comes to an end", detail));
            }
        }
        // The last connections close by themselves.
        for _ in 0..1000 {
            self.idle_turn();
        }
        match self.node.take() {
            Some(node) => node.dismantle(),
            None => Ok(()),
        }
    }

    fn idle_turn(&mut self) {
        self.world.advance(Duration::from_micros(50));
        if let Some(node) = &mut self.node {
            let _ = node.poll(false);
        }
    }

    fn turn(&mut self) -> Result<(), Violation> {
        self.turns += 1;
        let step_ns = self.random.below(self.options.turn_ns_max + 1);
        self.world.advance(Duration::from_nanos(step_ns));
        let mut moved = false;
        self.for_hosts(|host, ctx| {
            moved |= host.step(ctx)?;
            Ok(())
        })?;
        if let Some(node) = &mut self.node {
            moved |= node.poll(self.stopping.is_some()) == Progress::Busy;
        }
        moved |= self.end_or_restart()?;
        if !moved {
            let now = self.world.now();
            let hosts = self.hosts.iter().map(|host| host.deadline(now)).min();
            let node = self.node.as_ref().map(Node::deadline);
            // A node that stops keeps its own time.
            let stopping = self.stopping.as_ref().map(|_| now.after(STOPPING_TURN));
            let next = hosts.into_iter().chain(node).chain(stopping).min().expect("there is a host");
            self.world.advance_to_next(next);
        }
        Ok(())
    }

    fn for_hosts(
        &mut self,
        mut each: impl FnMut(&mut Host, &mut Ctx<'_>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let steady = self.node.is_some() && self.stopping.is_none();
        for host in &mut self.hosts {
            let mut ctx = Ctx {
                world: &self.world,
                options: &self.options,
                history: &mut self.history,
                log: &mut self.log,
                open: &mut self.open,
                mode: self.mode,
                steady,
            };
            each(host, &mut ctx)?;
        }
        Ok(())
    }

    fn next_mode(&mut self) {
        if self.node.is_none() || self.stopping.is_some() {
            return;
        }
        let next = match self.mode {
            Mode::Work if self.ops_left() == 0 => Mode::Settle,
            Mode::Settle if self.hosts.iter().all(Host::is_settled) => Mode::Read,
            Mode::Read if self.hosts.iter().all(Host::has_read) => Mode::Leave,
            _ => return,
        };
        self.log.note(self.world.now(), format_args!("{next:?}"));
        self.mode = next;
        // From now on nothing goes wrong.
        let net = NetFaults { reset_permille: 0, ..self.options.net };
        self.world.set_net_faults(net);
        let disk = &self.options.disk;
        let (no_holes, latency_us) = (disk.no_holes, disk.latency_us);
        self.machine.set_faults(&DiskFaults { no_holes, latency_us, ..DiskFaults::default() });
    }

    fn ops_left(&self) -> u32 {
        self.hosts.iter().map(Host::ops_left).sum()
    }

    /// Ends the node when its time has come, and starts it again.
    fn end_or_restart(&mut self) -> Result<bool, Violation> {
        if self.node.is_none() {
            if self.random.below(20) == 0 {
                self.node = Some(Node::start(&self.world, &self.options, &self.machine)?);
                self.log.note(self.world.now(), format_args!("the node starts"));
            }
            return Ok(true);
        }
        if self.stopping.is_some() {
            return self.go_on_stopping();
        }
        let total = self.options.ops * self.options.hosts as u32;
        let planned = self.options.endings.len() as u32;
        let at = planned - self.endings.len() as u32 + 1;
        let due = self.ops_left() <= total - total * at / (planned + 1);
        if self.endings.is_empty() || self.mode != Mode::Work || !due {
            return Ok(false);
        }
        match self.endings.remove(0) {
            Ending::Drain => self.begin_stopping(),
            ending => self.end_node(ending)?,
        }
        Ok(true)
    }

    fn begin_stopping(&mut self) {
        let node = self.node.as_ref().expect("the caller looked");
        self.log.note(self.world.now(), format_args!("the node is told to stop"));
        // What was acknowledged by now is flushed before the node says that it has stopped.
        let flush = |lun| Op {
            host: usize::MAX,
            lun,
            sector: 0,
            sectors: 0,
            kind: Kind::Flush,
            seen: Vec::new(),
            outcome: None,
        };
        let flushes = (0..self.options.luns).map(|lun| self.history.begin(flush(lun))).collect();
        let (drained, missing) = (node.begin_draining(), node.cores());
        self.stopping = Some(Stopping { drained, missing, volumes: false, flushes });
    }

    fn go_on_stopping(&mut self) -> Result<bool, Violation> {
        let stopping = self.stopping.as_mut().expect("the caller looked");
        while stopping.drained.try_recv().is_ok() {
            stopping.missing -= 1;
        }
        if stopping.missing > 0 {
            return Ok(false);
        }
        if !stopping.volumes {
            // The front ends have let go of the volumes.
            let node = self.node.as_ref().expect("a node that stops is there");
            (stopping.drained, stopping.missing) = (node.begin_draining_volumes(), node.cores());
            stopping.volumes = true;
            return Ok(false);
        }
        let outcome = if self.options.disk_fails() { Outcome::Ended } else { Outcome::Good };
        for flush in std::mem::take(&mut stopping.flushes) {
            self.history.end(flush, outcome, Vec::new());
        }
        self.stopping = None;
        self.end_node(Ending::Drain)?;
        Ok(true)
    }

    fn end_node(&mut self, ending: Ending) -> Result<(), Violation> {
        self.log.note(self.world.now(), format_args!("the node ends: {ending:?}"));
        if self.random.below(2) == 0 {
            self.for_hosts(|host, ctx| host.hear_everything(ctx))?;
        }
        if ending == Ending::Kill {
            self.history.events.push(Event::Kill);
            self.machine.kill();
        } else {
            self.history.events.push(Event::PowerLoss);
            self.machine.lose_power();
        }
        self.node = None;
        self.for_hosts(|host, ctx| {
            host.lose_node(ctx);
            Ok(())
        })
    }
}
