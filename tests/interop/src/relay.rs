//! A relay between a peer and the target that keeps every byte it passes on, in the order in which it did.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use crate::failure::{Failure, Outcome};
use crate::limits;

/// Bytes in one direction of a connection; none at all are its end.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Which connection, counted from 0.
    pub connection: usize,
    /// The target sent them.
    pub from_target: bool,
    /// The bytes.
    pub bytes: Vec<u8>,
}

type Record = Arc<Mutex<Vec<Chunk>>>;

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    /// Where peers connect.
    pub address: SocketAddr,
    record: Record,
    stop: Arc<AtomicBool>,
    acceptor: Option<JoinHandle<Outcome>>,
}

impl Relay {
    /// Passes connections on to `target`.
    pub fn start(target: SocketAddr) -> Outcome<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let (record, stop) = (Record::default(), Arc::new(AtomicBool::new(false)));
        let acceptor = std::thread::spawn({
            let (record, stop) = (Arc::clone(&record), Arc::clone(&stop));
            move || accept(&listener, target, &record, &stop)
        });
        Ok(Self { address, record, stop, acceptor: Some(acceptor) })
    }

    /// Waits until every connection has ended; what was said.
    pub fn finish(mut self) -> Outcome<Vec<Chunk>> {
        self.stop.store(true, Ordering::Relaxed);
        // The acceptor looks when somebody connects.
        drop(TcpStream::connect(self.address)?);
        if let Some(acceptor) = self.acceptor.take() {
            acceptor.join().unwrap_or_else(|_| Err(Failure::new("the relay panicked")))?;
        }
        Ok(std::mem::take(&mut *self.record.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn accept(listener: &TcpListener, target: SocketAddr, record: &Record, stop: &AtomicBool) -> Outcome {
    let mut pumps = Vec::new();
    for connection in 0.. {
        let (peer, _) = listener.accept()?;
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let onward = TcpStream::connect(target)?;
        for stream in [&peer, &onward] {
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(limits::STATE_PATIENCE))?;
        }
        let ways = [(peer.try_clone()?, onward.try_clone()?, false), (onward, peer, true)];
        for (from, to, from_target) in ways {
            let record = Arc::clone(record);
            pumps.push(std::thread::spawn(move || pump(from, to, connection, from_target, &record)));
        }
    }
    for pump in pumps {
        pump.join().map_err(|_| Failure::new("a pump of the relay panicked"))?;
    }
    Ok(())
}

/// Records first and passes on then, so an answer never stands before its question.
fn pump(mut from: TcpStream, mut to: TcpStream, connection: usize, from_target: bool, record: &Record) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        // A connection that was reset has ended as well.
        let count = from.read(&mut buffer).unwrap_or(0);
        let bytes = buffer[..count].to_vec();
        record.lock().unwrap_or_else(PoisonError::into_inner).push(Chunk { connection, from_target, bytes });
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    // Whoever is gone already needs not to be told.
    let _ = to.shutdown(Shutdown::Write);
}
