//! What each operation does, step by step: the catalog first, then the data plane, then the catalog again.
//!
//! The API, the start of a node and the configuration file all come through here. Operations on one object are
//! serialised; operations on different objects run side by side. An operation runs to its end even when the client
//! that asked for it goes away, so that nothing is left half done by a closed connection.

mod devices;
mod error;
mod locks;
mod observed;
mod restore;
mod sessions;
mod subsystems;
mod targets;
mod views;
mod volumes;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

pub use devices::{DeviceDetails, DeviceHealth, DeviceView};
pub use error::ServiceError;
pub use subsystems::{ListenerView, NewSubsystem, SubsystemChange, SubsystemView};
pub use targets::TargetChange;
pub use views::{
    Created, DeviceQueueReading, DeviceReading, NewTarget, NewVolume, OpReading, StatsView, SubsystemReading,
    TargetView, VolumeDeleted, VolumeReading, VolumeState, VolumeView,
};

use crate::bridge::{Bridge, PlaneError, StatsReport};
use crate::catalog::{Catalog, CatalogError, State};
use crate::model::Listener;
use locks::KeyedLocks;
use observed::Observed;

/// What does not change while a node runs.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// Its name.
    pub name: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Its portals as initiators are told them.
    pub portals: Vec<String>,
    /// Its listeners of NVMe/TCP as hosts are told them.
    pub listeners: Vec<Listener>,
    /// When it was started.
    pub started_at: jiff::Timestamp,
}

/// The operations of a node. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    bridge: Bridge,
    catalog: Mutex<Catalog>,
    /// The state as of the last change, so that a question never waits for a disk.
    state: RwLock<Arc<State>>,
    observed: RwLock<Observed>,
    volume_locks: KeyedLocks,
    target_locks: KeyedLocks,
    subsystem_locks: KeyedLocks,
    facts: NodeFacts,
    started: Instant,
    draining: AtomicBool,
    last_stats: Mutex<LastStats>,
    recovered: Option<String>,
}

/// The newest list of counters; `at` is absent when the list is known to be out of date.
#[derive(Default)]
struct LastStats {
    at: Option<Instant>,
    report: StatsReport,
}

/// A poisoned lock means that a thread panicked between two steps of plain data; each of them is valid by itself.
fn guard<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Service {
    /// The operations on an open catalog and a data plane.
    pub fn new(catalog: Catalog, bridge: Bridge, facts: NodeFacts) -> Self {
        let state = RwLock::new(Arc::new(catalog.state().clone()));
        let recovered = catalog.recovered().map(str::to_owned);
        let inner = Inner {
            bridge,
            catalog: Mutex::new(catalog),
            state,
            observed: RwLock::default(),
            volume_locks: KeyedLocks::default(),
            target_locks: KeyedLocks::default(),
            subsystem_locks: KeyedLocks::default(),
            facts,
            started: Instant::now(),
            draining: AtomicBool::new(false),
            last_stats: Mutex::default(),
            recovered,
        };
        Self { inner: Arc::new(inner) }
    }

    /// The desired state now.
    pub fn state(&self) -> Arc<State> {
        self.inner.state.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What does not change while the node runs.
    pub fn facts(&self) -> &NodeFacts {
        &self.inner.facts
    }

    /// Refuses changes from now on; questions are still answered.
    pub fn begin_drain(&self) {
        self.inner.draining.store(true, Ordering::SeqCst);
    }

    /// True once [`Self::begin_drain`] was called.
    pub fn draining(&self) -> bool {
        self.inner.draining.load(Ordering::SeqCst)
    }

    pub(crate) fn bridge(&self) -> &Bridge {
        &self.inner.bridge
    }

    fn refuse_when_draining(&self) -> Result<(), ServiceError> {
        if self.draining() { Err(PlaneError::ShuttingDown.into()) } else { Ok(()) }
    }

    /// Runs `work` on the catalog where it may block, and publishes the state that results.
    async fn with_catalog<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Catalog) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        let inner = self.inner.clone();
        let joined = tokio::task::spawn_blocking(move || {
            let mut catalog = guard(&inner.catalog);
            let result = work(&mut catalog);
            let mut published = inner.state.write().unwrap_or_else(PoisonError::into_inner);
            if **published != *catalog.state() {
                *published = Arc::new(catalog.state().clone());
            }
            result
        });
        joined.await.expect("work on the catalog does not panic and is not cancelled")
    }

    /// Changes the desired state.
    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut State) -> Result<T, ServiceError> + Send + 'static,
    ) -> Result<T, ServiceError> {
        self.with_catalog(|catalog| catalog.change(change)).await
    }

    fn observe<T>(&self, change: impl FnOnce(&mut Observed) -> T) -> T {
        change(&mut self.inner.observed.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn observed<T>(&self, look: impl FnOnce(&Observed) -> T) -> T {
        look(&self.inner.observed.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Lets `operation` run to its end even when the caller goes away.
    async fn to_the_end<T: Send + 'static>(&self, operation: impl Future<Output = T> + Send + 'static) -> T {
        tokio::spawn(operation).await.expect("an operation does not panic and is not cancelled")
    }
}

impl From<CatalogError> for ServiceError {
    fn from(error: CatalogError) -> Self {
        Self::Catalog(error)
    }
}

type Problems<K> = BTreeMap<K, String>;

#[cfg(test)]
pub(crate) mod tests;
