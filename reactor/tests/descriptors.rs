//! A listener that runs out of descriptors. Alone in its process, because it uses them all up.

use std::fs::File;
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reactor::net::{Network, StreamError};
use reactor::stats::CoreStats;
use reactor::tcp::TcpNetwork;
use reactor::uring::Uring;
use reactor::wake::Waker;

#[test]
fn a_listener_out_of_descriptors_rests_and_goes_on() {
    let stats = Arc::new(CoreStats::new("test"));
    let uring = Uring::new(Waker::new().expect("a descriptor")).expect("io_uring is there");
    let network = TcpNetwork::new(uring.clone(), Arc::clone(&stats));
    let mut listener = network.listen("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let client = TcpStream::connect(listener.local()).expect("it listens");
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, 256, hard).expect("lowering is allowed");
    let hoard: Vec<File> = std::iter::from_fn(|| File::open("/dev/null").ok()).collect();
    let mut turn = |calls: &mut u32| {
        uring.submit();
        uring.sleep(Duration::from_millis(50));
        uring.reap();
        *calls += 1;
        listener.try_accept()
    };
    let mut calls = 0;
    let error = loop {
        match turn(&mut calls) {
            Err(StreamError::WouldBlock) => assert!(calls < 1000, "the connection was never seen"),
            Err(error) => break error,
            Ok(_) => panic!("there is no descriptor"),
        }
    };
    assert_eq!(error, StreamError::Broken(libc::EMFILE));
    assert_eq!(turn(&mut calls).expect_err("it rests"), StreamError::WouldBlock);
    assert_eq!(stats.accept_failures.get(), 1);
    drop(hoard);
    let mut calls = 0;
    let (_, peer) = loop {
        match turn(&mut calls) {
            Ok(accepted) => break accepted,
            Err(error) => assert_eq!(error, StreamError::WouldBlock),
        }
        assert!(calls < 1000, "the listener never went on");
    };
    assert_eq!(peer, client.local_addr().expect("connected"));
}
