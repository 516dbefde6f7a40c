use std::io::{IoSliceMut, Write};
use std::net::TcpStream;
use std::time::Duration;

use super::*;
use crate::limits::{HOT_STREAMS_MAX, HOT_TURNS_MAX};
use crate::net::{Ready, Stream, StreamError};
use crate::wake::Waker;

struct Rig {
    uring: Uring,
    network: TcpNetwork,
    group: Box<dyn StreamGroup>,
    streams: Vec<Box<dyn Stream>>,
    clients: Vec<TcpStream>,
}

impl Rig {
    /// `count` connected streams with tokens from 0.
    fn new(count: usize) -> Self {
        let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
        let network = TcpNetwork::new(uring.clone(), Arc::new(CoreStats::new("test")));
        let group = network.group();
        let mut rig = Self { uring, network, group, streams: Vec::new(), clients: Vec::new() };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        for token in 0..count {
            rig.clients.push(TcpStream::connect(listener.local_addr().expect("bound")).expect("it listens"));
            let (server, _) = listener.accept().expect("connected");
            let parcel = crate::net::StreamParcel::Socket(server.into());
            rig.streams.push(rig.group.adopt(parcel, token as u32).expect("connected"));
        }
        rig
    }

    /// One turn in which every named stream is read empty: who was named, who had bytes.
    fn turn(&mut self) -> (usize, Vec<u32>) {
        self.uring.submit();
        self.uring.reap();
        let mut ready: Vec<Ready> = Vec::new();
        self.group.take_ready(&mut ready, 32);
        let mut had_bytes = Vec::new();
        for ready in &ready {
            let stream = &mut self.streams[ready.token as usize];
            let mut bytes = [0; 64];
            match stream.try_recv(&mut [IoSliceMut::new(&mut bytes)]) {
                Ok(_) => {
                    self.group.note_drained(ready.token, true);
                    had_bytes.push(ready.token);
                }
                Err(error) => assert_eq!(error, StreamError::WouldBlock),
            }
        }
        (ready.len(), had_bytes)
    }

    /// Turns until nobody is named.
    fn settle(&mut self) {
        for _ in 0..=2 * HOT_TURNS_MAX + 200 {
            if self.turn().0 == 0 {
                return;
            }
        }
        panic!("quiet streams are still tried");
    }

    /// Turns until `token` had bytes.
    fn until_heard(&mut self, token: u32) {
        for _ in 0..1000 {
            if self.turn().1.contains(&token) {
                return;
            }
            self.uring.sleep(Duration::from_millis(1));
        }
        panic!("{token} was never named");
    }

    fn say(&mut self, token: u32) {
        self.clients[token as usize].write_all(b"x").expect("connected");
    }
}

#[test]
fn quiet_streams_cost_nothing_per_turn() {
    let mut rig = Rig::new(200);
    rig.settle();
    for token in [0, 57, 199] {
        rig.say(token);
        rig.until_heard(token);
        assert_eq!(rig.turn().0, 1, "hot: tried without being asked");
        rig.settle();
    }
}

#[test]
fn few_are_hot_and_all_are_heard() {
    let mut rig = Rig::new(30);
    rig.settle();
    for _ in 0..20 {
        for token in 0..30 {
            rig.say(token);
        }
        let mut waiting: Vec<u32> = (0..30).collect();
        for _ in 0..10_000 {
            let (_, heard) = rig.turn();
            waiting.retain(|token| !heard.contains(token));
            if waiting.is_empty() {
                break;
            }
        }
        assert!(waiting.is_empty(), "{waiting:?} were not heard");
    }
    let (named, _) = (0..3).map(|_| rig.turn()).last().expect("three turns");
    assert!(named <= HOT_STREAMS_MAX, "{named} are tried every turn");
}

#[test]
fn a_newcomer_takes_the_place_of_a_quiet_one() {
    let mut rig = Rig::new(HOT_STREAMS_MAX + 1);
    rig.settle();
    for token in 0..=HOT_STREAMS_MAX as u32 {
        rig.say(token);
        rig.until_heard(token);
        (0..20).for_each(|_| drop(rig.turn()));
    }
    assert_eq!(rig.turn().0, HOT_STREAMS_MAX);
    // The last one is among them: heard in the very next turn, without a poll.
    rig.say(HOT_STREAMS_MAX as u32);
    assert_eq!(rig.turn().1, [HOT_STREAMS_MAX as u32]);
}

#[test]
fn before_sleep_everything_is_armed_and_wakes() {
    let mut rig = Rig::new(3);
    rig.settle();
    rig.say(1);
    rig.until_heard(1);
    assert_eq!(rig.turn().0, 1);
    assert!(rig.network.arm_all(), "all quiet");
    assert_eq!(rig.turn().0, 0, "nobody is tried");
    rig.say(1);
    rig.say(2);
    rig.until_heard(1);
    rig.say(2);
    rig.until_heard(2);
    // Readable and not read yet: no time to sleep.
    let mut ready = Vec::new();
    rig.settle();
    rig.say(0);
    while ready.is_empty() {
        rig.uring.sleep(Duration::from_millis(10));
        rig.uring.reap();
        rig.group.take_ready(&mut ready, 32);
    }
    rig.group.pause_recv(0, true);
    assert!(rig.network.arm_all(), "a paused stream does not keep the core awake");
    rig.group.pause_recv(0, false);
    assert!(!rig.network.arm_all());
    assert_eq!(rig.turn().1, [0]);
}

#[test]
fn a_removed_group_is_forgotten() {
    let rig = Rig::new(2);
    drop(rig.group);
    assert!(rig.network.arm_all());
    assert_eq!(rig.network.groups.borrow().len(), 0);
    assert_eq!(rig.network.stats.connections.get(), 0);
}
