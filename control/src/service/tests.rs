//! Operations against a data plane that refuses, forgets and restarts.

use tempfile::TempDir;

use super::*;
use crate::bridge::{DataPlane, ObjectKind};
use crate::catalog::Phase;
use crate::fake::{FakeDataPlane, FakeDisk, Fault};
use crate::model::{Backing, ChapRole, IscsiName, Secret, VolumeName};

pub(crate) struct Fixture {
    dir: TempDir,
    pub(crate) disk: FakeDisk,
    pub(crate) plane: Arc<FakeDataPlane>,
    pub(crate) service: Service,
}

fn listeners() -> Vec<Listener> {
    let of =
        |(tag, address): (u64, &str)| Listener { tag: tag.try_into().unwrap(), address: address.to_owned() };
    [(1, "127.0.0.1:4420"), (2, "192.0.2.10:4420")].map(of).into()
}

pub(crate) fn service_on(data_dir: &std::path::Path, plane: Arc<dyn DataPlane>) -> Service {
    let facts = NodeFacts {
        name: "test".to_owned(),
        data_dir: data_dir.to_owned(),
        portals: vec!["127.0.0.1:3260,1".to_owned()],
        listeners: listeners(),
        started_at: jiff::Timestamp::UNIX_EPOCH,
    };
    Service::new(Catalog::open(data_dir).unwrap(), Bridge::new(plane), facts)
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::on(tempfile::tempdir().unwrap(), FakeDisk::default())
    }

    fn on(dir: TempDir, disk: FakeDisk) -> Self {
        let plane = Arc::new(FakeDataPlane::on_disk(disk.clone()));
        let service = service_on(dir.path(), plane.clone());
        Self { dir, disk, plane, service }
    }

    /// The process ends, and begins again on the same files.
    pub(crate) async fn restart(self) -> Self {
        let Self { dir, disk, plane, service } = self;
        drop((plane, service));
        let again = Self::on(dir, disk);
        again.service.restore().await;
        again
    }

    fn phase(&self, volume: &str) -> Option<Phase> {
        self.service.state().volumes.get(&name(volume)).map(|record| record.phase)
    }
}

fn name(text: &str) -> VolumeName {
    text.parse().unwrap()
}

fn iqn(text: &str) -> IscsiName {
    format!("iqn.2026-11.io.vega:{text}").parse().unwrap()
}

pub(crate) fn new_volume(text: &str) -> NewVolume {
    NewVolume {
        name: name(text),
        size_bytes: 1 << 20,
        block_size: 512,
        backing: Backing::File,
        uuid: None,
        core: None,
    }
}

pub(crate) fn new_target(text: &str) -> NewTarget {
    serde_json::from_value(serde_json::json!({ "name": iqn(text) })).unwrap()
}

fn code(error: ServiceError) -> &'static str {
    error.code_and_status().0
}

#[tokio::test]
async fn creating_twice_is_creating_once() {
    let it = Fixture::new();
    let (first, created) = it.service.create_volume(new_volume("a")).await.unwrap();
    assert_eq!((created, first.state), (Created::New, VolumeState::Online));
    let (second, created) = it.service.create_volume(new_volume("a")).await.unwrap();
    assert_eq!((created, second.spec.uuid), (Created::Existing, first.spec.uuid));
    let larger = NewVolume { size_bytes: 2 << 20, block_size: 4096, ..new_volume("a") };
    let error = it.service.create_volume(larger).await.unwrap_err();
    assert!(error.to_string().contains("size, block size"), "{error}");
    assert_eq!(code(error), "exists-differently");
    assert_eq!(it.plane.log(), ["create-volume"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_at_once_create_one_of_each() {
    let it = Fixture::new();
    let creations: Vec<_> = (0..48)
        .map(|at| {
            let service = it.service.clone();
            tokio::spawn(async move { service.create_volume(new_volume(&format!("v{}", at % 6))).await })
        })
        .collect();
    let mut created = 0;
    for creation in creations {
        created += usize::from(creation.await.unwrap().unwrap().1 == Created::New);
    }
    assert_eq!((created, it.plane.volumes().len(), it.plane.log().len()), (6, 6, 6));
}

#[tokio::test]
async fn what_the_data_plane_refuses_is_not_desired_any_longer() {
    let it = Fixture::new();
    let full = PlaneError::NoSpace { what: "volume a".to_owned(), detail: "0 bytes left".to_owned() };
    it.plane.inject("create-volume", Fault::Fail(full));
    assert_eq!(code(it.service.create_volume(new_volume("a")).await.unwrap_err()), "no-space");
    assert_eq!(it.phase("a"), None);
    assert!(it.service.create_volume(new_volume("a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_creation_whose_answer_is_lost_is_finished_later() {
    for fault in [Fault::DoneButSilent, Fault::Silent] {
        let it = Fixture::new();
        it.plane.inject("create-volume", fault);
        assert_eq!(code(it.service.create_volume(new_volume("a")).await.unwrap_err()), "deadline-exceeded");
        assert_eq!(it.phase("a"), Some(Phase::Creating));
        let uuid = it.service.state().volumes[&name("a")].spec.uuid;
        let it = it.restart().await;
        assert_eq!(it.phase("a"), Some(Phase::Ready));
        assert_eq!(it.service.volume(&name("a")).await.unwrap().spec.uuid, uuid);

        let it = Fixture::new();
        it.plane.inject("create-volume", Fault::DoneButSilent);
        assert!(it.service.create_volume(new_volume("a")).await.is_err());
        let (view, created) = it.service.create_volume(new_volume("a")).await.unwrap();
        assert_eq!((view.state, created), (VolumeState::Online, Created::New), "asking again is enough");
    }
}

#[tokio::test]
async fn a_client_that_goes_away_does_not_stop_the_operation() {
    let it = Fixture::new();
    {
        let creation = it.service.create_volume(new_volume("a"));
        tokio::pin!(creation);
        // Begun, and dropped at its first wait.
        assert!(futures_poll_once(creation).await);
    }
    while it.phase("a") != Some(Phase::Ready) {
        tokio::task::yield_now().await;
    }
}

/// Polls a future once; true when it is not finished.
async fn futures_poll_once(mut future: std::pin::Pin<&mut impl Future>) -> bool {
    std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

#[tokio::test]
async fn growing_never_shrinks_and_survives_a_lost_answer() {
    let it = Fixture::new();
    it.service.create_volume(new_volume("a")).await.unwrap();
    let error = it.service.grow_volume(&name("a"), 1 << 19).await.unwrap_err();
    assert_eq!(code(error), "invalid-value", "below the smallest size");
    it.service.grow_volume(&name("a"), 2 << 20).await.unwrap();
    assert_eq!(code(it.service.grow_volume(&name("a"), 1 << 20).await.unwrap_err()), "shrink-refused");
    assert_eq!(code(it.service.grow_volume(&name("a"), (2 << 20) + 1).await.unwrap_err()), "invalid-value");
    assert_eq!(code(it.service.grow_volume(&name("b"), 2 << 20).await.unwrap_err()), "not-found");
    let view = it.service.grow_volume(&name("a"), 2 << 20).await.unwrap();
    assert_eq!(view.spec.size_bytes, 2 << 20);
    let log = it.plane.log();
    assert_eq!(
        log.iter().filter(|request| **request == "grow-volume").count(),
        1,
        "the same size is no change"
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_growth_is_finished_after_a_restart() {
    for fault in [Fault::DoneButSilent, Fault::Silent] {
        let it = Fixture::new();
        it.service.create_volume(new_volume("a")).await.unwrap();
        it.plane.inject("grow-volume", fault);
        assert!(it.service.grow_volume(&name("a"), 4 << 20).await.is_err());
        assert_eq!(it.phase("a"), Some(Phase::Growing { size_bytes: 4 << 20 }));
        assert_eq!(code(it.service.grow_volume(&name("a"), 2 << 20).await.unwrap_err()), "shrink-refused");
        let it = it.restart().await;
        let view = it.service.volume(&name("a")).await.unwrap();
        assert_eq!((view.spec.size_bytes, view.state), (4 << 20, VolumeState::Online));
    }
}

#[tokio::test]
async fn nothing_is_destroyed_by_default() {
    let it = Fixture::new();
    let (view, _) = it.service.create_volume(new_volume("a")).await.unwrap();
    let deleted = it.service.delete_volume(&name("a"), false, None).await.unwrap();
    assert!(!deleted.data_deleted && deleted.data_path == view.data_path);
    assert_eq!(it.disk.lock().unwrap().len(), 1);
    let error = it.service.create_volume(new_volume("a")).await.unwrap_err();
    assert_eq!(code(error), "already-exists", "the kept data is not taken for a new volume");
    let adopted = NewVolume { uuid: Some(deleted.uuid), ..new_volume("a") };
    it.service.create_volume(adopted).await.unwrap();
    for confirm in [None, Some("b"), Some("")] {
        let error = it.service.delete_volume(&name("a"), true, confirm).await.unwrap_err();
        assert_eq!(code(error), "not-confirmed");
    }
    let deleted = it.service.delete_volume(&name("a"), true, Some("a")).await.unwrap();
    assert!(deleted.data_deleted && it.disk.lock().unwrap().is_empty());
    let memory = NewVolume { backing: Backing::Memory, ..new_volume("m") };
    it.service.create_volume(memory).await.unwrap();
    let error = it.service.delete_volume(&name("m"), false, None).await.unwrap_err();
    assert_eq!(code(error), "not-confirmed", "closing a memory volume loses its content");
    assert!(it.service.delete_volume(&name("m"), true, Some("m")).await.is_ok());
    assert_eq!(code(it.service.delete_volume(&name("m"), false, None).await.unwrap_err()), "not-found");
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_deletion_is_finished_after_a_restart() {
    for fault in [Fault::DoneButSilent, Fault::Silent] {
        let it = Fixture::new();
        it.service.create_volume(new_volume("a")).await.unwrap();
        it.plane.inject("delete-volume", fault);
        assert!(it.service.delete_volume(&name("a"), true, Some("a")).await.is_err());
        assert_eq!(code(it.service.create_volume(new_volume("a")).await.unwrap_err()), "unfinished");
        let it = it.restart().await;
        assert_eq!(it.phase("a"), None);
        assert!(it.disk.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_mapped_volume_stays_and_a_lun_keeps_its_volume() {
    let it = Fixture::new();
    let lun = |number: u64| crate::model::Lun::try_from(number).unwrap();
    let target = iqn("t");
    it.service.create_target(new_target("t")).await.unwrap();
    let error = it.service.put_lun(&target, lun(0), name("a")).await.unwrap_err();
    assert!(matches!(error, ServiceError::NotFound { kind: ObjectKind::Volume, .. }));
    it.service.create_volume(new_volume("a")).await.unwrap();
    it.service.create_volume(new_volume("b")).await.unwrap();
    it.service.put_lun(&target, lun(0), name("a")).await.unwrap();
    it.service.put_lun(&target, lun(0), name("a")).await.unwrap();
    assert_eq!(code(it.service.put_lun(&target, lun(0), name("b")).await.unwrap_err()), "in-use");
    let error = it.service.delete_volume(&name("a"), false, None).await.unwrap_err();
    assert!(error.to_string().contains("vega target lun remove iqn.2026-11.io.vega:t 0"), "{error}");
    assert_eq!(it.plane.target(&target).unwrap().spec.luns.len(), 1);
    it.service.remove_lun(&target, lun(0)).await.unwrap();
    assert_eq!(code(it.service.remove_lun(&target, lun(0)).await.unwrap_err()), "not-found");
    it.service.delete_volume(&name("a"), false, None).await.unwrap();
}

#[tokio::test]
async fn users_reach_the_data_plane_with_their_secrets_and_refusals_are_taken_back() {
    let it = Fixture::new();
    let (target, secret) = (iqn("t"), |text: &str| Secret::new(text.as_bytes().to_vec()).unwrap());
    it.service.create_target(new_target("t")).await.unwrap();
    let put = |user: &str, role, text: &str| {
        it.service.put_user(&target, user.parse().unwrap(), role, secret(text))
    };
    put("host", ChapRole::Initiator, "first secret 1").await.unwrap();
    let error = put("self", ChapRole::Target, "first secret 1").await.unwrap_err();
    assert!(error.to_string().contains("each direction"), "{error}");
    put("self", ChapRole::Target, "other secret 2").await.unwrap();
    let second = put("self2", ChapRole::Target, "third secret 3").await.unwrap_err();
    assert!(second.to_string().contains("already proves itself"), "{second}");
    let refused = PlaneError::Unsupported { field: "users", reason: "no".to_owned() };
    it.plane.inject("set-target", Fault::Fail(refused.clone()));
    assert!(put("host", ChapRole::Initiator, "never accepted").await.is_err());
    it.plane.inject("set-target", Fault::Fail(refused));
    assert!(put("late", ChapRole::Initiator, "never accepted").await.is_err());
    assert_eq!(it.service.target(&target).unwrap().spec.users.len(), 2);

    let it = it.restart().await;
    let served = it.plane.target(&target).unwrap();
    assert_eq!(served.users.len(), 1);
    assert!(served.users[0].secret.same_as(&secret("first secret 1")), "the refused secret is gone");
    assert!(served.own.unwrap().secret.same_as(&secret("other secret 2")));
    it.service.remove_user(&target, "host".parse().unwrap()).await.unwrap();
    let stored = std::fs::read_to_string(it.dir.path().join("secrets.json")).unwrap();
    assert!(!stored.contains("first secret 1") && !stored.contains("never"), "{stored}");
}

#[tokio::test]
async fn one_volume_that_cannot_be_opened_holds_up_nobody_and_is_tried_again() {
    let it = Fixture::new();
    let lun = |number: u64| crate::model::Lun::try_from(number).unwrap();
    it.service.create_target(new_target("t")).await.unwrap();
    for (at, text) in ["a", "b", "c"].into_iter().enumerate() {
        it.service.create_volume(new_volume(text)).await.unwrap();
        it.service.put_lun(&iqn("t"), lun(at as u64), name(text)).await.unwrap();
    }
    let lost = it.service.volume(&name("b")).await.unwrap().data_path.unwrap();
    let removed = it.disk.lock().unwrap().remove(std::path::Path::new(&lost)).unwrap();
    let it = it.restart().await;
    assert_eq!(it.plane.volumes(), ["a", "c"]);
    let served = it.plane.target(&iqn("t")).unwrap();
    assert_eq!(served.spec.luns.keys().map(|lun| lun.get()).collect::<Vec<_>>(), [0, 2]);
    let readiness = it.service.readiness().await;
    let failed: Vec<_> =
        readiness.checks.iter().filter(|check| !check.ok).map(|check| check.name.as_str()).collect();
    assert_eq!(failed, ["volume/b", "target/iqn.2026-11.io.vega:t"]);
    assert_eq!(it.service.volume(&name("b")).await.unwrap().state, VolumeState::Failed);

    it.disk.lock().unwrap().insert(lost.into(), removed);
    it.service.retry_failed().await;
    assert!(it.service.readiness().await.ready);
    assert_eq!(it.plane.target(&iqn("t")).unwrap().spec.luns.len(), 3);
}

#[tokio::test]
async fn a_refusal_leads_back_to_where_it_began() {
    let it = Fixture::new();
    it.service.restore().await;
    it.service.create_volume(new_volume("a")).await.unwrap();
    let refused = || Fault::Fail(PlaneError::ShuttingDown);
    it.plane.inject("grow-volume", refused());
    assert!(it.service.grow_volume(&name("a"), 2 << 20).await.is_err());
    it.plane.inject("close-volume", refused());
    assert!(it.service.delete_volume(&name("a"), false, None).await.is_err());
    assert_eq!(it.phase("a"), Some(Phase::Ready));
    assert_eq!(it.service.volume(&name("a")).await.unwrap().spec.size_bytes, 1 << 20);
    it.service.retry_failed().await;
    assert!(it.service.readiness().await.ready);
}

#[tokio::test]
async fn adopted_data_says_itself_how_large_it_is() {
    let it = Fixture::new();
    it.service.create_volume(new_volume("a")).await.unwrap();
    it.service.grow_volume(&name("a"), 4 << 20).await.unwrap();
    let uuid = it.service.delete_volume(&name("a"), false, None).await.unwrap().uuid;
    let (view, _) =
        it.service.create_volume(NewVolume { uuid: Some(uuid), ..new_volume("a") }).await.unwrap();
    assert_eq!(view.spec.size_bytes, 4 << 20);
    let it = it.restart().await;
    assert_eq!(it.service.volume(&name("a")).await.unwrap().spec.size_bytes, 4 << 20);
}

#[tokio::test]
async fn what_was_deleted_a_moment_ago_is_not_opened_again() {
    let it = Fixture::new();
    it.service.create_volume(new_volume("a")).await.unwrap();
    it.plane.inject("close-volume", Fault::Fail(PlaneError::ShuttingDown));
    assert!(it.service.delete_volume(&name("a"), false, None).await.is_err());
    let held = it.service.inner.volume_locks.lock("a").await;
    let service = it.service.clone();
    let retry = tokio::spawn(async move { service.retry_failed().await });
    tokio::task::yield_now().await;
    let gone: Result<(), ServiceError> = it
        .service
        .change(|state| {
            state.volumes.clear();
            Ok(())
        })
        .await;
    gone.unwrap();
    drop(held);
    retry.await.unwrap();
    assert!(!it.plane.log().contains(&"open-volume"));
}

#[tokio::test]
async fn configured_objects_are_created_once_and_left_alone_afterwards() {
    let it = Fixture::new();
    let secret_file = it.dir.path().join("host.secret");
    std::fs::write(&secret_file, "a secret of sixteen\n").unwrap();
    let text = format!(
        "[[volume]]\nname = 'a'\nsize = '1MiB'\n[[target]]\nname = 'iqn.2026-11.io.vega:t'\nluns = {{ 0 = 'a' }}\n\
         auth_method = 'chap'\n[[target.user]]\nname = 'host'\nsecret_file = '{}'\n",
        secret_file.display()
    );
    let config = crate::config::load_text(&text, "test", &crate::config::Environment::default()).unwrap();
    it.service.create_missing(&config).await;
    let served = it.plane.target(&iqn("t")).unwrap();
    assert_eq!((served.spec.luns.len(), served.users.len()), (1, 1));
    it.service.grow_volume(&name("a"), 2 << 20).await.unwrap();
    let requests = it.plane.log().len();
    it.service.create_missing(&config).await;
    assert_eq!(it.plane.log().len(), requests);
}

#[tokio::test]
async fn a_draining_node_answers_questions_and_refuses_changes() {
    let it = Fixture::new();
    it.service.create_volume(new_volume("a")).await.unwrap();
    it.service.begin_drain();
    assert_eq!(code(it.service.create_volume(new_volume("b")).await.unwrap_err()), "shutting-down");
    assert_eq!(code(it.service.delete_volume(&name("a"), false, None).await.unwrap_err()), "shutting-down");
    assert_eq!(code(it.service.create_target(new_target("t")).await.unwrap_err()), "shutting-down");
    assert_eq!(it.service.volumes().await.len(), 1);
    assert!(!it.service.readiness().await.ready);
}
