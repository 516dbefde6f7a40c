//! What `confirm_serial` of a device has licensed: it counts for what was found when it was used, and not for what comes there later.
//!
//! - Taking the controller from the kernel although it is used: what is found then is written down, and from then on only that.
//! - Making a volume of a namespace on which something lies: once for each namespace. Later only a volume that this node made there
//!   is replaced, by its identity.
//!
//! Kept in the data directory, so that a licence that stays in the configuration destroys nothing that appeared after it was given.
//! Every use of it is a line in the log. Blocking; not for cores.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Map, Value, json};
use volume::label::Confirmed;

const FILE: &str = "confirmed-serials.json";

/// Why a licence does not count.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LicenceError {
    #[error(
        "confirm_serial = {serial:?} was given for what was there at that time ({}), and now {found}; to confirm this as well, take \
         the serial number out of {}", list(.known), .path.display()
    )]
    NotFor { serial: String, known: Vec<String>, found: String, path: PathBuf },
    #[error("cannot {action} {}, where it is kept what confirm_serial was used for: {source}", .path.display())]
    File { action: &'static str, path: PathBuf, source: io::Error },
}

fn list(known: &[String]) -> String {
    if known.is_empty() { "nothing".to_owned() } else { known.join(", ") }
}

/// The file, for all devices.
#[derive(Debug)]
pub(crate) struct Licences {
    path: PathBuf,
    /// Nobody reads it while another one writes it.
    turn: Mutex<()>,
}

impl Licences {
    pub(crate) fn new(data_dir: &Path) -> Arc<Self> {
        Arc::new(Self { path: data_dir.join(FILE), turn: Mutex::default() })
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, action: &'static str) -> impl Fn(io::Error) -> LicenceError {
        let path = self.path.clone();
        move |source| LicenceError::File { action, path: path.clone(), source }
    }

    fn read(&self) -> Result<Map<String, Value>, LicenceError> {
        match fs::read(&self.path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| self.failed("read")(error.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Map::new()),
            Err(error) => Err(self.failed("read")(error)),
        }
    }

    /// Replaces the file; durable when it returns.
    fn write(&self, all: &Map<String, Value>) -> Result<(), LicenceError> {
        let folder = self.path.parent().expect("it was joined to a folder");
        fs::create_dir_all(folder).map_err(self.failed("write"))?;
        let text = serde_json::to_vec_pretty(all).expect("text and numbers can be written");
        let mut file = tempfile_beside(&self.path).map_err(self.failed("write"))?;
        let written = file.1.write_all(&text).and_then(|()| file.1.sync_all());
        written.map_err(self.failed("write"))?;
        fs::rename(&file.0, &self.path).map_err(self.failed("write"))?;
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(self.failed("write"))
    }
}

fn tempfile_beside(path: &Path) -> io::Result<(PathBuf, File)> {
    let new = path.with_extension("json.new");
    let file = File::create(&new)?;
    Ok((new, file))
}

/// The licence of one device.
#[derive(Clone, Debug)]
pub(crate) struct Licence {
    licences: Arc<Licences>,
    serial: Option<String>,
}

impl Licence {
    pub(crate) fn new(licences: Arc<Licences>, serial: Option<&str>) -> Self {
        Self { licences, serial: serial.map(|serial| serial.trim().to_owned()) }
    }

    /// The serial number that was typed.
    pub(crate) fn serial(&self) -> Option<&str> {
        self.serial.as_deref()
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&str, &mut Map<String, Value>) -> Result<(T, bool), LicenceError>,
    ) -> Result<Option<T>, LicenceError> {
        let Some(serial) = &self.serial else { return Ok(None) };
        let _turn = self.licences.turn();
        let mut all = self.licences.read()?;
        let entry = all.entry(serial.as_str()).or_insert_with(|| json!({}));
        if !entry.is_object() {
            *entry = json!({});
        }
        let (result, changed) = change(serial, entry.as_object_mut().expect("made one above"))?;
        if changed {
            self.licences.write(&all)?;
        }
        Ok(Some(result))
    }

    /// The controller is taken although all this was found.
    pub(crate) fn take(&self, found: &[String]) -> Result<(), LicenceError> {
        if found.is_empty() {
            return Ok(());
        }
        let path = self.licences.path.clone();
        let used = self.change(|serial, entry| {
            let Some(known) = entry.get("found").and_then(Value::as_array) else {
                entry.insert("found".to_owned(), json!(found));
                return Ok(((), true));
            };
            let known: Vec<String> = known.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            match found.iter().find(|one| !known.contains(one)) {
                None => Ok(((), false)),
                Some(new) => {
                    Err(LicenceError::NotFor { serial: serial.to_owned(), known, found: new.clone(), path })
                }
            }
        });
        used.map(drop)
    }

    /// What may be destroyed to make a volume on namespace `nsid`.
    pub(crate) fn of_namespace(&self, nsid: u32) -> Result<Confirmed, LicenceError> {
        let confirmed = self.change(|_, entry| {
            let made = entry.get("namespaces").and_then(|namespaces| namespaces.get(nsid.to_string()));
            let Some(made) = made else { return Ok((Confirmed::Anything, false)) };
            // What cannot be read names no volume that could be there.
            let volume = made.as_str().and_then(|text| uuid::Uuid::from_str(text).ok());
            Ok((volume.map_or(Confirmed::Nothing, Confirmed::Volume), false))
        });
        Ok(confirmed?.unwrap_or(Confirmed::Nothing))
    }

    /// A volume was made on namespace `nsid`.
    pub(crate) fn made(&self, nsid: u32, volume: uuid::Uuid) -> Result<(), LicenceError> {
        let made = self.change(|_, entry| {
            let namespaces = entry.entry("namespaces").or_insert_with(|| json!({}));
            if !namespaces.is_object() {
                *namespaces = json!({});
            }
            let namespaces = namespaces.as_object_mut().expect("made one above");
            let before = namespaces.insert(nsid.to_string(), json!(volume.to_string()));
            Ok(((), before != Some(json!(volume.to_string()))))
        });
        made.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn found(what: &[&str]) -> Vec<String> {
        what.iter().map(|what| (*what).to_owned()).collect()
    }

    #[test]
    fn a_licence_is_for_what_was_found_when_it_was_used() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = folder.path().join("data");
        let licence = |serial| Licence::new(Licences::new(&data_dir), serial);
        let both = found(&["holds an XFS filesystem", "is mounted at /mnt"]);
        licence(Some(" S1 ")).take(&[]).unwrap();
        assert!(!data_dir.exists(), "nothing was licensed");
        licence(Some("S1")).take(&both).unwrap();
        // Again, also after a restart, and less of it.
        licence(Some("S1")).take(&both).unwrap();
        licence(Some("S1")).take(&both[..1]).unwrap();
        let more = found(&["holds an XFS filesystem", "holds a LUKS volume"]);
        let error = licence(Some("S1")).take(&more).unwrap_err().to_string();
        assert!(
            error.contains("is mounted at /mnt") && error.contains("and now holds a LUKS volume"),
            "{error}"
        );
        assert!(error.contains("confirmed-serials.json"), "{error}");
        licence(Some("S2")).take(&more).unwrap();
    }

    #[test]
    fn a_namespace_is_overwritten_once_and_then_only_by_its_own_volumes() {
        let folder = tempfile::tempdir().unwrap();
        let licence = |serial| Licence::new(Licences::new(folder.path()), serial);
        assert_eq!(licence(None).of_namespace(1).unwrap(), Confirmed::Nothing);
        assert_eq!(licence(Some("S1")).of_namespace(1).unwrap(), Confirmed::Anything);
        licence(Some("S1")).made(1, Uuid::from_u128(7)).unwrap();
        assert_eq!(licence(Some("S1")).of_namespace(1).unwrap(), Confirmed::Volume(Uuid::from_u128(7)));
        assert_eq!(licence(Some("S1")).of_namespace(2).unwrap(), Confirmed::Anything);
        assert_eq!(licence(Some("S2")).of_namespace(1).unwrap(), Confirmed::Anything);
        licence(Some("S1")).made(1, Uuid::from_u128(8)).unwrap();
        assert_eq!(licence(Some("S1")).of_namespace(1).unwrap(), Confirmed::Volume(Uuid::from_u128(8)));
    }

    #[test]
    fn what_cannot_be_read_licenses_nothing() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE), b"{").unwrap();
        let licence = Licence::new(Licences::new(folder.path()), Some("S1"));
        assert!(licence.of_namespace(1).is_err() && licence.take(&found(&["x"])).is_err());
        assert!(licence.made(1, Uuid::from_u128(7)).is_err());
    }
}
