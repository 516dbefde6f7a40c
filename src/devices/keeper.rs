//! The keeper: a thread of its own that looks at the machine once a second. It takes a device again which was pulled out and is back in
//! its place, and sees how much memory there is.
//!
//! A function comes back without the driver that it had, and perhaps in the hands of the kernel. It is taken as at the start of the
//! node, but on nobody's word: a serial number that was typed does not count here, whoever uses it keeps it. What was put there
//! instead of it stays with, or goes back to, the kernel.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::config::DevicePlace;
use nvme_pci::{BindOptions, Host, PciAddress, VFIO_DRIVER};

use super::message::DeviceMessage;
use super::take::{Lent, Loans, Source};
use crate::memory::NodeMemory;
use crate::wiring::SharedCores;

/// Between two looks at what is away.
const PACE: Duration = Duration::from_secs(1);
/// The longest pause between two tries to take a device.
const PACE_MAX: Duration = Duration::from_secs(60);
/// A device that was there so long before it went again came back for good.
const STAYED: Duration = Duration::from_secs(60);

#[derive(Default)]
struct Stop {
    is_asked: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// True when the keeper is to end; else a pause has passed.
    fn wait(&self) -> bool {
        let is_asked = self.is_asked.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(is_asked, PACE, |is_asked| !*is_asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    fn ask(&self) {
        *self.is_asked.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

/// Keeps what was taken from the kernel while the node runs.
pub(crate) struct Keeper {
    stop: Arc<Stop>,
    thread: JoinHandle<Loans>,
}

impl Keeper {
    /// Starts the thread.
    pub(crate) fn start(loans: Loans, cores: SharedCores, memory: NodeMemory) -> Self {
        let stop = Arc::<Stop>::default();
        let theirs = Arc::clone(&stop);
        let run = move || {
            let mut watches: Vec<Watch> = loans.lent.iter().map(|_| Watch::default()).collect();
            let mut loans = loans;
            while !theirs.wait() {
                memory.refresh();
                for (index, watch) in watches.iter_mut().enumerate() {
                    look(&mut loans, index, watch, &cores);
                }
            }
            loans
        };
        let thread = std::thread::Builder::new().name("vega-devices".to_owned()).spawn(run);
        Self { stop, thread: thread.expect("the process may start a thread") }
    }

    /// Ends it; what it kept goes back when the cores have ended.
    pub(crate) fn stop(self) -> Loans {
        self.stop.ask();
        self.thread.join().expect("the keeper does not panic")
    }
}

/// What the keeper remembers of one device from look to look.
#[derive(Default)]
struct Watch {
    is_away: bool,
    /// The function has not been there for a moment.
    has_been_absent: bool,
    /// The other one in its place went back to the kernel.
    gave_back: bool,
    came_at: Option<Instant>,
    tries: u32,
    next_try: Option<Instant>,
    told: String,
}

/// What stands in the way of taking a device again.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Obstacle {
    NotThere,
    /// It never left its place: somebody has taken it from us.
    TakenAway {
        driver: Option<String>,
    },
    AnotherSerial {
        found: String,
    },
    Stranger,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotThere => {
                write!(f, "it has been removed; it is taken again when it is back in its place")
            }
            Self::TakenAway { driver } => {
                let driver = driver.as_deref().unwrap_or("no driver");
                write!(
                    f,
                    "it was taken away, and {driver} has it; it is taken again when {VFIO_DRIVER} has it"
                )
            }
            Self::AnotherSerial { found } => {
                write!(f, "in its place is a controller with serial number {found}, which is not it")
            }
            Self::Stranger => write!(f, "in its place is another controller, which was given back"),
        }
    }
}

/// What is seen in a device's place.
struct Sight {
    instance: Option<u64>,
    driver: Option<String>,
    serial: Option<String>,
}

/// Whether a device may be taken again: it has left its place and come back, or was handed to us.
fn judge(
    before: Option<u64>,
    has_been_absent: bool,
    serial: Option<&str>,
    sight: &Sight,
) -> Result<(), Obstacle> {
    let Some(instance) = sight.instance else { return Err(Obstacle::NotThere) };
    let never_left = before == Some(instance) && !has_been_absent;
    if never_left && sight.driver.as_deref() != Some(VFIO_DRIVER) {
        return Err(Obstacle::TakenAway { driver: sight.driver.clone() });
    }
    match (&sight.serial, serial) {
        (Some(found), Some(expected)) if found != expected => {
            Err(Obstacle::AnotherSerial { found: found.clone() })
        }
        _ => Ok(()),
    }
}

/// A device that is named by its disk may come back in another place.
fn place(host: &Host, lent: &Lent) -> PciAddress {
    let DevicePlace::Disk(path) = lent.config.place() else { return lent.address };
    host.function_of_disk(&path).map_or(lent.address, |function| function.address)
}

fn see(host: &Host, address: PciAddress) -> Sight {
    let function = host.function(address).ok();
    Sight {
        instance: function.as_ref().and_then(|_| host.instance(address)),
        serial: function.as_ref().and_then(|function| function.serial().map(str::to_owned)),
        driver: function.and_then(|function| function.driver),
    }
}

fn look(loans: &mut Loans, index: usize, watch: &mut Watch, cores: &SharedCores) {
    let lent = &loans.lent[index];
    let name = lent.facts.name.clone();
    let presence = Arc::clone(&lent.facts.presence);
    if !presence.is_away() {
        watch.is_away = false;
        return;
    }
    let now = Instant::now();
    if !watch.is_away {
        tracing::error!(device = %name, "device {name} was removed; its volumes answer errors until it is back");
        let stayed = watch.came_at.is_none_or(|came_at| now.duration_since(came_at) >= STAYED);
        let tries = if stayed { 0 } else { watch.tries };
        *watch = Watch { is_away: true, tries, next_try: watch.next_try, ..Watch::default() };
    }
    if !lent.tether.is_over() {
        // The kernel has yet to get it back.
        return;
    }
    let address = place(&loans.host, lent);
    let sight = see(&loans.host, address);
    watch.has_been_absent |= sight.instance.is_none();
    let before = lent.instance.filter(|_| address == lent.address);
    let stranger = presence.is_stranger() && !watch.has_been_absent && before == sight.instance;
    let verdict = if stranger {
        Err(Obstacle::Stranger)
    } else {
        judge(before, watch.has_been_absent, presence.serial(), &sight)
    };
    let is_ours_to_give = stranger && lent.was_bound && sight.driver.as_deref() == Some(VFIO_DRIVER);
    // Once: what the kernel does not take it does not take a second later.
    if is_ours_to_give && !std::mem::replace(&mut watch.gave_back, true) {
        loans.give_back(address);
    }
    if verdict.is_ok() && watch.next_try.is_some_and(|next| now < next) {
        return;
    }
    let taken = verdict.map_err(|obstacle| obstacle.to_string()).and_then(|()| {
        watch.next_try = Some(now + (PACE * 2_u32.saturating_pow(watch.tries)).min(PACE_MAX));
        watch.tries = watch.tries.saturating_add(1).min(8);
        take_again(loans, index, address, cores)
    });
    match taken {
        Ok(()) => {
            tracing::info!(device = %name, "device {name} is back at {address}");
            (watch.came_at, watch.told) = (Some(now), String::new());
        }
        Err(problem) if problem != watch.told => {
            tracing::warn!(device = %name, "device {name}: {problem}");
            watch.told.clone_from(&problem);
            let core = loans.lent[index].facts.core;
            send(cores, core, DeviceMessage::Away { device: name, problem });
        }
        Err(_) => {}
    }
}

/// Takes it and sends it to its core.
fn take_again(
    loans: &mut Loans,
    index: usize,
    address: PciAddress,
    cores: &SharedCores,
) -> Result<(), String> {
    let options = BindOptions { own_volumes: true, undriven: true, ..BindOptions::default() };
    let undriven = loans.host.function(address).is_ok_and(|function| function.driver.is_none());
    let (device, was_bound) =
        loans.take(address, &loans.lent[index].config, options, None).map_err(|error| error.to_string())?;
    let instance = loans.host.instance(address);
    let lent = &mut loans.lent[index];
    // What no driver had goes back to none.
    (lent.address, lent.instance, lent.was_bound) = (address, instance, was_bound && !undriven);
    lent.tether = device.tether();
    lent.facts.pci_address = Some(address);
    lent.facts.presence.come();
    let message = DeviceMessage::Return { facts: lent.facts.clone(), source: Source::Pci(device) };
    if !send(cores, lent.facts.core, message) {
        lent.facts.presence.leave(false);
        return Err("its core did not take it; trying again".to_owned());
    }
    Ok(())
}

/// False when the core's mailbox is full, or the core has ended.
fn send(cores: &SharedCores, core: usize, message: DeviceMessage) -> bool {
    let cores = cores.lock().unwrap_or_else(PoisonError::into_inner);
    cores.get(core).is_some_and(|handle| handle.devices.send(message).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sight(instance: u64, driver: Option<&str>, serial: Option<&str>) -> Sight {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        Sight { instance: Some(instance), driver: owned(driver), serial: owned(serial) }
    }

    #[test]
    fn only_what_left_its_place_or_is_handed_over_is_taken_again() {
        let judge = |absent, sight: &Sight| judge(Some(7), absent, Some("S1"), sight);
        let nothing = Sight { instance: None, driver: None, serial: None };
        assert_eq!(judge(true, &nothing), Err(Obstacle::NotThere));
        // Pulled out and put in: whoever has it now, and also when it went and came between two looks.
        for driver in [None, Some("nvme"), Some("vfio-pci")] {
            assert_eq!(judge(false, &sight(8, driver, None)), Ok(()));
            assert_eq!(judge(true, &sight(7, driver, None)), Ok(()), "the number was given again");
        }
        // It is where it was, and an operator has given it to the kernel.
        let driver = Some("nvme".to_owned());
        assert_eq!(judge(false, &sight(7, Some("nvme"), Some("S1"))), Err(Obstacle::TakenAway { driver }));
        assert_eq!(judge(false, &sight(7, None, None)), Err(Obstacle::TakenAway { driver: None }));
        assert_eq!(judge(false, &sight(7, Some("vfio-pci"), None)), Ok(()), "it was handed back");
        let another = Err(Obstacle::AnotherSerial { found: "S2".to_owned() });
        assert_eq!(judge(true, &sight(8, Some("nvme"), Some("S2"))), another);
        assert_eq!(judge(true, &sight(8, Some("nvme"), Some("S1"))), Ok(()));
    }

    #[test]
    fn a_keeper_gives_its_loans_back_when_it_is_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let host = nvme_pci::testing::FakeMachine::new(folder.path()).host();
        let keeper = Keeper::start(
            Loans { host, lent: Vec::new() },
            SharedCores::default(),
            NodeMemory::new(folder.path()),
        );
        assert!(keeper.stop().lent.is_empty());
    }
}
