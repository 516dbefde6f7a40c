//! Crash at every step, damage, locks, secrets.

use std::os::unix::fs::PermissionsExt;

use super::file::{Previous, STEPS, replace_observed};
use super::*;
use crate::model::ChapUser;

fn volume(name: &str) -> VolumeRecord {
    let spec = VolumeSpec {
        name: name.parse().unwrap(),
        uuid: uuid::Uuid::from_u128(7),
        size_bytes: 1 << 20,
        block_size: 512,
        backing: Backing::File,
        core: None,
    };
    VolumeRecord { spec, phase: Phase::Ready }
}

fn add(catalog: &mut Catalog, name: &str) {
    let record = volume(name);
    let added: Result<(), CatalogError> = catalog.change(|state| {
        state.volumes.insert(record.spec.name.clone(), record);
        Ok(())
    });
    added.unwrap();
}

fn names(catalog: &Catalog) -> Vec<&str> {
    catalog.state().volumes.keys().map(VolumeName::as_str).collect()
}

fn crash() -> CatalogError {
    CatalogError::file("crash at", Path::new("here"))(std::io::Error::other("crash"))
}

#[test]
fn what_is_changed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/data");
    let mut catalog = Catalog::open(&path).unwrap();
    add(&mut catalog, "a");
    add(&mut catalog, "b");
    let refused: Result<(), CatalogError> = catalog.change(|state| {
        state.volumes.clear();
        Err(crash())
    });
    assert!(refused.is_err());
    drop(catalog);
    let catalog = Catalog::open(&path).unwrap();
    assert_eq!((names(&catalog), catalog.generation()), (vec!["a", "b"], 2));
    assert!(catalog.recovered().is_none());
}

#[test]
fn a_crash_at_any_step_leaves_the_old_or_the_new_state() {
    for crash_before in STEPS {
        let dir = tempfile::tempdir().unwrap();
        let mut catalog = Catalog::open(dir.path()).unwrap();
        add(&mut catalog, "a");
        add(&mut catalog, "b");
        let mut next = catalog.state().clone();
        next.volumes.insert("c".parse().unwrap(), volume("c"));
        let content = document::encode(&next, 3);
        let document = dir.path().join(document::FILE_NAME);
        let mut reached = false;
        let result = replace_observed(&document, &content, Previous::Keep, &mut |step| {
            reached |= step == crash_before;
            if step == crash_before { Err(crash()) } else { Ok(()) }
        });
        assert!(reached && result.is_err());
        drop(catalog);
        let mut catalog = Catalog::open(dir.path()).unwrap();
        assert!(catalog.recovered().is_none(), "{crash_before:?}");
        let expected = match crash_before {
            file::Step::SyncDirectory => vec!["a", "b", "c"],
            _ => vec!["a", "b"],
        };
        assert_eq!(names(&catalog), expected, "{crash_before:?}");
        // And the wreck is not in the way of the next change.
        add(&mut catalog, "d");
        drop(catalog);
        assert!(names(&Catalog::open(dir.path()).unwrap()).contains(&"d"));
    }
}

#[test]
fn damage_of_any_kind_is_found_and_the_state_before_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    add(&mut catalog, "a");
    add(&mut catalog, "b");
    drop(catalog);
    let path = dir.path().join(document::FILE_NAME);
    let whole = std::fs::read(&path).unwrap();
    let text = String::from_utf8(whole.clone()).unwrap();
    let damages = [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        vec![0; whole.len()],
        text.replace("1048576", "2097152").into_bytes(),
        text.replace("\"ready\"", "\"redy\"").into_bytes(),
    ];
    for damaged in damages {
        assert_ne!(damaged, whole);
        std::fs::write(&path, damaged).unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        assert_eq!(names(&catalog), ["a"]);
        assert!(catalog.recovered().unwrap().contains("catalog.json"));
    }
    std::fs::remove_file(&path).unwrap();
    assert_eq!(names(&Catalog::open(dir.path()).unwrap()), ["a"]);
    std::fs::write(file::previous_path(&path), "{}").unwrap();
    std::fs::write(&path, "{").unwrap();
    assert!(matches!(Catalog::open(dir.path()), Err(CatalogError::Unusable { .. })));
}

#[test]
fn a_newer_format_is_never_touched() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    add(&mut catalog, "a");
    add(&mut catalog, "b");
    drop(catalog);
    let path = dir.path().join(document::FILE_NAME);
    let newer = std::fs::read_to_string(&path).unwrap().replace("\"version\": 1", "\"version\": 4");
    std::fs::write(&path, &newer).unwrap();
    let error = Catalog::open(dir.path()).err().unwrap();
    assert!(matches!(error, CatalogError::NewerVersion { found: 4, known: 3, .. }));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn the_format_is_as_old_as_what_is_in_it_allows() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    let path = dir.path().join(document::FILE_NAME);
    let is_version = |version: u64| {
        let text = std::fs::read_to_string(&path).unwrap();
        text.contains(&format!("\"version\": {version},"))
    };
    add(&mut catalog, "a");
    assert!(is_version(1));
    let device: DeviceName = "fast-1".parse().unwrap();
    let put = |catalog: &mut Catalog, backing: Backing| -> Result<(), CatalogError> {
        catalog.change(|state| {
            state.volumes.values_mut().for_each(|record| record.spec.backing = backing.clone());
            Ok(())
        })
    };
    put(&mut catalog, Backing::Nvme { device: device.clone(), namespace: 2 }).unwrap();
    assert!(is_version(3));
    drop(catalog);
    let mut catalog = Catalog::open(dir.path()).unwrap();
    let volume = |nsid| catalog.state().volume_on(&device, nsid).map(ToString::to_string);
    assert_eq!((volume(2).as_deref(), volume(1)), (Some("a"), None));
    put(&mut catalog, Backing::Memory).unwrap();
    assert!(is_version(1));
}

#[test]
fn the_second_process_is_told_who_has_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let first = Catalog::open(dir.path()).unwrap();
    let error = Catalog::open(dir.path()).err().unwrap().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    assert!(error.contains("--data-dir"), "{error}");
    drop(first);
    assert!(Catalog::open(dir.path()).is_ok());
}

#[test]
fn secrets_are_apart_private_and_really_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let mut catalog = Catalog::open(dir.path()).unwrap();
    let target: IscsiName = "iqn.2026-11.io.vega:a".parse().unwrap();
    let user: ChapUserName = "host".parse().unwrap();
    let secret = Secret::new(b"correct horse battery".to_vec()).unwrap();
    catalog.put_secret(&target, &user, secret.clone()).unwrap();
    let mut spec = TargetSpec::new(target.clone());
    spec.users.push(ChapUser { name: user.clone(), role: ChapRole::Initiator });
    let put = |catalog: &mut Catalog, spec: TargetSpec| -> Result<(), CatalogError> {
        catalog.change(|state| {
            state.targets.insert(spec.name.clone(), spec);
            Ok(())
        })
    };
    put(&mut catalog, spec.clone()).unwrap();
    assert_eq!(catalog.resolve(&spec).unwrap().users.len(), 1);
    let other: ChapUserName = "own".parse().unwrap();
    assert!(catalog.check_secret(&spec, &other, ChapRole::Target, &secret).is_err());
    assert!(catalog.check_secret(&spec, &other, ChapRole::Initiator, &secret).is_ok());
    drop(catalog);

    let secrets = dir.path().join("secrets.json");
    assert_eq!(std::fs::metadata(&secrets).unwrap().permissions().mode() & 0o777, 0o600);
    let document = std::fs::read_to_string(dir.path().join("catalog.json")).unwrap();
    assert!(!document.contains("battery") && document.contains("host"));

    let mut catalog = Catalog::open(dir.path()).unwrap();
    assert!(catalog.resolve(&spec).unwrap().users[0].secret.same_as(&secret));
    put(&mut catalog, TargetSpec::new(target)).unwrap();
    catalog.forget_secrets().unwrap();
    drop(catalog);
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            assert!(!std::fs::read_to_string(&path).unwrap().contains("battery"), "{}", path.display());
        }
    }
}

#[test]
fn a_lost_secret_closes_the_target_instead_of_opening_it() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let mut spec = TargetSpec::new("iqn.2026-11.io.vega:a".parse().unwrap());
    spec.users.push(ChapUser { name: "host".parse().unwrap(), role: ChapRole::Initiator });
    assert!(matches!(catalog.resolve(&spec), Err(CatalogError::SecretMissing { .. })));
}

#[test]
fn subsystems_are_kept_and_raise_the_version_only_while_there_are_some() {
    let dir = tempfile::tempdir().unwrap();
    let version = || {
        let text = std::fs::read_to_string(dir.path().join(document::FILE_NAME)).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()["version"].as_u64().unwrap()
    };
    let mut catalog = Catalog::open(dir.path()).unwrap();
    add(&mut catalog, "a");
    assert_eq!(version(), 1);
    let mut spec = SubsystemSpec::new("nqn.2026-11.io.vega:s".parse().unwrap());
    spec.namespaces.insert(Nsid::try_from(7).unwrap(), "a".parse().unwrap());
    spec.allow.insert("nqn.2026-11.io.vega:h*".parse().unwrap());
    spec.ana.insert(2.try_into().unwrap(), crate::model::AnaState::NonOptimized);
    let put: Result<(), CatalogError> = catalog.change(|state| {
        state.subsystems.insert(spec.nqn.clone(), spec.clone());
        Ok(())
    });
    put.unwrap();
    assert_eq!(version(), 2);
    drop(catalog);
    let mut catalog = Catalog::open(dir.path()).unwrap();
    assert_eq!(catalog.state().subsystems[&spec.nqn], spec);
    let volume = "a".parse().unwrap();
    assert_eq!(catalog.state().namespace_of(&volume).map(|(_, nsid)| nsid.get()), Some(7));
    let clear: Result<(), CatalogError> = catalog.change(|state| {
        state.subsystems.clear();
        Ok(())
    });
    clear.unwrap();
    assert_eq!(version(), 1);
}

/// Written by a program that knew no subsystems.
const VERSION_1: &str = r#"{
  "version": 1,
  "generation": 2,
  "crc32c": "0a1996dd",
  "state": {
    "targets": {
      "iqn.2026-11.io.vega:t": {
        "allow": [],
        "auth_method": "none",
        "data_digest": "initiator",
        "header_digest": "initiator",
        "luns": { "0": "a" },
        "name": "iqn.2026-11.io.vega:t",
        "portal_group_tag": 1,
        "users": []
      }
    },
    "volumes": {
      "a": {
        "phase": "ready",
        "spec": {
          "backing": "file",
          "block_size": 512,
          "name": "a",
          "size_bytes": 1048576,
          "uuid": "00000000-0000-0000-0000-000000000007"
        }
      }
    }
  }
}"#;

#[test]
fn a_document_of_the_first_version_is_read() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(document::FILE_NAME), VERSION_1).unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    assert!(catalog.recovered().is_none());
    assert_eq!((names(&catalog), catalog.generation()), (vec!["a"], 2));
    assert!(catalog.state().subsystems.is_empty() && catalog.state().targets.len() == 1);
}
