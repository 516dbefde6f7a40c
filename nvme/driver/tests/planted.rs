//! The proof that the schedules can fail: every bug made on purpose is found within a bounded number of them.

mod schedule;

use nvme::planted::Planted;

/// Seeds within which each must be found.
const SEEDS: u64 = 1_500;

fn found(bug: Planted) -> Option<(u64, String)> {
    // A driver with a bug may as well trip over an assertion, its own or the device's.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let found =
        (1..=SEEDS).find_map(|seed| match std::panic::catch_unwind(|| schedule::run(seed, Some(bug))) {
            Ok(Ok(_)) => None,
            Ok(Err(what)) => Some((seed, what)),
            Err(_) => Some((seed, "an assertion".to_owned())),
        });
    std::panic::set_hook(hook);
    found
}

#[test]
fn every_planted_bug_is_found() {
    for bug in [Planted::StalePhase, Planted::CidReuse, Planted::EarlyReclaim, Planted::MissingFence] {
        let (seed, what) = found(bug).unwrap_or_else(|| panic!("{bug:?} was not found in {SEEDS} schedules"));
        println!("{bug:?}: seed {seed}: {what}");
    }
}
