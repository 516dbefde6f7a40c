//! Subsystems against a data plane that refuses, forgets and restarts.

use std::sync::Arc;

use super::*;
use crate::bridge::PlaneError;
use crate::fake::Fault;
use crate::model::{AnaState, ResolvedSubsystem};
use crate::service::tests::{Fixture, new_volume};

fn nqn(text: &str) -> Nqn {
    format!("nqn.2026-11.io.vega:{text}").parse().unwrap()
}

fn nsid(number: u64) -> Nsid {
    number.try_into().unwrap()
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn new_subsystem(text: &str) -> NewSubsystem {
    serde_json::from_value(serde_json::json!({ "nqn": nqn(text) })).unwrap()
}

fn ana_of(subsystem: &ResolvedSubsystem, tag: u64) -> AnaState {
    subsystem.ana[&tag.try_into().unwrap()]
}

fn code(error: ServiceError) -> &'static str {
    error.code_and_status().0
}

async fn with_volumes(names: &[&str]) -> Fixture {
    let it = Fixture::new();
    it.service.restore().await;
    for text in names {
        it.service.create_volume(new_volume(text)).await.unwrap();
    }
    it
}

#[tokio::test]
async fn the_same_again_is_the_same_subsystem() {
    let it = with_volumes(&[]).await;
    let (view, created) = it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    assert_eq!(
        (created, view.spec.serial_number.as_str().len(), view.listeners.len()),
        (Created::New, 20, 2)
    );
    assert!(view.warnings[0].contains("every host"));
    let (again, created) = it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    assert_eq!((created, again.spec.serial_number), (Created::Existing, view.spec.serial_number));
    let other = NewSubsystem { serial_number: Some("1".parse().unwrap()), ..new_subsystem("s") };
    let error = it.service.create_subsystem(other).await.unwrap_err();
    assert!(error.to_string().contains("another serial number"), "{error}");
    let elsewhere =
        NewSubsystem { ana: [(7.try_into().unwrap(), AnaState::Optimized)].into(), ..new_subsystem("t") };
    let error = it.service.create_subsystem(elsewhere).await.unwrap_err();
    assert!(error.to_string().contains("tag 7; it has 1, 2"), "{error}");
    assert_eq!(it.plane.log(), ["set-subsystem"]);
    it.service.delete_subsystem(&nqn("s")).await.unwrap();
    assert!(it.plane.subsystem(&nqn("s")).is_none());
    assert_eq!(code(it.service.delete_subsystem(&nqn("s")).await.unwrap_err()), "not-found");
}

#[tokio::test]
async fn a_volume_is_one_namespace_and_cannot_go_while_it_is() {
    let it = with_volumes(&["a", "b"]).await;
    let (s, t) = (nqn("s"), nqn("t"));
    it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    it.service.create_subsystem(new_subsystem("t")).await.unwrap();
    let missing = it.service.add_namespace(&s, None, name("c")).await.unwrap_err();
    assert!(matches!(missing, ServiceError::NotFound { kind: ObjectKind::Volume, .. }));
    it.service.add_namespace(&s, Some(nsid(3)), name("a")).await.unwrap();
    let view = it.service.add_namespace(&s, None, name("a")).await.unwrap();
    assert_eq!(view.spec.namespaces.len(), 1, "it is a namespace already");
    let view = it.service.add_namespace(&s, None, name("b")).await.unwrap();
    assert_eq!(view.spec.nsid_of(&name("b")), Some(nsid(1)));
    assert_eq!(code(it.service.add_namespace(&s, Some(nsid(3)), name("b")).await.unwrap_err()), "in-use");
    assert_eq!(
        code(it.service.add_namespace(&s, Some(nsid(2)), name("b")).await.unwrap_err()),
        "invalid-value"
    );
    let error = it.service.add_namespace(&t, None, name("a")).await.unwrap_err();
    assert!(error.to_string().contains("nqn.2026-11.io.vega:s as namespace 3"), "{error}");
    let taken = NewSubsystem { namespaces: [(nsid(1), name("a"))].into(), ..new_subsystem("u") };
    assert_eq!(code(it.service.create_subsystem(taken).await.unwrap_err()), "in-use");

    let target = serde_json::json!({ "name": "iqn.2026-11.io.vega:t", "luns": { "0": "a" } });
    it.service.create_target(serde_json::from_value(target).unwrap()).await.unwrap();
    let view = it.service.volume(&name("a")).await.unwrap();
    assert_eq!((view.mapped_by.len(), view.namespace.unwrap().nsid), (1, 3));
    it.service.grow_volume(&name("a"), 2 << 20).await.unwrap();
    let error = it.service.delete_volume(&name("a"), false, None).await.unwrap_err().to_string();
    for part in [
        "LUN 0 of target iqn.2026-11.io.vega:t and namespace 3 of subsystem nqn.2026-11.io.vega:s",
        "vega target lun remove iqn.2026-11.io.vega:t 0",
        "vega subsystem remove-namespace nqn.2026-11.io.vega:s 3",
    ] {
        assert!(error.contains(part), "{error}");
    }
    it.service.delete_target(&"iqn.2026-11.io.vega:t".parse().unwrap()).await.unwrap();
    assert_eq!(code(it.service.delete_volume(&name("a"), false, None).await.unwrap_err()), "in-use");
    it.service.remove_namespace(&s, nsid(3)).await.unwrap();
    assert_eq!(code(it.service.remove_namespace(&s, nsid(3)).await.unwrap_err()), "not-found");
    it.service.delete_volume(&name("a"), false, None).await.unwrap();
}

#[tokio::test]
async fn hosts_are_listed_and_what_is_refused_is_not_desired_any_longer() {
    let it = with_volumes(&["a"]).await;
    let s = nqn("s");
    it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    let host: HostPattern = "nqn.2026-11.io.vega:h*".parse().unwrap();
    let view = it.service.allow_host(&s, host.clone()).await.unwrap();
    assert!(
        view.warnings.is_empty() && it.plane.subsystem(&s).unwrap().spec.admits("nqn.2026-11.io.vega:host")
    );
    let refused = || Fault::Fail(PlaneError::Unsupported { field: "namespaces", reason: "no".to_owned() });
    it.plane.inject("set-subsystem", refused());
    assert_eq!(code(it.service.add_namespace(&s, None, name("a")).await.unwrap_err()), "unsupported");
    assert!(it.service.subsystem(&s).unwrap().spec.namespaces.is_empty());
    it.plane.inject("set-subsystem", refused());
    assert!(it.service.create_subsystem(new_subsystem("t")).await.is_err());
    assert_eq!(code(it.service.subsystem(&nqn("t")).unwrap_err()), "not-found");
    let error = it.service.deny_host(&s, host.clone(), false).await.unwrap_err();
    assert!(error.to_string().contains("--admit-all") && code(error) == "not-confirmed");
    it.service.deny_host(&s, host.clone(), true).await.unwrap();
    let error = it.service.deny_host(&s, host, true).await.unwrap_err().to_string();
    assert!(error.contains("has no host") && error.contains("vega subsystem show"), "{error}");
    let change =
        SubsystemChange { data_digest: Some(crate::model::HostDigest::Require), header_digest: None };
    it.service.change_subsystem(&s, change).await.unwrap();
    assert_eq!(it.plane.subsystem(&s).unwrap().spec.data_digest.as_str(), "require");
    it.service.begin_drain();
    assert_eq!(code(it.service.create_subsystem(new_subsystem("u")).await.unwrap_err()), "shutting-down");
}

#[tokio::test]
async fn ana_states_are_set_for_one_and_for_all_and_kept() {
    let it = with_volumes(&[]).await;
    for text in ["s", "t"] {
        it.service.create_subsystem(new_subsystem(text)).await.unwrap();
    }
    let (first, second) = (1.try_into().unwrap(), 2.try_into().unwrap());
    let views = it.service.set_ana_state(second, Some(&nqn("s")), AnaState::NonOptimized).await.unwrap();
    assert_eq!(
        views[0].listeners.iter().map(|l| l.ana.as_str()).collect::<Vec<_>>(),
        ["optimized", "non-optimized"]
    );
    let views = it.service.set_ana_state(first, None, AnaState::Inaccessible).await.unwrap();
    assert_eq!(views.len(), 2);
    let expected = [(first, AnaState::Inaccessible), (second, AnaState::NonOptimized)].into();
    assert_eq!(it.plane.subsystem(&nqn("s")).unwrap().ana, expected);
    assert_eq!(it.plane.log()[2..], ["set-ana-state", "set-ana-state"]);
    let unknown = it.service.set_ana_state(9.try_into().unwrap(), None, AnaState::Change).await.unwrap_err();
    assert!(unknown.to_string().contains("it has 1, 2"), "{unknown}");
    let unknown = it.service.set_ana_state(first, Some(&nqn("u")), AnaState::Change).await.unwrap_err();
    assert!(matches!(unknown, ServiceError::NotFound { kind: ObjectKind::Subsystem, .. }));
    it.plane.inject("set-ana-state", Fault::Fail(PlaneError::ShuttingDown));
    assert!(it.service.set_ana_state(second, None, AnaState::Change).await.is_err());
    let it = it.restart().await;
    assert_eq!(it.plane.subsystem(&nqn("s")).unwrap().ana, expected, "what was refused is taken back");
    assert_eq!(ana_of(&it.plane.subsystem(&nqn("t")).unwrap(), 2), AnaState::Optimized);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_made_good() {
    let it = with_volumes(&["a"]).await;
    it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    it.plane.inject("set-ana-state", Fault::Silent);
    let error =
        it.service.set_ana_state(1.try_into().unwrap(), None, AnaState::Inaccessible).await.unwrap_err();
    assert_eq!(code(error), "deadline-exceeded");
    assert!(!it.service.readiness().await.ready);
    // Said again for the one, it is given to the data plane as a whole.
    let one = nqn("s");
    it.service.set_ana_state(2.try_into().unwrap(), Some(&one), AnaState::NonOptimized).await.unwrap();
    assert_eq!(ana_of(&it.plane.subsystem(&one).unwrap(), 1), AnaState::Inaccessible);
    assert_eq!(ana_of(&it.plane.subsystem(&one).unwrap(), 2), AnaState::NonOptimized);
    assert!(it.service.readiness().await.ready);

    it.plane.inject("set-subsystem", Fault::Silent);
    assert!(it.service.add_namespace(&one, None, name("a")).await.is_err());
    assert!(it.plane.subsystem(&one).unwrap().spec.namespaces.is_empty());
    it.service.retry_failed().await;
    assert_eq!(it.plane.subsystem(&one).unwrap().spec.namespaces.len(), 1);
    assert!(it.service.readiness().await.ready);
}

#[tokio::test]
async fn subsystems_are_restored_after_their_volumes_and_without_the_lost_ones() {
    let it = with_volumes(&["a", "b"]).await;
    it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    for text in ["a", "b"] {
        it.service.add_namespace(&nqn("s"), None, name(text)).await.unwrap();
    }
    let path = it.service.volume(&name("a")).await.unwrap().data_path.unwrap();
    let lost = it.disk.lock().unwrap().remove(std::path::Path::new(&path)).unwrap();
    let it = it.restart().await;
    let served = it.plane.subsystem(&nqn("s")).unwrap();
    assert_eq!(served.spec.namespaces.keys().map(|nsid| nsid.get()).collect::<Vec<_>>(), [2]);
    let failed: Vec<_> = it.service.readiness().await.checks.into_iter().filter(|check| !check.ok).collect();
    assert_eq!(failed[1].name, "subsystem/nqn.2026-11.io.vega:s");
    assert!(failed[1].detail.as_ref().unwrap().contains("without namespace 1 (a)"));
    assert_eq!(it.service.subsystem(&nqn("s")).unwrap().spec.namespaces.len(), 2, "it is still desired");
    it.disk.lock().unwrap().insert(path.into(), lost);
    it.service.retry_failed().await;
    assert_eq!(it.plane.subsystem(&nqn("s")).unwrap().spec.namespaces.len(), 2);
    assert!(it.service.readiness().await.ready);
}

#[tokio::test]
async fn configured_subsystems_are_created_once_and_left_alone_afterwards() {
    let it = with_volumes(&[]).await;
    let text = "[[volume]]\nname = 'a'\nsize = '1MiB'\n[[subsystem]]\nnqn = 'nqn.2026-11.io.vega:s'\n\
                namespaces = { 1 = 'a' }\nana = { 2 = 'non-optimized' }\n[[subsystem]]\nnqn = 'nqn.2026-11.io.vega:t'\n\
                namespaces = { 1 = 'b' }\n";
    let config = crate::config::load_text(text, "test", &crate::config::Environment::default()).unwrap();
    it.service.create_missing(&config).await;
    let served = it.plane.subsystem(&nqn("s")).unwrap();
    assert_eq!((served.spec.namespaces.len(), ana_of(&served, 2)), (1, AnaState::NonOptimized));
    let readiness = it.service.readiness().await;
    let failed = readiness.checks.iter().find(|check| !check.ok).unwrap();
    assert_eq!(failed.name, "subsystem/nqn.2026-11.io.vega:t");
    it.service.remove_namespace(&nqn("s"), nsid(1)).await.unwrap();
    it.service.create_volume(new_volume("b")).await.unwrap();
    it.service.create_missing(&config).await;
    assert!(it.service.subsystem(&nqn("s")).unwrap().spec.namespaces.is_empty());
    assert!(it.service.readiness().await.ready);
}

#[tokio::test]
async fn many_changes_at_once_are_all_made() {
    let it = with_volumes(&["a", "b", "c", "d"]).await;
    it.service.create_subsystem(new_subsystem("s")).await.unwrap();
    it.service.create_subsystem(new_subsystem("t")).await.unwrap();
    let service = Arc::new(it.service.clone());
    let mut changes = tokio::task::JoinSet::new();
    for at in 0..32u64 {
        let service = service.clone();
        changes.spawn(async move {
            let volume = ["a", "b", "c", "d"][at as usize % 4];
            if at.is_multiple_of(3) {
                let state = [AnaState::Optimized, AnaState::NonOptimized][at as usize % 2];
                service.set_ana_state(1.try_into().unwrap(), None, state).await.map(drop)
            } else {
                service.add_namespace(&nqn("s"), None, name(volume)).await.map(drop)
            }
        });
    }
    while let Some(joined) = changes.join_next().await {
        joined.unwrap().unwrap();
    }
    let (served, desired) =
        (it.plane.subsystem(&nqn("s")).unwrap(), it.service.subsystem(&nqn("s")).unwrap());
    assert_eq!((served.spec.namespaces.len(), &served.spec.namespaces), (4, &desired.spec.namespaces));
    let of = |listener: &ListenerView| listener.ana;
    assert_eq!(ana_of(&served, 1), of(&desired.listeners[0]));
}
