//! Mailboxes between cores, and from any thread to a core.
//!
//! Between two cores there is one ring each way; other threads share one bounded queue per core.
//! Whoever sends wakes the target core when, and only when, it sleeps.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crossbeam_queue::ArrayQueue;

use crate::ring::{Consumer, Producer, ring};
use crate::wake::Waker;

/// Builds the mailboxes of a set of cores.
#[derive(Debug)]
pub struct Mesh<M>(std::marker::PhantomData<M>);

impl<M: Send> Mesh<M> {
    /// One endpoint per core, each mailbox holding `capacity` messages (a power of two). Makes a
    /// waker per core: hand [`Endpoint::waker`] to that core's configuration.
    ///
    /// # Panics
    /// When the process is out of descriptors at start.
    // A factory by design: the mesh itself is nothing but its endpoints.
    #[expect(clippy::new_ret_no_self)]
    pub fn new(cores: usize, capacity: usize) -> Vec<Endpoint<M>> {
        let waker = |_| Waker::new().expect("a free descriptor per core at start");
        Self::with_wakers(&(0..cores).map(waker).collect::<Vec<_>>(), capacity)
    }

    /// As [`Mesh::new`], for cores that have wakers already.
    pub fn with_wakers(wakers: &[Waker], capacity: usize) -> Vec<Endpoint<M>> {
        let cores = wakers.len();
        let endpoint = |core| Endpoint {
            core,
            to: (0..cores).map(|_| None).collect(),
            from: (0..cores).map(|_| None).collect(),
            own: VecDeque::with_capacity(capacity),
            capacity,
            control: Arc::new(ArrayQueue::new(capacity)),
            wakers: wakers.to_vec(),
            next: 0,
        };
        let mut endpoints: Vec<_> = (0..cores).map(endpoint).collect();
        for from in 0..cores {
            for to in (0..cores).filter(|&to| to != from) {
                let (producer, consumer) = ring(capacity);
                endpoints[from].to[to] = Some(producer);
                endpoints[to].from[from] = Some(consumer);
            }
        }
        endpoints
    }
}

/// One core's end of all mailboxes. Moves to its core's thread and stays there.
pub struct Endpoint<M> {
    core: usize,
    to: Vec<Option<Producer<M>>>,
    from: Vec<Option<Consumer<M>>>,
    /// Messages from the core to itself.
    own: VecDeque<M>,
    capacity: usize,
    control: Arc<ArrayQueue<M>>,
    wakers: Vec<Waker>,
    /// Who is asked first next time, so that a busy sender cannot starve the others.
    next: usize,
}

impl<M> fmt::Debug for Endpoint<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint(core {} of {})", self.core, self.wakers.len())
    }
}

impl<M: Send> Endpoint<M> {
    /// The number of this core in the mesh.
    pub fn core(&self) -> usize {
        self.core
    }

    /// How many cores the mesh has.
    pub fn cores(&self) -> usize {
        self.wakers.len()
    }

    /// What wakes this core.
    pub fn waker(&self) -> Waker {
        self.wakers[self.core].clone()
    }

    /// Sends to `core` (this one included). A full mailbox gives the message back: keep it and try
    /// again at the next turn.
    pub fn send(&mut self, core: usize, message: M) -> Result<(), M> {
        let Some(producer) = &mut self.to[core] else {
            assert_eq!(core, self.core, "there is a ring to every other core");
            if self.own.len() == self.capacity {
                return Err(message);
            }
            self.own.push_back(message);
            return Ok(());
        };
        producer.push(message)?;
        self.wakers[core].wake();
        Ok(())
    }

    /// Appends up to `budget` waiting messages to `out`: in order per sender, fair among senders.
    /// Returns how many.
    pub fn recv(&mut self, out: &mut Vec<M>, budget: usize) -> usize {
        let before = out.len();
        let sources = self.from.len() + 1;
        for step in 0..sources {
            let room = budget - (out.len() - before);
            if room == 0 {
                break;
            }
            let source = (self.next + step) % sources;
            match self.from.get_mut(source) {
                Some(Some(consumer)) => {
                    consumer.pop_batch(out, room);
                }
                Some(None) => out.extend(self.own.drain(..room.min(self.own.len()))),
                None => out.extend(std::iter::from_fn(|| self.control.pop()).take(room)),
            }
        }
        self.next = (self.next + 1) % sources;
        out.len() - before
    }

    /// True when no message waits.
    pub fn is_empty(&mut self) -> bool {
        self.own.is_empty()
            && self.control.is_empty()
            && self.from.iter_mut().flatten().all(Consumer::is_empty)
    }

    /// A handle with which any thread sends to this core.
    pub fn control_sender(&self) -> ControlSender<M> {
        ControlSender { queue: Arc::clone(&self.control), waker: self.waker() }
    }
}

/// Sends to one core from any thread; clones share the mailbox.
pub struct ControlSender<M> {
    queue: Arc<ArrayQueue<M>>,
    waker: Waker,
}

impl<M> Clone for ControlSender<M> {
    fn clone(&self) -> Self {
        Self { queue: Arc::clone(&self.queue), waker: self.waker.clone() }
    }
}

impl<M> fmt::Debug for ControlSender<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ControlSender({} waiting)", self.queue.len())
    }
}

impl<M: Send> ControlSender<M> {
    /// Sends, never waits. A full mailbox gives the message back.
    pub fn send(&self, message: M) -> Result<(), M> {
        self.queue.push(message)?;
        self.waker.wake();
        Ok(())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_core_reaches_every_core_itself_included() {
        let mut mesh = Mesh::<(usize, usize)>::new(3, 4);
        for (from, endpoint) in mesh.iter_mut().enumerate() {
            for to in 0..3 {
                endpoint.send(to, (from, to)).expect("there is room");
            }
        }
        for (core, endpoint) in mesh.iter_mut().enumerate() {
            assert!(!endpoint.is_empty());
            let mut got = Vec::new();
            assert_eq!(endpoint.recv(&mut got, 10), 3);
            got.sort_unstable();
            assert_eq!(got, [(0, core), (1, core), (2, core)]);
            assert!(endpoint.is_empty());
        }
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let mut mesh = Mesh::<u32>::new(2, 2);
        for target in 0..2 {
            assert_eq!((mesh[0].send(target, 1), mesh[0].send(target, 2)), (Ok(()), Ok(())));
            assert_eq!(mesh[0].send(target, 3), Err(3));
        }
        let control = mesh[0].control_sender();
        assert_eq!((control.send(1), control.clone().send(2), control.send(3)), (Ok(()), Ok(()), Err(3)));
    }

    #[test]
    fn a_busy_sender_does_not_starve_the_others() {
        let mut mesh = Mesh::<&'static str>::new(2, 8);
        for _ in 0..8 {
            mesh[1].send(0, "busy").expect("there is room");
        }
        mesh[0].control_sender().send("control").expect("there is room");
        mesh[0].send(0, "own").expect("there is room");
        let mut got = Vec::new();
        for _ in 0..3 {
            mesh[0].recv(&mut got, 2);
        }
        assert!(got.contains(&"control") && got.contains(&"own") && got.contains(&"busy"), "{got:?}");
    }

    #[test]
    fn endpoints_and_senders_may_travel() {
        fn may_travel<T: Send>(_: &T) {}
        let mesh = Mesh::<u32>::new(1, 2);
        may_travel(&mesh[0]);
        let control = mesh[0].control_sender();
        std::thread::spawn(move || control.send(7)).join().expect("no panic").expect("there is room");
        let mut got = Vec::new();
        let mut mesh = mesh;
        assert_eq!((mesh[0].recv(&mut got, 1), got), (1, vec![7]));
    }
}
