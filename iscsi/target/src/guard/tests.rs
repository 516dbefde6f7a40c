use super::*;
use crate::limits::CHAP_FAILURES_UNTIL_PAUSE;

const NAME: &str = "iqn.2026-01.io.vega:a";
const OTHER: &str = "iqn.2026-01.io.vega:b";

fn address(last: u32) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::from_bits(0x0a00_0000 + last))
}

fn at(seconds: u64) -> Time {
    Time::ZERO.after(Duration::from_secs(seconds))
}

/// A pause, and that it is over after exactly so long.
fn paused_for(guard: &mut Guard, address: IpAddr, name: &str, now: Time) -> Option<Duration> {
    let pause = guard.on_failure(address, name, now);
    match pause {
        None => assert!(!guard.is_paused(address, name, now)),
        Some(pause) => {
            let last = Time::from_ns(now.after(pause).as_ns() - 1);
            assert!(guard.is_paused(address, name, now) && guard.is_paused(address, name, last));
            assert!(!guard.is_paused(address, name, now.after(pause)));
        }
    }
    pause
}

/// Of the first wrong answer until nothing of it is remembered.
fn doubles_up_to_the_longest(pauses: ChapPauses) {
    let mut guard = Guard::new(pauses);
    let mut now = at(1000);
    for _ in 1..pauses.failures_until_pause {
        assert_eq!(paused_for(&mut guard, address(1), NAME, now), None);
    }
    let mut expected = pauses.first;
    for _ in 0..100 {
        assert_eq!(paused_for(&mut guard, address(1), NAME, now), Some(expected));
        now = now.after(expected);
        expected = (expected * 2).min(pauses.longest);
    }
    assert_eq!(expected, pauses.longest);
    // Quiet for long enough, it begins anew.
    let forgotten = Guard::new(pauses).on_failure(address(1), NAME, now);
    assert_eq!(paused_for(&mut guard, address(1), NAME, now.after(pauses.forget)), forgotten);
}

#[test]
fn pauses_double_up_to_the_longest() {
    doubles_up_to_the_longest(ChapPauses::default());
    let seconds = Duration::from_secs;
    let (first, longest, forget) = (seconds(3), seconds(20), seconds(21));
    doubles_up_to_the_longest(ChapPauses { failures_until_pause: 1, first, longest, forget });
    doubles_up_to_the_longest(ChapPauses { failures_until_pause: 9, first, longest: first, forget });
}

#[test]
fn the_name_of_another_does_not_help_and_does_not_harm_it() {
    let mut guard = Guard::new(ChapPauses::default());
    for number in 0..CHAP_FAILURES_UNTIL_PAUSE {
        guard.on_failure(address(1), &format!("iqn.2026-01.io.vega:guess-{number}"), at(1));
    }
    assert!(guard.is_paused(address(1), NAME, at(1)), "another name is no way around it");
    assert!(!guard.is_paused(address(2), NAME, at(1)), "elsewhere the same name is served");
}

#[test]
fn a_name_that_has_proven_itself_is_judged_by_its_own_failures() {
    let mut guard = Guard::new(ChapPauses::default());
    guard.on_success(address(1), NAME, at(1));
    for _ in 0..50 {
        guard.on_failure(address(1), OTHER, at(2));
    }
    assert!(guard.is_paused(address(1), OTHER, at(2)) && !guard.is_paused(address(1), NAME, at(2)));
    for _ in 0..CHAP_FAILURES_UNTIL_PAUSE {
        guard.on_failure(address(1), NAME, at(2));
    }
    assert!(guard.is_paused(address(1), NAME, at(2)));
    // A success wipes its own, and not those of the others.
    guard.on_success(address(1), NAME, at(3));
    assert!(guard.is_paused(address(1), OTHER, at(3)) && !guard.is_paused(address(1), NAME, at(3)));
}

#[test]
fn memory_is_bounded_and_a_flood_ends_no_pause() {
    let mut guard = Guard::new(ChapPauses::default());
    for _ in 0..=CHAP_FAILURES_UNTIL_PAUSE {
        guard.on_failure(address(0), NAME, at(1));
    }
    for last in 1..3 * CHAP_PEERS_MAX as u32 {
        guard.on_failure(address(last), NAME, at(2));
    }
    assert_eq!(guard.records.len(), CHAP_PEERS_MAX);
    assert!(guard.is_paused(address(0), NAME, at(2)));
    let mut guard = Guard::new(ChapPauses::default());
    for name in 0..10 * CHAP_PROVEN_MAX {
        guard.on_success(address(1), &format!("iqn.2026-01.io.vega:{name}"), at(1));
    }
    assert_eq!(guard.records.len(), CHAP_PROVEN_MAX);
}

#[test]
fn an_ipv6_network_is_one_peer() {
    let mut guard = Guard::new(ChapPauses::default());
    for last in 0..CHAP_FAILURES_UNTIL_PAUSE {
        guard.on_failure(format!("2001:db8::1:{last}").parse().unwrap(), NAME, at(1));
    }
    assert!(guard.is_paused("2001:db8::ffff".parse().unwrap(), NAME, at(1)));
    assert!(!guard.is_paused("2001:db8:0:1::1".parse().unwrap(), NAME, at(1)));
    for _ in 0..CHAP_FAILURES_UNTIL_PAUSE {
        guard.on_failure("::ffff:10.0.0.9".parse().unwrap(), NAME, at(1));
    }
    assert!(guard.is_paused(address(9), NAME, at(1)), "the same IPv4 address, as IPv6 writes it");
}
