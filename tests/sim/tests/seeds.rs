//! Seeds: those of today, those that once failed, and the same one twice.

use sim::options::Options;
use sim::run::{run, run_with};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn check(seed: u64) {
    let print = std::env::var_os("VEGA_SIM_TRACE").is_some();
    if let Err(violation) = run(seed, None, print) {
        panic!(
            "seed {seed}: {violation}\nagain: VEGA_SIM_SEEDS=1 VEGA_SIM_SEED={seed} VEGA_SIM_TRACE=1 \
             cargo test -p sim --test seeds new_seeds"
        );
    }
}

#[test]
fn new_seeds_keep_every_promise() {
    let first = number("VEGA_SIM_SEED", 1);
    (first..first + number("VEGA_SIM_SEEDS", 60)).for_each(check);
}

#[test]
fn seeds_that_once_failed_keep_every_promise() {
    let seeds = include_str!("../seeds.txt").lines().map(|line| line.split('#').next().unwrap_or("").trim());
    seeds.filter(|line| !line.is_empty()).for_each(|line| {
        check(line.parse().expect("a line is a seed and a comment"));
    });
}

/// A world of many connections and impatient hosts.
fn overtake(seed: u64) {
    let mut options = Options::draw(seed);
    (options.connections, options.ops) = (3, 120);
    options.queue_depth = options.queue_depth.max(4);
    (options.abuse.abort_permille, options.abuse.reset_permille) = (100, 100);
    (options.abuse.drop_permille, options.abuse.logout_permille) = (0, 0);
    options.endings.clear();
    if let Err(violation) = run_with(options, None, std::env::var_os("VEGA_SIM_TRACE").is_some()) {
        panic!(
            "seed {seed}: {violation}\nagain: VEGA_SIM_SEEDS=1 VEGA_SIM_SEED={seed} VEGA_SIM_TRACE=1 cargo test \
             -p sim --test seeds overtake"
        );
    }
}

/// A function overtakes commands, and commands overtake it.
#[test]
fn functions_and_commands_overtake_each_other() {
    let first = number("VEGA_SIM_SEED", 1);
    (first..first + number("VEGA_SIM_SEEDS", 16)).for_each(overtake);
}

/// 12 and 236: a login joined a session that had logged out, and whose last connections were still to close.
#[test]
fn overtakers_that_once_failed_keep_every_promise() {
    [12, 236].into_iter().for_each(overtake);
}

#[test]
fn a_seed_is_a_history() {
    for seed in 1..8 {
        assert_eq!(run(seed, None, false), run(seed, None, false), "seed {seed}");
    }
}

#[test]
#[ignore = "prints how long seeds take"]
fn times() {
    let first = number("VEGA_SIM_SEED", 1);
    for seed in first..first + number("VEGA_SIM_SEEDS", 60) {
        let start = std::time::Instant::now();
        let report = run(seed, None, false);
        println!("{seed} {:?} {report:?}", start.elapsed());
    }
}
