//! Atomic writes of files, cut short at every step, and the proof that a mistake would be found.

use sim::atomic::{BUGS, Bug, Case, Cut, run};

/// Seeds that may be tried for one bug.
const SEEDS: u64 = 60;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn hold(cut: Cut, faults: bool) {
    let first = number("VEGA_SIM_SEED", 1);
    let mut cuts = 0;
    for seed in first..first + number("VEGA_SIM_SEEDS", 12) {
        match run(Case { seed, cut, faults, bug: None }) {
            Ok(steps) => cuts += steps,
            Err(violation) => panic!("seed {seed}: {violation}"),
        }
    }
    assert!(cuts > 100, "a history has many steps");
}

#[test]
fn after_a_kill_at_any_step() {
    hold(Cut::Kill, false);
}

#[test]
fn after_a_power_cut_at_any_step() {
    hold(Cut::Power, false);
}

#[test]
fn after_a_power_cut_at_any_step_and_another_while_the_file_is_opened() {
    hold(Cut::PowerTwice, false);
}

#[test]
fn after_a_kill_at_any_step_and_a_power_cut_while_the_file_is_opened() {
    hold(Cut::KillAndPower, false);
}

#[test]
fn after_a_power_cut_at_any_step_of_failing_disks() {
    hold(Cut::Power, true);
}

#[test]
fn after_a_kill_at_any_step_over_failing_disks() {
    hold(Cut::Kill, true);
}

#[test]
fn every_planted_bug_is_found() {
    for bug in BUGS {
        let found = (1..=SEEDS)
            .find_map(|seed| run(Case { seed, cut: Cut::Power, faults: false, bug: Some(bug) }).err());
        assert!(found.is_some(), "{bug:?} was not found in {SEEDS} seeds");
    }
}

#[test]
fn a_kill_finds_what_needs_no_power_cut() {
    for bug in [Bug::NoRecovery, Bug::NoJournal] {
        let found = (1..=SEEDS)
            .find_map(|seed| run(Case { seed, cut: Cut::Kill, faults: false, bug: Some(bug) }).err());
        assert!(found.is_some(), "{bug:?} was not found in {SEEDS} seeds");
    }
}
