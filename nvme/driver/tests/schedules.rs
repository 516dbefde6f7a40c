//! Seeded schedules of driver against controller, with faults on: nothing is lost, nothing is stuck, no block is wrong.
//!
//! `VEGA_NVME_SEEDS` says how many (`make test` runs 10 000 of them in the release build), `VEGA_NVME_SEED` which one first.

mod schedule;

use schedule::{Report, run};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn schedules_with_faults_lose_nothing_and_end() {
    let (first, count) = (number("VEGA_NVME_SEED", 1), number("VEGA_NVME_SEEDS", 1_000));
    let mut total = Report::default();
    for seed in first..first + count {
        match std::panic::catch_unwind(|| run(seed, None)) {
            Ok(Ok(report)) => total.add(&report),
            Ok(Err(what)) => panic!("VEGA_NVME_SEED={seed} VEGA_NVME_SEEDS=1: {what}"),
            Err(_) => panic!("VEGA_NVME_SEED={seed} VEGA_NVME_SEEDS=1: panicked"),
        }
    }
    println!("{count} schedules: {total:?}");
    if count >= 1_000 {
        // What never happens is not tested.
        let seen = [total.resets, total.function_resets, total.aborts, total.spurious, total.ended];
        assert!(seen.iter().all(|times| *times > 0), "{total:?}");
        assert!(total.good * 10 > total.ios * 8, "most I/O succeeds: {total:?}");
    }
}

/// The same seed gives the same schedule: a failure can be looked at again.
#[test]
fn a_schedule_is_its_seed() {
    for seed in 1..20 {
        let reports = [run(seed, None), run(seed, None)].map(|report| format!("{report:?}"));
        assert_eq!(reports[0], reports[1]);
    }
}
