//! From a namespace to a volume: its label is read or written on the core that drives it, and the channels wait there for the
//! volume that is added a moment later.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Error, ErrorKind};

use control::bridge::PlaneError;
use nvme::device::Device;
use reactor::buffer::BufferPool;
use reactor::time::Time;
use volume::bdev::IoChannel;
use volume::channel_file::ChannelFile;
use volume::label::{LabelError, LabelWork, Labelled};
use volume::metadata::{MetadataStore, SlotStore};
use volume::nvme::{NvmeChannel, NvmeCore};
use volume::shared::Answer;

use super::message::{OpenNamespace, OpenedNamespace};

/// The two ways to an opened namespace: to its blocks and to its reservations. Each is taken once.
struct Ways {
    channel: Option<Box<dyn IoChannel>>,
    metadata: Option<Box<dyn MetadataStore>>,
}

thread_local! {
    /// What was opened on this core and not added yet, by volume. What a failed addition leaves is replaced by the next one.
    static OPENED: RefCell<BTreeMap<String, Ways>> = const { RefCell::new(BTreeMap::new()) };
}

fn take<T>(volume: &str, way: impl FnOnce(&mut Ways) -> Option<T>) -> Result<T, Error> {
    OPENED.with_borrow_mut(|opened| {
        let taken = opened.get_mut(volume).and_then(way);
        opened.retain(|_, ways| ways.channel.is_some() || ways.metadata.is_some());
        taken.ok_or_else(|| Error::from(ErrorKind::NotFound))
    })
}

/// The blocks of a volume that was opened on this core.
pub(crate) fn take_channel(volume: &str) -> Result<Box<dyn IoChannel>, Error> {
    take(volume, |ways| ways.channel.take())
}

/// The store of the reservations of a volume that was opened on this core.
pub(crate) fn take_metadata(volume: &str) -> Result<Box<dyn MetadataStore>, Error> {
    take(volume, |ways| ways.metadata.take())
}

/// Lets go of what was opened for a volume that did not come for it.
pub(crate) fn forget(volume: &str) {
    OPENED.with_borrow_mut(|opened| opened.remove(volume));
}

/// A namespace on its way.
pub(crate) struct Opening<D: Device> {
    open: OpenNamespace,
    answer: Answer<Result<OpenedNamespace, PlaneError>>,
    /// It has been answered by then.
    until: Time,
    work: Option<(LabelWork, NvmeChannel<D>)>,
}

impl<D: Device + 'static> Opening<D> {
    pub(crate) fn new(
        open: OpenNamespace,
        answer: Answer<Result<OpenedNamespace, PlaneError>>,
        until: Time,
    ) -> Self {
        Self { open, answer, until, work: None }
    }

    pub(crate) fn nsid(&self) -> u32 {
        self.open.nsid
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.work.is_some()
    }

    pub(crate) fn is_late(&self, now: Time) -> bool {
        now >= self.until
    }

    /// The device takes I/O: the label is looked at. What is wrong with the shape is an answer at once.
    pub(crate) fn begin(&mut self, channel: NvmeChannel<D>) -> Result<(), PlaneError> {
        let work = LabelWork::new(self.open.request.clone(), &channel.info());
        let work = work.map_err(|error| self.refused(&error))?;
        self.work = Some((work, channel));
        Ok(())
    }

    /// Goes on; how it ended.
    pub(crate) fn poll(&mut self, buffers: &BufferPool) -> Option<Result<Labelled, PlaneError>> {
        let (work, channel) = self.work.as_mut()?;
        let end = work.poll(channel, buffers)?;
        Some(end.map_err(|error| self.refused(&error)))
    }

    /// Puts the ways to the namespace where the volume finds them, and says so. What was opened, if it was.
    pub(crate) fn finish(
        self,
        labelled: Labelled,
        core: &NvmeCore<D>,
        buffers: &BufferPool,
    ) -> Option<OpenNamespace> {
        let Some((_, whole)) = self.work else { unreachable!("only what was begun ends well") };
        let Labelled { geometry, metadata_base_bytes, metadata, is_new, destroyed, moved } = labelled;
        let namespace = whole.namespace().clone();
        let Some(channel) = NvmeChannel::with_geometry(core, namespace, geometry) else {
            let reason = "the namespace has changed while it was opened; try again".to_owned();
            (self.answer)(Err(PlaneError::Device { device: self.open.device, reason }));
            return None;
        };
        let reservations = metadata.blob.clone().unwrap_or_default();
        let file = Box::new(ChannelFile::new(Box::new(whole)));
        let store = SlotStore::over(file, metadata_base_bytes, &metadata, buffers);
        let ways = Ways { channel: Some(Box::new(channel)), metadata: Some(Box::new(store)) };
        OPENED.with_borrow_mut(|opened| opened.insert(self.open.volume.clone(), ways));
        (self.answer)(Ok(OpenedNamespace { geometry, reservations, is_new, destroyed, moved }));
        Some(self.open)
    }

    pub(crate) fn fail(self, error: PlaneError) {
        (self.answer)(Err(error));
    }

    fn refused(&self, error: &LabelError) -> PlaneError {
        let remedy = match error {
            LabelError::Occupied { .. } => {
                "; use another namespace, or set confirm_serial of the device in the configuration to its serial number to \
                 destroy what is there (once for each namespace; confirmed-serials.json in the data directory says what it was used for)"
            }
            _ => "",
        };
        let reason = format!("namespace {}: {error}{remedy}", self.open.nsid);
        PlaneError::Device { device: self.open.device.clone(), reason }
    }
}
