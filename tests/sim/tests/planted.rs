//! The proof that the simulator can fail: every planted bug is found within a bounded number of seeds.

use sim::options::{Backing, Ending, Options};
use sim::planted::{BUGS, Bug};
use sim::run::run_with;

/// Seeds that may be tried for one bug.
const SEEDS: u64 = 40;

/// A world in which the bug has a chance: what it needs happens, and what would hide it does not.
fn world(bug: Bug, seed: u64) -> Options {
    let mut options = Options::draw(seed);
    // A command that never ends is found by its host's patience, and a file is what can be flushed.
    options.backing = Backing::File { direct: true };
    match bug {
        Bug::LostFlush | Bug::LostFua => {
            options.endings = vec![Ending::PowerLoss; 3];
            options.disk.sync_error_permille = 0;
        }
        Bug::HiddenReadError => options.disk.read_error_permille = 20,
        _ => {}
    }
    if bug != Bug::HiddenReadError {
        options.disk.read_error_permille = 0;
    }
    options
}

#[test]
fn every_planted_bug_is_found() {
    for bug in BUGS {
        let found =
            (1..=SEEDS).find_map(|seed| Some((seed, run_with(world(bug, seed), Some(bug), false).err()?)));
        assert!(found.is_some(), "{bug:?} was not found in {SEEDS} seeds");
    }
}

#[test]
fn the_same_worlds_hold_without_a_bug() {
    for (bug, seed) in BUGS.into_iter().zip(1..) {
        if let Err(violation) = run_with(world(bug, seed), None, false) {
            panic!("{bug:?} seed {seed}: {violation}");
        }
    }
}
