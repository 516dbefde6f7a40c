//! The checker of one sector: could a register have behaved as the hosts saw?
//!
//! Every sector is a register. A write takes effect at one instant between its begin and its end, or never when it
//! was not acknowledged; a read sees what is there at one instant of its own. The checker keeps every state that
//! the register may be in and lets an open write take effect only when what was seen demands it. When no state is
//! left, a promise was broken.
//!
//! What a power loss may leave is part of the state: everything that took effect at or after the last write that a
//! flush covers, and what was still open. A kill leaves what had taken effect. After both, and after a fence, what
//! had not taken effect never does.

mod state;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use crate::Violation;
use crate::content::Value;
use crate::history::{Event, History, Kind, Op, OpId, Outcome};
use crate::limits::{HISTORY_LINES, STATES_MAX, STATES_SHARP_MAX};
use state::State;

/// Checks one in `stride` of the sectors that any operation of the history names: where blocks stay whole, one for
/// each block. With `power` the world may lose power.
pub fn check(history: &History, power: bool, stride: u64) -> Result<(), Violation> {
    let mut sectors = BTreeSet::new();
    for id in 1..history.next_id() {
        let op = history.op(id);
        let named = (op.sector..op.sector + op.sectors).step_by(stride as usize);
        sectors.extend(named.map(|sector| (op.lun, sector)));
    }
    sectors.into_iter().try_for_each(|(lun, sector)| Register::new(history, power, lun, sector).run())
}

struct Register<'a> {
    history: &'a History,
    power: bool,
    lun: u8,
    sector: u64,
    states: BTreeSet<State>,
}

impl<'a> Register<'a> {
    fn new(history: &'a History, power: bool, lun: u8, sector: u64) -> Self {
        let states = BTreeSet::from([State::holding(0)]);
        Self { history, power, lun, sector, states }
    }

    fn run(mut self) -> Result<(), Violation> {
        for (at, event) in self.history.events.iter().enumerate() {
            let before = self.states.len();
            match *event {
                Event::Begin(id) if self.concerns(id) => self.begin(id),
                Event::End(id) if self.concerns(id) => self.end(id)?,
                Event::PowerLoss => self.power_loss(),
                Event::Kill => self.kill(),
                Event::Begin(_) | Event::End(_) => continue,
            }
            if self.states.is_empty() {
                return Err(Violation::new("no order of the writes explains what was seen", self.story(at)));
            }
            if self.states.len() > STATES_SHARP_MAX {
                self.merge();
            }
            assert!(self.states.len() <= STATES_MAX, "{before} states became too many: lower OVERLAP_MAX");
        }
        Ok(())
    }

    /// Makes one of all states that differ only in what a power loss may bring back.
    fn merge(&mut self) {
        let mut merged = BTreeMap::<_, State>::new();
        for state in std::mem::take(&mut self.states) {
            let key = state.key();
            let known = merged.remove(&key);
            let state = match known {
                Some(known) => known.merge(state),
                None => state,
            };
            merged.insert(key, state);
        }
        self.states = merged.into_values().collect();
    }

    fn concerns(&self, id: OpId) -> bool {
        let op = self.history.op(id);
        op.lun == self.lun && (op.covers(self.sector) || op.kind == Kind::Flush)
    }

    fn value(&self, id: OpId) -> Value {
        if id == 0 { 0 } else { self.history.op(id).writes(id) }
    }

    /// What a sector-wide operation saw or expects here.
    fn at<'v>(&self, op: &Op, values: &'v [Value]) -> Option<&'v Value> {
        values.get((self.sector - op.sector) as usize)
    }

    fn change(&mut self, change: impl Fn(State) -> Option<State>) {
        self.states = std::mem::take(&mut self.states).into_iter().filter_map(change).collect();
    }

    fn begin(&mut self, id: OpId) {
        let op = self.history.op(id);
        match op.kind {
            Kind::Flush if self.power => self.change(|state| Some(state.flush_begins(id))),
            Kind::Flush => {}
            // A read without an answer says nothing.
            Kind::Read if op.outcome == Some(Outcome::Good) => {
                let seen = self.at(op, &op.seen).copied();
                let seen = seen.expect("a good read saw every sector");
                let history = self.history;
                self.change(|state| {
                    let here = state.content();
                    let value = if here == 0 { 0 } else { history.op(here).writes(here) };
                    Some(if value == seen { state } else { state.with_reader(id) })
                });
            }
            Kind::Read => {}
            _ => self.change(|state| Some(state.with_open(id))),
        }
    }

    fn end(&mut self, id: OpId) -> Result<(), Violation> {
        let op = self.history.op(id);
        let outcome = op.outcome.expect("an operation that ended has an outcome");
        match (&op.kind, outcome) {
            (Kind::Flush, Outcome::Good) => self.change(|state| Some(state.flush_ends(id))),
            (Kind::Flush, _) => self.change(|state| Some(state.flush_fails(id))),
            (Kind::Read, Outcome::Good) => self.settle(|state| !state.reads(id)),
            (Kind::Read, _) => {}
            (_, Outcome::Refused) => self.change(|state| state.is_open(id).then(|| state.without_open(id))),
            (_, Outcome::Ended) => {
                self.explore();
                self.change(|state| Some(state.without_open(id)));
            }
            (kind, Outcome::Good) => {
                let fua = *kind == Kind::Write { fua: true };
                self.settle(|state| !state.is_open(id));
                let power = self.power;
                self.change(|state| Some(state.acknowledged(id, fua, power)));
            }
        }
        Ok(())
    }

    /// Keeps the states that are `done`, and lets open writes take effect in the others until they are.
    fn settle(&mut self, done: impl Fn(&State) -> bool) {
        let mut todo: Vec<State> = std::mem::take(&mut self.states).into_iter().collect();
        let mut looked_at = BTreeSet::new();
        while let Some(state) = todo.pop() {
            if done(&state) {
                self.states.insert(state);
            } else if looked_at.insert(state.clone()) {
                todo.extend(self.successors(&state));
            }
        }
    }

    /// Adds every state in which any of the open writes have taken effect.
    fn explore(&mut self) {
        let mut todo: Vec<State> = self.states.iter().cloned().collect();
        while let Some(state) = todo.pop() {
            for next in self.successors(&state) {
                if self.states.insert(next.clone()) {
                    todo.push(next);
                }
            }
        }
    }

    /// The states in which one more open write has taken effect.
    fn successors(&self, state: &State) -> Vec<State> {
        let takes_effect = |&id: &OpId| {
            let op = self.history.op(id);
            if let Kind::CompareAndWrite { expected } = &op.kind
                && self.at(op, expected) != Some(&self.value(state.content()))
            {
                return None;
            }
            let value = op.writes(id);
            Some(state.effective(id, self.power, |reader| {
                let op = self.history.op(reader);
                self.at(op, &op.seen) == Some(&value)
            }))
        };
        state.open().iter().filter_map(takes_effect).collect()
    }

    fn kill(&mut self) {
        self.explore();
        self.change(|state| Some(state.killed()));
    }

    fn power_loss(&mut self) {
        assert!(self.power, "the world said that it keeps its power");
        let found: BTreeSet<OpId> = self.states.iter().flat_map(State::after_power_loss).collect();
        self.states = found.into_iter().map(State::holding).collect();
    }

    /// The last events of this sector, for a person.
    fn story(&self, at: usize) -> String {
        let mut lines = vec![format!("unit {}, sector {}:", self.lun, self.sector)];
        let mut events = Vec::new();
        for (number, event) in self.history.events[..=at].iter().enumerate() {
            match *event {
                Event::Begin(id) | Event::End(id) if !self.concerns(id) => {}
                Event::Begin(id) => {
                    let op = self.history.op(id);
                    events.push(format!("{number:>6} begin {id:>4} host {} {}", op.host, short(&op.kind)));
                }
                Event::End(id) => {
                    let op = self.history.op(id);
                    let seen = self.at(op, &op.seen).map(|value| format!(" saw {value}")).unwrap_or_default();
                    events.push(format!("{number:>6}   end {id:>4} {:?}{seen}", op.outcome));
                }
                Event::PowerLoss => events.push(format!("{number:>6} power loss")),
                Event::Kill => events.push(format!("{number:>6} kill")),
            }
        }
        let skip = events.len().saturating_sub(HISTORY_LINES);
        lines.extend(events.into_iter().skip(skip));
        lines.join("\n")
    }
}

fn short(kind: &Kind) -> String {
    match kind {
        Kind::CompareAndWrite { .. } => "CompareAndWrite".into(),
        kind => format!("{kind:?}"),
    }
}
