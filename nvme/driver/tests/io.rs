//! Data, by every way there is to describe it.

mod rig;

use nvme::{Config, IoOp, Outcome, Readiness};
use nvme_emulated::{ControllerConfig, Format, NamespaceConfig};
use nvme_spec::Status;
use reactor::buffer::Sgl;
use rig::{BLOCKS, Rig, device_config, quick};

fn everything(device: ControllerConfig, config: Config) {
    let mut rig = Rig::new(device, config);
    let per_page = 4096 / rig.block_bytes();
    for (salt, (lba, blocks)) in (1..).zip([
        (0, 1),
        (7, 8),
        (BLOCKS - 1, 1),
        (3, 5 * per_page + 1),
        (100, 300),
        (0, 1024),
        (1, 2 * per_page),
    ]) {
        let data = rig.pattern(lba, blocks, salt);
        assert_eq!(rig.write(lba, &data), Outcome::Success, "{lba} {blocks}");
        assert_eq!(rig.read(lba, blocks), Ok(data.clone()), "{lba} {blocks}");
        assert_eq!(rig.emulated.peek(1, lba, blocks), data);
    }
    let zeros = vec![0; (200 * rig.block_bytes()) as usize];
    for (deallocate, fua) in [(false, false), (false, true), (true, false), (true, true)] {
        let data = rig.pattern(50, 200, 9);
        assert_eq!(rig.write(50, &data), Outcome::Success);
        let done = rig.io(IoOp::WriteZeroes { deallocate, fua }, 50, 200, Sgl::empty());
        assert_eq!(done.outcome, Outcome::Success);
        assert_eq!(rig.read(50, 200).expect("readable"), zeros);
    }
    assert_eq!(rig.flush(), Outcome::Success);
    rig.assert_clean();
}

fn with(change: impl Fn(&mut ControllerConfig)) {
    for format in [Format::Block512, Format::Block4096] {
        let mut device = device_config(format);
        change(&mut device);
        everything(device, quick());
    }
}

#[test]
fn everything_offered() {
    with(|_| {});
}

#[test]
fn prp_lists_only() {
    with(|device| device.sgl = false);
}

#[test]
fn tiny_transfers() {
    with(|device| device.mdts = 1);
}

#[test]
fn tiny_transfers_across_boundaries_on_a_tiny_queue() {
    for format in [Format::Block512, Format::Block4096] {
        let mut device = ControllerConfig { mdts: 2, queue_entries_max: 3, ..device_config(format) };
        device.namespaces[0].optimal_boundary_blocks = 6;
        everything(device, quick());
    }
}

#[test]
fn without_write_zeroes_and_with_advice_only() {
    with(|device| device.write_zeroes = false);
    with(|device| (device.write_zeroes, device.dataset_management) = (false, false));
}

#[test]
fn without_a_cache() {
    with(|device| device.volatile_write_cache = false);
}

#[test]
fn shadow_doorbells() {
    for format in [Format::Block512, Format::Block4096] {
        everything(device_config(format), Config { shadow_doorbells: true, ..quick() });
    }
    let mut rig = Rig::new(device_config(Format::Block512), Config { shadow_doorbells: true, ..quick() });
    let tags: Vec<u64> = (0..20)
        .map(|n| {
            let sgl = rig.alloc(1);
            rig.submit(IoOp::Read, n, 1, sgl)
        })
        .collect();
    for tag in tags {
        assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    }
    assert!(rig.stats().doorbells_saved.get() > 0, "the register is written only when it must be");
    rig.controller.reset(rig.now);
    rig.run_until("stopped", |rig| !rig.queue().is_live());
    rig.run_until("live again", |rig| rig.queue().is_live());
    assert_eq!(rig.flush(), Outcome::Success, "and after a reset");
}

#[test]
fn wide_doorbells() {
    let device =
        ControllerConfig { doorbell_stride: 3, shadow_doorbells: false, ..device_config(Format::Block512) };
    everything(device, quick());
}

#[test]
fn several_namespaces_share_a_queue_pair() {
    let namespaces = vec![
        NamespaceConfig::new(1, 1000, Format::Block512),
        NamespaceConfig::new(2, 1000, Format::Block4096),
    ];
    let mut rig = Rig::new(ControllerConfig { namespaces, ..ControllerConfig::default() }, quick());
    let (small, large) = (vec![1; 512], vec![2; 4096]);
    let (a, b) = (rig.list(&small), rig.list(&large));
    let write = IoOp::Write { fua: true };
    let (a, b) = (rig.submit_to(0, write, 5, 1, a), rig.submit_to(1, write, 5, 1, b));
    let (a, b) = (rig.wait(a), rig.wait(b));
    assert_eq!((a.outcome, a.namespace, b.outcome, b.namespace), (Outcome::Success, 0, Outcome::Success, 1));
    assert_eq!((rig.emulated.peek(1, 5, 1), rig.emulated.peek(2, 5, 1)), (small, large));
    drop((a.sgl, b.sgl));
    rig.assert_clean();
}

#[test]
fn a_list_that_prp_entries_cannot_describe_goes_as_an_sgl() {
    let ragged = |rig: &Rig| {
        let mut sgl = rig.list(&[1; 512]);
        sgl.append(rig.list(&[2; 1024]));
        sgl.append(rig.list(&[3; 4096]));
        sgl
    };
    let mut rig = Rig::new(device_config(Format::Block512), quick());
    let sgl = ragged(&rig);
    let expected = sgl.to_vec();
    assert!(rig.queue().describes(&sgl));
    assert_eq!(rig.io(IoOp::Write { fua: false }, 9, 11, sgl).outcome, Outcome::Success);
    assert_eq!(rig.read(9, 11), Ok(expected.clone()));
    let sgl = ragged(&rig);
    assert_eq!(rig.io(IoOp::Read, 9, 11, sgl).sgl.to_vec(), expected);
    assert_eq!(rig.stats().sgl.get(), 2);
    rig.assert_clean();
    let without = ControllerConfig { sgl: false, ..device_config(Format::Block512) };
    let rig = Rig::new(without, quick());
    assert!(!rig.queue().describes(&ragged(&rig)), "the caller is told before");
}

#[test]
fn compare_and_verify() {
    let mut rig = Rig::new(ControllerConfig { mdts: 2, ..device_config(Format::Block512) }, quick());
    let data = rig.pattern(0, 100, 1);
    assert_eq!(rig.write(0, &data), Outcome::Success);
    let sgl = rig.list(&data);
    assert_eq!(rig.io(IoOp::Compare, 0, 100, sgl).outcome, Outcome::Success);
    let mut other = data.clone();
    other[70 * 512] ^= 1;
    let sgl = rig.list(&other);
    match rig.io(IoOp::Compare, 0, 100, sgl).outcome {
        Outcome::Failed { status, lba } => {
            assert_eq!(status.code(), Status::COMPARE_FAILURE);
            assert!(lba <= 70 && lba + 32 > 70, "the command that found it");
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(rig.io(IoOp::Verify, 0, 100, Sgl::empty()).outcome, Outcome::Success);
    rig.emulated.spoil_reads(1, 55..56).expect("it is there");
    let outcome = rig.io(IoOp::Verify, 0, 100, Sgl::empty()).outcome;
    assert!(matches!(outcome, Outcome::Failed { lba: 55, .. }), "{outcome:?}");
    rig.assert_clean();
}

#[test]
fn advice_to_deallocate_is_passed_on() {
    let mut rig = Rig::new(device_config(Format::Block4096), quick());
    let data = rig.pattern(0, 64, 1);
    assert_eq!(rig.write(0, &data), Outcome::Success);
    assert_eq!(rig.flush(), Outcome::Success);
    let before = rig.emulated.allocated_bytes(1).expect("it is there");
    assert_eq!(rig.io(IoOp::Deallocate, 0, 64, Sgl::empty()).outcome, Outcome::Success);
    assert_eq!(rig.flush(), Outcome::Success);
    assert!(rig.emulated.allocated_bytes(1).expect("it is there") < before);
    rig.assert_clean();
}

#[test]
fn a_full_queue_says_later_and_loses_nothing() {
    let mut rig = Rig::new(device_config(Format::Block512), Config { io_queue_entries: 4, ..quick() });
    rig.stepping = false;
    let mut tags = Vec::new();
    for n in 0..3 {
        assert_eq!(rig.queue().readiness(0), Readiness::Ready);
        let sgl = rig.alloc(1);
        tags.push(rig.submit(IoOp::Read, n, 1, sgl));
    }
    assert_eq!((rig.queue().readiness(0), rig.queue().in_flight()), (Readiness::Later, 3));
    rig.stepping = true;
    for tag in tags {
        assert_eq!(rig.wait(tag).outcome, Outcome::Success);
    }
    rig.assert_clean();
}
