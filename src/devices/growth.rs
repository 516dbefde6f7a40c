//! Volumes on namespaces become larger: where their namespace has room, or has grown.
//!
//! The label goes along (`volume::label`). While it does, the volume serves as before, and its reservations stay as they are.

use control::bridge::PlaneError;
use reactor::time::Time;
use volume::label::{Confirmed, Growth};
use volume::shared::{Answer, Registry};

use super::drive::Driven;
use super::inbox::Inbox;
use super::message::{OpenNamespace, OpenedNamespace};
use super::open;

/// A volume that is to grow.
struct Growing {
    number: u64,
    open: OpenNamespace,
    size_bytes: u64,
    /// The work has begun.
    begun: bool,
    answer: Answer<Result<u64, PlaneError>>,
}

/// The volumes of a core that are growing.
#[derive(Default)]
pub(crate) struct Growths {
    all: Vec<Growing>,
    inbox: Inbox,
}

fn refused(device: &str, reason: String) -> PlaneError {
    PlaneError::Device { device: device.to_owned(), reason }
}

impl Growths {
    /// Takes a request for a volume that was opened as `open`.
    pub(crate) fn begin(
        &mut self,
        open: OpenNamespace,
        size_bytes: u64,
        answer: Answer<Result<u64, PlaneError>>,
    ) {
        let is_growing = self.all.iter().any(|growing| growing.open.volume == open.volume);
        if is_growing {
            return answer(Err(refused(&open.device, "the volume is growing already".to_owned())));
        }
        let number = self.inbox.number();
        self.all.push(Growing { number, open, size_bytes, begun: false, answer });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Goes on. True when something has happened.
    pub(crate) fn poll(&mut self, now: Time, drives: &mut [Box<dyn Driven>], registry: &Registry) -> bool {
        if self.all.is_empty() {
            return false;
        }
        let mut busy = false;
        while let Some((number, result)) = self.inbox.take() {
            busy = true;
            if let Some(at) = self.all.iter().position(|growing| growing.number == number) {
                let growing = self.all.swap_remove(at);
                let device = growing.open.device.clone();
                (growing.answer)(finish(&growing.open.volume, &device, result, registry));
            }
        }
        let mut index = 0;
        while let Some(growing) = self.all.get_mut(index) {
            index += 1;
            if growing.begun {
                continue;
            }
            let (volume, device) = (growing.open.volume.as_str(), growing.open.device.as_str());
            let drive = drives.iter_mut().find(|drive| drive.facts().name.as_str() == device);
            let frozen = registry.freeze(volume).map_err(|error| refused(device, error.to_string()));
            let reservations = match (drive, frozen) {
                (Some(drive), Ok(Some(reservations))) => {
                    let mut open = growing.open.clone();
                    (open.request.create, open.request.confirmed) = (false, Confirmed::Nothing);
                    open.request.growth = Some(Growth { size_bytes: growing.size_bytes, reservations });
                    drive.open(now, open, self.inbox.answer(growing.number));
                    growing.begun = true;
                    busy = true;
                    continue;
                }
                (_, Ok(None)) => continue,
                (None, Ok(Some(_))) => {
                    registry.thaw(volume);
                    Err(refused(device, "it is not driven now".to_owned()))
                }
                (_, Err(error)) => Err(error),
            };
            index -= 1;
            (self.all.swap_remove(index).answer)(reservations);
            busy = true;
        }
        busy
    }
}

/// What was made longer on the device becomes so for its hosts. After a failure half way nobody knows which of the two places of the
/// reservations will be read next, so they stay frozen until the volume is opened again.
fn finish(
    volume: &str,
    device: &str,
    result: Result<OpenedNamespace, PlaneError>,
    registry: &Registry,
) -> Result<u64, PlaneError> {
    let opened = result?;
    // The volume keeps the channel that it has; of the new ones only the store is used, if it lies elsewhere now.
    let store = open::take_metadata(volume);
    open::forget(volume);
    let store = store.map_err(|error| refused(device, error.to_string()))?;
    let length_blocks = opened.geometry.length_blocks;
    let grown = registry.grown(volume, length_blocks, opened.moved.then_some(store));
    grown.map_err(|error| refused(device, error.to_string()))?;
    Ok(length_blocks)
}
