//! Whole runs over an emulated controller: the driver, its queue pairs and the generator, on a core of their own.

use bench::{BenchError, Order, Plan, Report, Stop};

/// Runs of so many bytes: however fast the machine is, they are the same runs.
fn plan(words: &str, read_percent: u8, bytes: u64) -> Plan {
    let plan = Plan::for_text(words).expect("a target");
    Plan { read_percent, bytes_max: Some(bytes), depth: 16, verify: true, ..plan }
}

fn run(plan: &Plan) -> Report {
    bench::run(plan, &Stop::default()).expect("a good run")
}

#[test]
fn an_emulated_controller_keeps_what_is_written() {
    for block in [512, 4096] {
        let words = format!("trtype=emulated size=16MiB block={block}");
        let report = run(&Plan { queues: 2, ..plan(&words, 50, 8 << 20) });
        assert!(report.is_good() && report.split.is_none(), "{}", report.table());
        assert_eq!(
            (report.logical_block_bytes, report.length_blocks),
            (block, (16 << 20) / u64::from(block))
        );
        assert_eq!(report.total.completed, (8 << 20) / 4096);
        let verified = report.verification.expect("it verifies");
        assert!(verified.checked_blocks > 100, "{verified:?}");
        let controller = report.controller.expect("it was driven here");
        assert_eq!(controller.facts.serial, "VEGA0000000000000001");
        // A doorbell for each turn and queue, not for each command.
        assert_eq!(controller.commands, report.total.completed);
        assert!(
            controller.submission_doorbells > 0 && controller.doorbells_per_command < 1.0,
            "{controller:?}"
        );
    }
}

#[test]
fn commands_alone_have_a_doorbell_each_way() {
    let report = run(&Plan { depth: 1, ..plan("nvme-emulated://16MiB", 100, 1 << 20) });
    // Reads of what was never written can prove nothing.
    assert!(!report.is_good() && report.total.failed == 0);
    let controller = report.controller.expect("it was driven here");
    assert_eq!(controller.doorbells_per_command, 2.0, "{controller:?}");
}

#[test]
fn a_plan_that_does_not_fit_is_refused_before_anything_is_written() {
    let big = Plan { depth: 20, request_bytes: 1 << 20, ..plan("nvme-emulated://16MiB", 0, 64 << 20) };
    let error = bench::run(&big, &Stop::default()).expect_err("it is too small");
    assert!(matches!(error, BenchError::TooSmall { .. }), "{error}");
    let odd = Plan { request_bytes: 512, ..plan("nvme-emulated://16MiB", 0, 64 << 20) };
    let error = bench::run(&odd, &Stop::default()).expect_err("its blocks are longer");
    assert!(matches!(error, BenchError::BlockSize { logical_block_bytes: 4096, .. }), "{error}");
    let order = Order::Sequential;
    let fits = Plan { order, request_bytes: 1 << 20, depth: 4, ..plan("nvme-emulated://16MiB", 0, 16 << 20) };
    let report = run(&fits);
    assert_eq!((report.total.completed, report.is_good()), (16, true));
}
