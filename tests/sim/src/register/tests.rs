//! The checker against histories whose verdict is known.

use super::*;

struct Story {
    history: History,
}

impl Story {
    fn new() -> Self {
        Self { history: History::default() }
    }

    fn begin(&mut self, kind: Kind) -> OpId {
        let sectors = u64::from(kind != Kind::Flush);
        let op = Op { host: 0, lun: 0, sector: 0, sectors, kind, seen: Vec::new(), outcome: None };
        self.history.begin(op)
    }

    fn end(&mut self, id: OpId, outcome: Outcome) {
        self.history.end(id, outcome, Vec::new());
    }

    fn write(&mut self) -> OpId {
        let id = self.begin(Kind::Write { fua: false });
        self.end(id, Outcome::Good);
        id
    }

    fn read(&mut self, seen: Value) {
        let id = self.begin(Kind::Read);
        self.history.end(id, Outcome::Good, vec![seen]);
    }

    fn flush(&mut self) {
        let id = self.begin(Kind::Flush);
        self.end(id, Outcome::Good);
    }

    fn holds(&self) -> bool {
        check(&self.history, true, 1).is_ok()
    }
}

#[test]
fn a_read_after_a_write_sees_it_or_a_later_one() {
    let mut story = Story::new();
    let a = story.write();
    story.read(a);
    let b = story.begin(Kind::Write { fua: false });
    story.read(a);
    story.read(b);
    assert!(story.holds());
    story.read(a);
    assert!(!story.holds(), "new, then old again");
}

#[test]
fn stale_and_lost_are_found() {
    for stale in [0, 1] {
        let mut story = Story::new();
        story.write();
        story.write();
        story.read(stale);
        assert!(!story.holds());
    }
}

#[test]
fn a_fenced_write_has_happened_by_then_or_never_does() {
    let mut story = Story::new();
    let old = story.write();
    let fenced = story.begin(Kind::Write { fua: false });
    story.end(fenced, Outcome::Ended);
    let mut other = Story { history: story.history.clone() };
    story.read(old);
    assert!(story.holds());
    story.read(fenced);
    assert!(!story.holds(), "a ghost");
    other.read(fenced);
    other.read(fenced);
    assert!(other.holds());
    let new = other.write();
    other.read(new);
    assert!(other.holds());
    other.read(fenced);
    assert!(!other.holds(), "a ghost after a new write");
}

#[test]
fn a_refused_write_never_happened() {
    let mut story = Story::new();
    let refused = story.begin(Kind::Write { fua: false });
    story.end(refused, Outcome::Refused);
    assert!(story.holds());
    story.read(refused);
    assert!(!story.holds());
}

#[test]
fn power_loss_brings_back_what_no_flush_covers() {
    for (seen, allowed) in [(0, false), (1, false), (2, true), (3, true), (4, true), (5, false)] {
        let mut story = Story::new();
        let (_first, _second) = (story.write(), story.write());
        story.flush();
        let _third_is_the_flush = story.write();
        let open = story.begin(Kind::Write { fua: false });
        story.history.events.push(Event::PowerLoss);
        let seen = match seen {
            3 => open,
            5 => 3,
            other => other,
        };
        story.read(seen);
        story.read(seen);
        assert_eq!(story.holds(), allowed, "{seen}");
    }
}

#[test]
fn a_kill_keeps_what_was_acknowledged() {
    let mut story = Story::new();
    let a = story.write();
    let open = story.begin(Kind::Write { fua: false });
    story.history.events.push(Event::Kill);
    for seen in [a, open] {
        let mut then = Story { history: story.history.clone() };
        then.read(seen);
        assert!(then.holds());
        then.read(a + open - seen);
        assert!(!then.holds(), "an outcome that was seen is final");
    }
    story.read(0);
    assert!(!story.holds());
}

#[test]
fn compare_and_write_needs_what_it_expects() {
    let mut story = Story::new();
    let a = story.write();
    let swap = story.begin(Kind::CompareAndWrite { expected: vec![0] });
    story.end(swap, Outcome::Good);
    assert!(!story.holds());
    let mut story = Story::new();
    assert_eq!(story.write(), a);
    let swap = story.begin(Kind::CompareAndWrite { expected: vec![a] });
    story.end(swap, Outcome::Good);
    story.read(swap);
    assert!(story.holds());
}

#[test]
fn two_writes_at_once_may_end_in_either_order() {
    for (seen, again, allowed) in [(1, 1, true), (2, 2, true), (1, 2, false), (2, 1, false), (0, 0, false)] {
        let mut story = Story::new();
        let (a, b) = (story.begin(Kind::Write { fua: false }), story.begin(Kind::Write { fua: false }));
        story.end(a, Outcome::Good);
        story.end(b, Outcome::Good);
        story.read(seen);
        story.read(again);
        assert_eq!(story.holds(), allowed);
    }
}
