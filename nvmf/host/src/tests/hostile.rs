//! Controllers that lie: in pages and completions, between PDUs, at any time. Whatever they say, the host does not fall over, every I/O
//! is answered, and nothing of it is left.

use nvme_spec::fabrics::{AUTHREQ_SECURE_CHANNEL, AUTHREQ_TRANSACTION};
use nvmf_proto::testing::noise::Noise;

use super::*;
use crate::error::EndCause;
use crate::testing::Spoil;

/// Turns under lies.
const TURNS: u32 = 1500;
const IN_FLIGHT_MAX: usize = 24;

/// An I/O of any kind on blocks that the controller claims to have.
fn any_io(rig: &mut Rig, noise: &mut Noise) {
    let info = rig.namespace.info();
    let length_blocks = 1 + noise.below(8) as u64;
    let Some(last) = info.length_blocks.checked_sub(length_blocks) else { return };
    let extent = Extent { lba: (noise.below(1 << 30) as u64).min(last), length_blocks };
    let compared = Op::CompareAndWrite { extent, fua: noise.below(2) == 0 };
    let op = match noise.below(8) {
        0 | 1 => Op::Read(extent),
        2 | 3 => Op::Write { extent, fua: noise.below(2) == 0 },
        4 => Op::Flush,
        5 => Op::Unmap(extent),
        6 if rig.namespace.comparing(&Op::Compare(extent)) != volume::bdev::Comparing::Volume => {
            Op::Compare(extent)
        }
        7 if rig.namespace.comparing(&compared) != volume::bdev::Comparing::Volume => compared,
        _ => return,
    };
    rig.submit_blocks(op, info.logical_block_bytes);
}

fn play(seed: u64) -> [usize; 2] {
    let mut noise = Noise::seeded(!seed);
    let ms = Duration::from_millis;
    let one_in = 4 + seed as usize % 30;
    let mut rig = Rig::begin(2, |target, config| {
        (0..2).for_each(|port| target.script(port).spoil = Some(Spoil::new(2 * seed + port as u64, one_in)));
        let timeouts = &mut config.timeouts;
        (timeouts.connect, timeouts.admin, timeouts.io) = (ms(300), ms(300), ms(400));
        (timeouts.no_path, timeouts.keep_alive, timeouts.quiesce_unreported) = (ms(1500), ms(1000), ms(100));
    });
    let [mut done, mut good] = [0, 0];
    for _ in 0..TURNS {
        if rig.namespace.is_known() && rig.namespace.in_flight() < IN_FLIGHT_MAX {
            any_io(&mut rig, &mut noise);
        }
        rig.turn();
        done += rig.answered.len();
        good += rig.answered.drain(..).filter(|done| done.status.is_good()).count();
    }
    (0..2).for_each(|port| rig.target.script(port).spoil = None);
    // Nothing is waited for for ever: CQT may be claimed to be 65 s.
    let seldom = |rig: &mut Rig| rig.world.advance(Duration::from_millis(20));
    rig.until("every I/O is answered", |rig| {
        seldom(rig);
        rig.namespace.in_flight() == 0
    });
    rig.answered.clear();
    rig.namespace.close();
    rig.until("it is closed", |rig| {
        seldom(rig);
        rig.namespace.is_closed()
    });
    assert_eq!(rig.core.buffers.in_use(), 0, "seed {seed}: every buffer is back");
    [done, good]
}

#[test]
fn whatever_a_controller_says_every_io_is_answered_and_nothing_is_left() {
    let sums = (0..12).map(play).fold([0, 0], |sum, one| [sum[0] + one[0], sum[1] + one[1]]);
    // Else the lies began too early to reach what they are about.
    assert!(sums[0] > 2_500 && sums[1] > 500, "{sums:?}");
}

#[test]
fn a_controller_that_wants_authentication_is_left_by_name() {
    for authreq in [AUTHREQ_TRANSACTION, AUTHREQ_SECURE_CHANNEL] {
        let mut rig = Rig::begin(1, |target, _| target.script(0).authreq = authreq);
        rig.until("it is left", |rig| rig.namespace.paths()[0].last_end.is_some());
        assert_eq!(rig.namespace.paths()[0].last_end, Some(EndCause::AuthenticationRequired));
        assert!(!rig.namespace.is_known());
    }
}
