//! Ways into volumes: opened with the first mapping, given back after the last, waited for.

use volume::shared::VolumeError;

use super::*;

fn remove_volume(bench: &mut Bench) -> mpsc::Receiver<Result<(), VolumeError>> {
    let (told, answer) = mpsc::channel();
    bench.registry.remove(VOLUME, Box::new(move |result| drop(told.send(result))));
    bench.turns();
    answer
}

#[test]
fn a_volume_is_closed_after_the_last_io_of_a_target_that_is_gone() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    assert_eq!(remove_volume(&mut bench).try_recv(), Ok(Err(VolumeError::InUse { name: VOLUME.into() })));
    bench.close_gate();
    client.command(&mut bench, &write_10(0, 1), Data::Out(&[1; BLOCK]));
    let name = TARGET.to_owned();
    assert_eq!(bench.ask(|answer| CoreMessage::RemoveTarget { name, answer }), Ok(()));
    let removed = remove_volume(&mut bench);
    assert!(removed.try_recv().is_err(), "its last write is with the device");
    bench.open_gate();
    bench.turns();
    assert_eq!(removed.try_recv(), Ok(Ok(())));
    assert_eq!(bench.core.buffers.in_use(), 0);
}

#[test]
fn a_volume_that_is_mapped_again_before_it_is_free_stays() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    bench.close_gate();
    client.command(&mut bench, &write_10(0, 1), Data::Out(&[1; BLOCK]));
    let name = TARGET.to_owned();
    assert_eq!(bench.ask(|answer| CoreMessage::RemoveTarget { name, answer }), Ok(()));
    bench.set_target();
    assert_eq!(remove_volume(&mut bench).try_recv(), Ok(Err(VolumeError::InUse { name: VOLUME.into() })));
    bench.open_gate();
    let mut again = bench.client(1);
    assert_eq!(again.run(&mut bench, &write_10(0, 1), Data::Out(&[1; BLOCK])), 0);
}

#[test]
fn a_volume_that_grows_is_announced_to_its_sessions() {
    let mut bench = Bench::new();
    let mut client = bench.client(1);
    let refused = bench.registry.resize(VOLUME, 1);
    assert!(matches!(refused, Err(VolumeError::Shrinks { .. })));
    // The gated device does not grow; what matters is that asking for its own size tells nobody.
    assert!(bench.registry.resize(VOLUME, (4 << 20) / BLOCK as u64).is_err());
    assert_eq!(client.run(&mut bench, &[0; 6], Data::None), 0);
}

#[test]
fn draining_lets_go_of_the_volumes_and_leaves_them_open() {
    let mut bench = Bench::new();
    let _client = bench.client(1);
    let (told, drained) = mpsc::channel();
    assert!(
        bench
            .control
            .send(CoreMessage::Drain(Box::new(move |()| told.send(()).expect("the test listens"))))
            .is_ok()
    );
    for _ in 0..100 {
        bench.turn();
        bench.world.advance(Duration::from_millis(100));
    }
    assert_eq!(drained.try_recv(), Ok(()));
    let removed = remove_volume(&mut bench);
    assert_eq!(removed.try_recv(), Ok(Ok(())), "no way in is left");
}
