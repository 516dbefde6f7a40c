//! The list for listeners, groups and streams.

use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use reactor::net::{Listener, Network, Ready, Stream, StreamError, StreamGroup, StreamParcel};
use reactor::sim::{NetFaults, SimEnd, SimWorld};
use reactor::stats::CoreStats;
use reactor::tcp::TcpNetwork;
use reactor::uring::Uring;
use reactor::wake::Waker;

/// The other end of a connection; never cuts, never waits.
trait Remote {
    fn send(&mut self, bytes: &[u8]) -> usize;
    fn recv(&mut self) -> Vec<u8>;
    fn close_send(&mut self);
    /// Breaks the connection.
    fn reset(self: Box<Self>);
    /// The stream under test was closed.
    fn is_closed(&mut self) -> bool;
}

struct SocketRemote(TcpStream);
impl Remote for SocketRemote {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.write(bytes).unwrap_or(0)
    }
    fn recv(&mut self) -> Vec<u8> {
        let mut bytes = vec![0; 1 << 16];
        let count = self.0.read(&mut bytes).unwrap_or(0);
        bytes.truncate(count);
        bytes
    }
    fn close_send(&mut self) {
        self.0.shutdown(std::net::Shutdown::Write).expect("connected");
    }
    fn reset(self: Box<Self>) {
        let linger = libc::linger { l_onoff: 1, l_linger: 0 };
        nix::sys::socket::setsockopt(&self.0, nix::sys::socket::sockopt::Linger, &linger).expect("a socket");
    }
    fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

struct SimRemote(SimEnd);
impl Remote for SimRemote {
    fn send(&mut self, bytes: &[u8]) -> usize {
        self.0.send_now(bytes)
    }
    fn recv(&mut self) -> Vec<u8> {
        self.0.recv_now()
    }
    fn close_send(&mut self) {
        self.0.close_send();
    }
    fn reset(self: Box<Self>) {
        self.0.reset();
    }
    fn is_closed(&mut self) -> bool {
        self.0.is_closed()
    }
}

struct Rig {
    network: Box<dyn Network>,
    connect: Box<dyn Fn(SocketAddr) -> Box<dyn Remote>>,
    /// What a core's loop does between turns.
    turn: Box<dyn Fn()>,
}

fn real() -> Rig {
    let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
    let network = TcpNetwork::new(uring.clone(), Arc::new(CoreStats::new("test")));
    let turn = move || {
        uring.submit();
        if uring.reap() == 0 {
            uring.sleep(Duration::from_micros(100));
            uring.reap();
        }
    };
    let connect = |address| {
        let socket = TcpStream::connect(address).expect("somebody listens");
        socket.set_nonblocking(true).expect("a socket");
        Box::new(SocketRemote(socket)) as Box<dyn Remote>
    };
    Rig { network: Box::new(network), connect: Box::new(connect), turn: Box::new(turn) }
}

fn simulated(seed: u64) -> Rig {
    let world = SimWorld::new(seed);
    world.set_net_faults(NetFaults { cut_permille: (seed % 4 * 300) as u32, ..NetFaults::default() });
    let network = Box::new(world.network());
    let time = world.clone();
    let connect = move |address| {
        Box::new(SimRemote(world.connect(address).expect("somebody listens"))) as Box<dyn Remote>
    };
    let turn = move || time.advance(Duration::from_micros(50));
    Rig { network, connect: Box::new(connect), turn: Box::new(turn) }
}

const TURNS_MAX: u32 = 100_000;

impl Rig {
    fn listen(&self) -> Box<dyn Listener> {
        self.network.listen("127.0.0.1:0".parse().expect("an address")).expect("a free port")
    }

    fn accept(&self, listener: &mut dyn Listener) -> StreamParcel {
        for _ in 0..TURNS_MAX {
            match listener.try_accept() {
                Ok((parcel, _peer)) => return parcel,
                Err(error) => assert_eq!(error, StreamError::WouldBlock),
            }
            (self.turn)();
        }
        panic!("no connection arrived");
    }

    /// One connected stream under `token`.
    fn pair(&self, group: &mut dyn StreamGroup, token: u32) -> (Box<dyn Stream>, Box<dyn Remote>) {
        let mut listener = self.listen();
        let remote = (self.connect)(listener.local());
        let parcel = self.accept(&mut *listener);
        (group.adopt(parcel, token).expect("connected"), remote)
    }

    /// Turns until `done` says so; `done` is told what is ready.
    fn until(
        &self,
        group: &mut dyn StreamGroup,
        mut done: impl FnMut(&mut dyn StreamGroup, &[Ready]) -> bool,
    ) {
        let mut ready = Vec::new();
        for _ in 0..TURNS_MAX {
            ready.clear();
            group.take_ready(&mut ready, 32);
            assert!(ready.len() <= 32);
            if done(group, &ready) {
                return;
            }
            (self.turn)();
        }
        panic!("it never came");
    }

    /// Receives, whenever the group says so, until `count` bytes are there.
    fn recv_exactly(&self, group: &mut dyn StreamGroup, stream: &mut dyn Stream, count: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.until(group, |_, ready| {
            for _ in ready.iter().filter(|ready| !ready.send) {
                if let Ok(got) = recv(stream, 1000) {
                    assert!(!got.is_empty(), "the end came after {} bytes", bytes.len());
                    bytes.extend(got);
                }
            }
            bytes.len() >= count
        });
        assert_eq!(bytes.len(), count);
        bytes
    }
}

/// One receive into two pieces.
fn recv(stream: &mut dyn Stream, room: usize) -> Result<Vec<u8>, StreamError> {
    let (mut head, mut tail) = (vec![0; room / 3], vec![0; room - room / 3]);
    let count = stream.try_recv(&mut [IoSliceMut::new(&mut head), IoSliceMut::new(&mut tail)])?;
    head.extend(tail);
    head.truncate(count);
    Ok(head)
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 11 + i / 255) as u8).collect()
}

fn a_new_stream_is_named_once_and_has_nothing(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, _remote) = rig.pair(group, 7);
    let mut named = 0;
    rig.until(group, |_, ready| {
        for ready in ready {
            assert_eq!(*ready, Ready { token: 7, send: false });
            assert_eq!(recv(&mut *stream, 10), Err(StreamError::WouldBlock));
            named += 1;
        }
        named > 0
    });
    assert_eq!(stream.local().ip(), stream.peer().ip());
}

fn bytes_arrive_in_order(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, mut remote) = rig.pair(group, 1);
    for length in [1, 48, 4096, 50_000] {
        let bytes = pattern(length);
        assert_eq!(remote.send(&bytes), length);
        assert_eq!(rig.recv_exactly(group, &mut *stream, length), bytes);
    }
}

fn a_full_stream_says_when_there_is_room(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, mut remote) = rig.pair(group, 1);
    let bytes = pattern(8 << 20);
    let (mut sent, mut received, mut blocked, mut waiting) = (0, Vec::new(), 0, false);
    rig.until(group, |group, ready| {
        if ready.iter().any(|ready| ready.send) {
            assert!(waiting, "nobody asked");
            waiting = false;
        }
        while sent < bytes.len() && !waiting {
            let (head, tail) = bytes[sent..].split_at((bytes.len() - sent).min(48));
            match stream.try_send(&[IoSlice::new(head), IoSlice::new(tail)]) {
                Ok(count) => {
                    assert!(count > 0);
                    sent += count;
                }
                Err(error) => {
                    assert_eq!(error, StreamError::WouldBlock);
                    group.want_send(1);
                    (blocked, waiting) = (blocked + 1, true);
                }
            }
        }
        received.extend(remote.recv());
        received.len() == bytes.len()
    });
    assert!(blocked > 0, "8 MiB fit nowhere at once");
    assert!(received == bytes);
}

fn a_peer_that_stops_sending_still_receives(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, mut remote) = rig.pair(group, 1);
    remote.send(b"last words");
    remote.close_send();
    assert_eq!(rig.recv_exactly(group, &mut *stream, 10), b"last words");
    let mut ended = false;
    rig.until(group, |_, ready| {
        for _ in ready {
            match recv(&mut *stream, 10) {
                Ok(bytes) => ended = bytes.is_empty(),
                Err(error) => assert_eq!(error, StreamError::WouldBlock),
            }
        }
        ended
    });
    let mut answer = b"answer".as_slice();
    let mut got = Vec::new();
    rig.until(group, |_, _| {
        if !answer.is_empty()
            && let Ok(count) = stream.try_send(&[IoSlice::new(answer)])
        {
            answer = &answer[count..];
        }
        got.extend(remote.recv());
        got == b"answer"
    });
}

fn a_broken_stream_is_named_and_says_so(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, remote) = rig.pair(group, 1);
    remote.reset();
    let mut broken = false;
    rig.until(group, |_, ready| {
        for _ in ready {
            match recv(&mut *stream, 10) {
                Ok(bytes) => panic!("{bytes:?} out of nowhere"),
                Err(error) => broken |= matches!(error, StreamError::Broken(_)),
            }
        }
        broken
    });
    assert!(matches!(stream.try_send(&[IoSlice::new(b"x")]), Err(StreamError::Broken(_))));
}

fn a_paused_stream_is_not_named_until_it_goes_on(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, mut remote) = rig.pair(group, 1);
    remote.send(b"a");
    assert_eq!(rig.recv_exactly(group, &mut *stream, 1), b"a");
    group.pause_recv(1, true);
    remote.send(b"b");
    let mut turns = 0;
    rig.until(group, |_, ready| {
        assert!(ready.is_empty());
        turns += 1;
        turns == 50
    });
    group.pause_recv(1, false);
    assert_eq!(rig.recv_exactly(group, &mut *stream, 1), b"b");
}

fn what_is_left_is_named_again(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (mut stream, mut remote) = rig.pair(group, 1);
    let bytes = pattern(2000);
    assert_eq!(remote.send(&bytes), 2000);
    let mut got = Vec::new();
    rig.until(group, |group, ready| {
        for _ in ready {
            // One small receive per turn.
            let result = recv(&mut *stream, 7);
            group.note_drained(1, result == Err(StreamError::WouldBlock));
            got.extend(result.unwrap_or_default());
        }
        got.len() == 2000
    });
    assert_eq!(got, bytes);
}

fn a_stream_moves_between_groups_without_losing_a_byte(rig: &Rig) {
    let first = &mut *rig.network.group();
    let (mut stream, mut remote) = rig.pair(first, 1);
    remote.send(b"before");
    assert_eq!(rig.recv_exactly(first, &mut *stream, 6), b"before");
    remote.send(b"between");
    let peer = stream.peer();
    first.remove(1);
    let parcel = stream.into_parcel();
    let second = &mut *rig.network.group();
    let mut stream = second.adopt(parcel, 99).expect("connected");
    remote.send(b"after");
    assert_eq!(stream.peer(), peer);
    assert_eq!(rig.recv_exactly(second, &mut *stream, 12), b"betweenafter");
    rig.until(first, |_, ready| {
        assert!(ready.is_empty());
        true
    });
}

fn a_dropped_stream_is_closed(rig: &Rig) {
    let group = &mut *rig.network.group();
    let (stream, mut remote) = rig.pair(group, 1);
    // Armed by now.
    let mut turns = 0;
    rig.until(group, |group, ready| {
        ready.iter().for_each(|ready| group.note_drained(ready.token, true));
        turns += 1;
        turns == 5
    });
    group.remove(1);
    drop(stream);
    rig.until(group, |_, ready| {
        assert!(ready.is_empty());
        remote.is_closed()
    });
    // The token is free again.
    let (mut stream, mut remote) = rig.pair(group, 1);
    remote.send(b"x");
    assert_eq!(rig.recv_exactly(group, &mut *stream, 1), b"x");
}

fn of_many_streams_every_one_is_served(rig: &Rig) {
    const COUNT: u32 = 60;
    let group = &mut *rig.network.group();
    let mut listener = rig.listen();
    let mut pairs: Vec<_> = (0..COUNT)
        .map(|token| {
            let remote = (rig.connect)(listener.local());
            let stream = group.adopt(rig.accept(&mut *listener), token * 1000).expect("connected");
            (stream, remote)
        })
        .collect();
    for round in 0..5_u8 {
        for (index, (_, remote)) in pairs.iter_mut().enumerate() {
            assert_eq!(remote.send(&[round, index as u8]), 2);
        }
        let mut got = vec![Vec::new(); COUNT as usize];
        rig.until(group, |_, ready| {
            for ready in ready {
                let index = (ready.token / 1000) as usize;
                got[index].extend(recv(&mut *pairs[index].0, 100).unwrap_or_default());
            }
            got.iter().enumerate().all(|(index, bytes)| *bytes == [round, index as u8])
        });
    }
}

fn a_listener_without_callers_has_nothing(rig: &Rig) {
    let mut listener = rig.listen();
    assert_ne!(listener.local().port(), 0);
    assert_eq!(listener.try_accept().expect_err("nobody calls"), StreamError::WouldBlock);
    let taken = rig.network.listen(listener.local());
    assert_eq!(taken.err().expect("the port is taken").kind(), std::io::ErrorKind::AddrInUse);
    drop(listener);
}

/// Turns until the attempt has an answer.
fn connected(rig: &Rig, to: SocketAddr) -> Result<StreamParcel, StreamError> {
    // Some systems say at once that nobody listens.
    let Ok(mut connector) = rig.network.connect(to) else { return Err(StreamError::Broken(0)) };
    for _ in 0..TURNS_MAX {
        match connector.try_finish() {
            Err(StreamError::WouldBlock) => (rig.turn)(),
            answer => {
                assert!(matches!(
                    connector.try_finish(),
                    Err(StreamError::Broken(_) | StreamError::WouldBlock)
                ));
                return answer;
            }
        }
    }
    panic!("a connection attempt without an answer");
}

fn an_outgoing_connection_is_a_stream_like_others(rig: &Rig) {
    let group = &mut *rig.network.group();
    let mut listener = rig.listen();
    let parcel = connected(rig, listener.local()).expect("somebody listens");
    let mut near = group.adopt(parcel, 1).expect("connected");
    let mut far = group.adopt(rig.accept(&mut *listener), 2).expect("connected");
    assert_eq!((near.peer(), near.local()), (far.local(), far.peer()));
    assert_eq!(near.try_send(&[IoSlice::new(b"x")]), Ok(1));
    assert_eq!(rig.recv_exactly(group, &mut *far, 1), b"x");
    assert_eq!(far.try_send(&[IoSlice::new(b"y")]), Ok(1));
    assert_eq!(rig.recv_exactly(group, &mut *near, 1), b"y");
}

fn an_attempt_that_nobody_hears_fails(rig: &Rig) {
    let listener = rig.listen();
    let address = listener.local();
    drop(listener);
    assert!(matches!(connected(rig, address), Err(StreamError::Broken(_))));
    // An attempt that is given up leaves nothing behind that harms the listener.
    let mut listener = rig.listen();
    drop(rig.network.connect(listener.local()).expect("somebody listens"));
    (rig.turn)();
    let parcel = connected(rig, listener.local()).expect("somebody listens");
    let group = &mut *rig.network.group();
    let near = group.adopt(parcel, 1).expect("connected");
    // The attempt that was given up may be in the backlog, before this one.
    let found = (0..2).any(|_| {
        let accepted = rig.accept(&mut *listener);
        let stream = group.adopt(accepted, 2);
        let found = stream.as_ref().is_ok_and(|stream| stream.peer() == near.local());
        if stream.is_ok() {
            group.remove(2);
        }
        found
    });
    assert!(found, "the second attempt arrived");
}

type Check = (&'static str, fn(&Rig));

const LIST: [Check; 13] = [
    ("a new stream", a_new_stream_is_named_once_and_has_nothing),
    ("bytes in order", bytes_arrive_in_order),
    ("a full stream", a_full_stream_says_when_there_is_room),
    ("half close", a_peer_that_stops_sending_still_receives),
    ("reset", a_broken_stream_is_named_and_says_so),
    ("pause", a_paused_stream_is_not_named_until_it_goes_on),
    ("left bytes", what_is_left_is_named_again),
    ("moving", a_stream_moves_between_groups_without_losing_a_byte),
    ("dropping", a_dropped_stream_is_closed),
    ("many streams", of_many_streams_every_one_is_served),
    ("a quiet listener", a_listener_without_callers_has_nothing),
    ("connecting", an_outgoing_connection_is_a_stream_like_others),
    ("connecting to nobody", an_attempt_that_nobody_hears_fails),
];

// What is printed is seen only when a check fails: which one it was.
#[test]
fn kernel_tcp_behaves_as_listed() {
    for (name, check) in LIST {
        println!("{name}");
        check(&real());
    }
}

#[test]
fn the_simulated_network_behaves_as_listed() {
    for seed in 0..8 {
        for (name, check) in LIST {
            println!("{name}, seed {seed}");
            check(&simulated(seed));
        }
    }
}
