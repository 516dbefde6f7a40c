//! The blocking work on data files and devices: create, open, delete, and the setup that goes to a core.

use std::path::{Path, PathBuf};

use control::bridge::{ObjectKind, PlaneError};
use control::model::{Backing, VolumeSpec};
use volume::block_device;
use volume::file::FileChannel;
use volume::file_open::{self, FileOptions, OpenedFile};
use volume::geometry::Geometry;
use volume::memory::MemoryDevice;
use volume::metadata::{self, MemoryStore, OpenedMetadata, SlotStore};
use volume::open_error::OpenError;
use volume::shared::VolumeSetup;

use crate::memory::{Admitted, NodeMemory};

/// A volume ready for its core, with what an operator should know of it.
pub(crate) struct Prepared {
    pub setup: VolumeSetup,
    pub notes: Vec<String>,
}

/// Opens what is there, or makes it when `create` says so.
pub(crate) fn prepare(
    spec: &VolumeSpec,
    path: Option<&Path>,
    memory: &NodeMemory,
    create: bool,
) -> Result<Prepared, PlaneError> {
    match &spec.backing {
        Backing::Memory => prepare_memory(spec, memory, create),
        Backing::File => {
            let path = path.ok_or_else(|| unsupported("path", "a file volume needs a path"))?;
            let opened = open_file(spec, path, create)?;
            let state = file_open::state_path(path);
            let metadata = metadata::open(&state).map_err(|error| back_end(&state, &error))?;
            Ok(prepare_opened(spec, opened, metadata))
        }
        // No file: the core that drives the device opens it.
        Backing::Nvme { .. } => {
            Err(unsupported("backing", "a namespace is opened by the core of its device"))
        }
        Backing::Device { path, confirm_serial } => {
            let opened = open_device(spec, path, confirm_serial.clone(), create)?;
            let metadata = block_device::open_metadata(&opened).map_err(|error| back_end(path, &error))?;
            Ok(prepare_opened(spec, opened, metadata))
        }
    }
}

/// Destroys the data of a volume that is no longer served. A device keeps its blocks: it was lent, not made.
pub(crate) fn destroy(spec: &VolumeSpec, path: Option<&Path>) -> Result<(), PlaneError> {
    match (&spec.backing, path) {
        (Backing::File, Some(path)) => file_open::delete(path).map_err(|error| open_failed(path, &error)),
        _ => Ok(()),
    }
}

/// Makes the file of a volume larger.
pub(crate) fn grow(spec: &VolumeSpec, path: Option<&Path>, size_bytes: u64) -> Result<(), PlaneError> {
    match (&spec.backing, path) {
        (Backing::File, Some(path)) => {
            file_open::grow(path, size_bytes).map(drop).map_err(|error| open_failed(path, &error))
        }
        (Backing::Memory, _) => Ok(()),
        (Backing::Nvme { .. }, _) => unreachable!("its core makes it larger"),
        _ => Err(unsupported("backing", "a device volume has the size of its device; it does not grow")),
    }
}

fn geometry(spec: &VolumeSpec) -> Result<Geometry, PlaneError> {
    Geometry::new(spec.uuid, spec.block_size, spec.size_bytes)
        .map_err(|error| unsupported("size_bytes", &error.to_string()))
}

pub(crate) fn serial(spec: &VolumeSpec) -> String {
    spec.uuid.simple().to_string()
}

fn prepare_memory(spec: &VolumeSpec, memory: &NodeMemory, create: bool) -> Result<Prepared, PlaneError> {
    let geometry = geometry(spec)?;
    let Admitted { small_pages, note } = memory.admit(spec, create)?;
    let budget = memory.budget.clone();
    let setup = VolumeSetup {
        name: spec.name.to_string(),
        serial: serial(spec),
        channel: Box::new(move |_| Ok(Box::new(MemoryDevice::within(geometry, budget, small_pages)))),
        metadata: Box::new(|_| Ok(Box::new(MemoryStore::default()))),
        reservations: Vec::new(),
    };
    let mut notes = vec!["kept in memory: empty again after every start of the node".to_owned()];
    notes.extend(note);
    Ok(Prepared { setup, notes })
}

fn prepare_opened(spec: &VolumeSpec, opened: OpenedFile, metadata: OpenedMetadata) -> Prepared {
    let mut notes = vec![opened.mode.to_string()];
    if spec.backing == Backing::File {
        notes.extend(atomic_note(&opened));
    }
    let reservations = metadata.loaded.blob.clone().unwrap_or_default();
    let setup = VolumeSetup {
        name: spec.name.to_string(),
        serial: serial(spec),
        channel: Box::new(move |core| Ok(Box::new(FileChannel::new(opened, &*core.files, &core.buffers)?))),
        metadata: Box::new(move |core| Ok(Box::new(SlotStore::new(metadata, &*core.files, &core.buffers)?))),
        reservations,
    };
    Prepared { setup, notes }
}

/// What an operator should know about the atomic writes of a file.
fn atomic_note(opened: &OpenedFile) -> Option<String> {
    let Some(journal) = &opened.journal else {
        let journal = file_open::journal_path(&opened.path);
        return Some(format!(
            "no atomic writes: no space for {}; make room and restart the node",
            journal.display()
        ));
    };
    let blocks = journal.completed?;
    Some(format!(
        "completed an atomic write of {} blocks at {} that a crash had cut short",
        blocks.length_blocks, blocks.lba
    ))
}

fn open_file(spec: &VolumeSpec, path: &Path, create: bool) -> Result<OpenedFile, PlaneError> {
    let options = FileOptions { expected: Some(spec.uuid), ..FileOptions::default() };
    if create && !path.exists() {
        let created = file_open::create(path, geometry(spec)?, options);
        return created.map_err(|error| open_failed(path, &error));
    }
    // Something is there: taken up when it is this volume, never overwritten when it is not.
    let exists =
        |found| PlaneError::AlreadyExists { kind: ObjectKind::Volume, name: spec.name.to_string(), found };
    let opened = file_open::open(path, options).map_err(|error| match error {
        error if create => exists(error.to_string()),
        error => open_failed(path, &error),
    })?;
    let found = opened.geometry.logical_block_bytes;
    if found != spec.block_size {
        return Err(exists(format!(
            "{} has blocks of {found} bytes, not {}",
            path.display(),
            spec.block_size
        )));
    }
    Ok(opened)
}

fn open_device(
    spec: &VolumeSpec,
    path: &Path,
    confirm: Option<String>,
    create: bool,
) -> Result<OpenedFile, PlaneError> {
    let options = FileOptions { expected: Some(spec.uuid), ..FileOptions::default() };
    let opened = block_device::open(path, options);
    match opened {
        Ok(opened) => Ok(opened),
        Err(error) if !create => Err(open_failed(path, &error)),
        Err(_) => {
            let format = block_device::FormatOptions { confirm_destroy: confirm, buffered: false };
            let formatted = block_device::format(path, spec.uuid, spec.block_size, &format);
            formatted.map_err(|error| open_failed(path, &error))
        }
    }
}

fn open_failed(path: &Path, error: &OpenError) -> PlaneError {
    match error {
        OpenError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
            PlaneError::NoSpace { what: path.display().to_string(), detail: error.to_string() }
        }
        _ => back_end(path, error),
    }
}

fn back_end(path: &Path, error: &dyn std::error::Error) -> PlaneError {
    PlaneError::BackEnd { path: PathBuf::from(path), reason: error.to_string() }
}

fn unsupported(field: &'static str, reason: &str) -> PlaneError {
    PlaneError::Unsupported { field, reason: reason.to_owned() }
}
