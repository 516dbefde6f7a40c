//! The network on kernel TCP: nonblocking sockets, plain calls, readiness from the core's ring.
//!
//! An empty receive costs about 270 ns and an armed socket about 1.5 us per wake-up. So the few
//! streams that had traffic lately are hot and simply tried every turn, and all others are armed:
//! a thousand quiet streams cost nothing per turn. Before the core sleeps everything is armed.
//!
//! Reading order: `stream`, `listener`, `connector`, `group`.

mod connector;
mod group;
mod listener;
mod socket;
mod stream;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::rc::Weak;
use std::sync::Arc;

use crate::net::{Connector, Listener, Network, StreamGroup};
use crate::stats::CoreStats;
use crate::uring::Uring;

/// The TCP network of one core.
#[derive(Debug)]
pub struct TcpNetwork {
    uring: Uring,
    stats: Arc<CoreStats>,
    /// Every group, to arm it before the core sleeps.
    groups: RefCell<Vec<Weak<RefCell<group::Inner>>>>,
}

impl TcpNetwork {
    /// A network whose readiness comes from `uring`.
    pub fn new(uring: Uring, stats: Arc<CoreStats>) -> Self {
        Self { uring, stats, groups: RefCell::default() }
    }

    /// Arms every stream with the kernel, before the core sleeps. False when one is worth a try
    /// right now, and the core must not sleep.
    pub(crate) fn arm_all(&self) -> bool {
        let mut groups = self.groups.borrow_mut();
        groups.retain(|group| group.strong_count() > 0);
        let arm = |group: &Weak<RefCell<group::Inner>>| {
            group.upgrade().is_none_or(|group| group.borrow_mut().arm_all())
        };
        // Every group is armed, also after one that is not quiet.
        groups.iter().map(arm).fold(true, |quiet, this| quiet & this)
    }
}

impl Network for TcpNetwork {
    fn listen(&self, address: SocketAddr) -> io::Result<Box<dyn Listener>> {
        let listener = listener::TcpListener::new(&self.uring, Arc::clone(&self.stats), address)?;
        Ok(Box::new(listener))
    }

    fn connect(&self, to: SocketAddr) -> io::Result<Box<dyn Connector>> {
        Ok(Box::new(connector::TcpConnector::new(&self.uring, to)?))
    }

    fn group(&self) -> Box<dyn StreamGroup> {
        let group = group::TcpGroup::new(self.uring.clone(), Arc::clone(&self.stats));
        self.groups.borrow_mut().push(group.downgrade());
        Box::new(group)
    }
}

#[cfg(test)]
mod tests;
