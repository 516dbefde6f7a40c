//! Commands against the real API of a fake data plane, over a Unix socket.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::*;
use crate::api::{self, ApiServer, Binding};
use crate::fake::{FakeDataPlane, Fault};
use crate::model::{ConnectionInfo, ControllerInfo, ControllerKind, QueueInfo, SessionId, SessionInfo};
use crate::service::tests::Fixture;

/// A node that serves in the background until it is dropped.
pub(super) struct Node {
    socket: PathBuf,
    pub(super) plane: Arc<FakeDataPlane>,
    _dir: tempfile::TempDir,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
    _fixture: Fixture,
}

impl Node {
    pub(super) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vega.sock");
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let fixture = Fixture::new();
        let (stop, stopped) = watch::channel(false);
        let binding = Binding { socket: socket.clone(), listen: None, allow_remote: false };
        runtime.block_on(fixture.service.restore());
        let server = runtime.block_on(ApiServer::bind(&binding)).unwrap();
        runtime.spawn(server.serve(api::router(fixture.service.clone()), stopped, Duration::from_secs(1)));
        let plane = fixture.plane.clone();
        Self { socket, plane, _dir: dir, stop, runtime: Some(runtime), _fixture: fixture }
    }

    pub(super) fn api(&self) -> String {
        format!("unix:{}", self.socket.display())
    }

    fn run(&self, line: &str) -> Ran {
        self.run_with(line, "", false)
    }

    fn run_with(&self, line: &str, input: &str, interactive: bool) -> Ran {
        run(&["--api", &self.api()], line, input, interactive)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.runtime.take().unwrap().shutdown_background();
    }
}

pub(super) struct Ran {
    pub(super) code: u8,
    pub(super) out: String,
    pub(super) err: String,
}

fn run(options: &[&str], line: &str, input: &str, interactive: bool) -> Ran {
    run_on(&Host::this(), options, line, input, interactive)
}

pub(super) fn run_on(host: &Host, options: &[&str], line: &str, input: &str, interactive: bool) -> Ran {
    let words = ["vega"].into_iter().chain(line.split_whitespace()).chain(options.iter().copied());
    let (mut input, mut out, mut err) = (input.as_bytes(), Vec::new(), Vec::new());
    let streams = Streams { input: &mut input, out: &mut out, err: &mut err, interactive };
    let code = match execute_on(host, words.map(OsString::from).collect::<Vec<_>>(), streams) {
        Outcome::Exit(code) => code,
        Outcome::StartNode(_) | Outcome::RunBench(_) => panic!("no test here starts a role"),
    };
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

#[track_caller]
fn done(ran: &Ran) {
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
}

#[test]
fn a_volume_from_creation_to_deletion() {
    let node = Node::start();
    assert_eq!(node.run("volume list").out, "No volumes; create one with \"vega volume create\".\n");
    let created = node.run("volume create data-1 --size 1GiB --block-size 4096");
    done(&created);
    assert!(created.out.starts_with("volume/data-1 online, 1GiB, uuid "), "{}", created.out);
    done(&node.run("volume create data-1 --size 1GiB --block-size 4096"));
    done(&node.run("volume create scratch --size 16MiB --backing memory"));
    let list = node.run("volume list").out;
    let expected = "NAME      STATE    SIZE    ALLOCATED   BLOCK   BACKING   CORE   MAPPED BY\n\
                    data-1    online   1GiB    0B          4096    file      0      <none>\n\
                    scratch   online   16MiB   0B          512     memory    0      <none>\n";
    assert_eq!(list, expected);
    done(&node.run("volume grow data-1 --size 2GiB"));
    let shown = node.run("volume show data-1").out;
    assert!(shown.contains("Size:         2GiB (2147483648 bytes)\n"), "{shown}");
    let shrunk = node.run("volume grow data-1 --size 1GiB");
    assert_eq!(shrunk.code, 1);
    assert!(shrunk.err.contains("cannot be made smaller"), "{}", shrunk.err);
    let deleted = node.run("volume delete data-1");
    done(&deleted);
    assert!(deleted.out.contains("its data is kept in") && deleted.out.contains("--uuid"), "{}", deleted.out);
}

#[test]
fn data_is_destroyed_only_after_the_name_was_typed() {
    let node = Node::start();
    done(&node.run("volume create a --size 1MiB"));
    let refused = node.run("volume delete a --delete-data");
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("--yes"), "{}", refused.err);
    assert_eq!(node.run_with("volume delete a --delete-data", "b\n", true).code, 1);
    assert_eq!(node.plane.volumes(), ["a"]);
    done(&node.run_with("volume delete a --delete-data", "a\n", true));
    done(&node.run("volume create b --size 1MiB"));
    done(&node.run("volume delete b --delete-data --yes"));
    assert!(node.plane.volumes().is_empty());
}

#[test]
fn a_target_with_units_users_and_initiators() {
    let node = Node::start();
    let iqn = "iqn.2026-11.io.vega:t";
    done(&node.run("volume create a --size 1MiB"));
    let created = node.run(&format!("target create {iqn} --auth chap"));
    done(&created);
    assert!(
        created.err.contains("every initiator") && created.err.contains("nobody can log in"),
        "{}",
        created.err
    );
    done(&node.run(&format!("target lun add {iqn} 0 a")));
    done(&node.run_with(&format!("target user add {iqn} host"), "a secret from stdin\n", false));
    done(&node.run(&format!("target allow add {iqn} iqn.1994-05.com.redhat:*")));
    assert_eq!(node.run(&format!("target allow list {iqn}")).out, "INITIATOR\niqn.1994-05.com.redhat:*\n");
    let served = node.plane.target(&iqn.parse().unwrap()).unwrap();
    assert_eq!(served.users[0].secret.reveal_bytes(), b"a secret from stdin");
    assert!(
        served.spec.admits("iqn.1994-05.com.redhat:abc") && !served.spec.admits("iqn.1994-05.com.other:abc")
    );
    let list = node.run("target list").out;
    assert!(
        list.contains("iqn.2026-11.io.vega:t   0=a    chap   host    iqn.1994-05.com.redhat:*   online"),
        "{list}"
    );
    let short = node.run_with(&format!("target user add {iqn} host"), "short\n", false);
    assert_eq!(short.code, 2);
    assert!(short.err.contains("12 to 255") && !short.err.contains("short"), "{}", short.err);
    for output in ["table", "json", "yaml"] {
        let shown = node.run(&format!("target show {iqn} --output {output}"));
        assert!(shown.out.contains("host") && !shown.out.contains("stdin"), "{}", shown.out);
    }
    done(&node.run(&format!("target set {iqn} --auth none --alias disk")));
    assert_eq!(node.run(&format!("target set {iqn}")).code, 2);
    done(&node.run(&format!("target user remove {iqn} host")));
    done(&node.run(&format!("target allow remove {iqn} iqn.1994-05.com.redhat:*")));
    done(&node.run(&format!("target lun remove {iqn} 0")));
    done(&node.run(&format!("target delete {iqn}")));
    assert_eq!(node.run("target list -o json").out.trim(), "[]");
}

#[test]
fn a_subsystem_with_namespaces_hosts_and_states() {
    let node = Node::start();
    let nqn = "nqn.2026-11.io.vega:s";
    done(&node.run("volume create a --size 1MiB"));
    done(&node.run("volume create b --size 1MiB"));
    assert_eq!(node.run("subsystem list").out, "No subsystems; create one with \"vega subsystem create\".\n");
    let created = node.run(&format!("subsystem create {nqn} --namespace 2=a --serial-number 0123456789"));
    done(&created);
    let expected = "subsystem/nqn.2026-11.io.vega:s created\n\
                    connect a host with: nvme connect -t tcp -a 127.0.0.1 -s 4420 -n nqn.2026-11.io.vega:s\n\
                    connect a host with: nvme connect -t tcp -a 192.0.2.10 -s 4420 -n nqn.2026-11.io.vega:s\n";
    assert_eq!(created.out, expected);
    assert!(created.err.contains("every host that reaches a listener"), "{}", created.err);
    done(&node.run(&format!("subsystem create {nqn} --namespace 2=a")));
    let added = node.run(&format!("subsystem add-namespace {nqn} b"));
    assert_eq!(added.out, "subsystem/nqn.2026-11.io.vega:s namespace 1 is volume b\n");
    assert_eq!(node.run(&format!("subsystem add-namespace {nqn} b --nsid 0")).code, 2);
    assert_eq!(node.run(&format!("subsystem add-namespace {nqn} b --nsid 2")).code, 1);
    done(&node.run(&format!("subsystem allow-host {nqn} nqn.2014-08.org.nvmexpress:uuid:*")));
    done(&node.run(&format!("subsystem set-ana {nqn} --listener 2 --state non-optimized")));
    let list = node.run("subsystem list").out;
    let expected = "NQN                     NAMESPACES   HOSTS                               LISTENERS                     STATE\n\
                    nqn.2026-11.io.vega:s   1=b,2=a      nqn.2014-08.org.nvmexpress:uuid:*   1=optimized,2=non-optimized   online\n";
    assert_eq!(list, expected);
    for output in ["table", "json", "yaml"] {
        let shown = node.run(&format!("subsystem show {nqn} --output {output}"));
        done(&shown);
        assert!(shown.out.contains("0123456789") && shown.out.contains("non-optimized"), "{}", shown.out);
    }
    assert!(node.run(&format!("subsystem show {nqn}")).out.contains("Connect:        nvme connect -t tcp"));
    assert!(node.run("volume list").out.contains("nqn.2026-11.io.vega:s/2"));
    let set = node.run("subsystem set-ana --all --listener 1 --state inaccessible");
    assert_eq!(set.out, "every subsystem is inaccessible by listener 1\n");
    assert_eq!(node.run(&format!("subsystem set-ana {nqn} --all --listener 1 --state change")).code, 2);
    assert_eq!(node.run("subsystem set-ana --listener 1 --state change").code, 2);
    let unknown = node.run(&format!("subsystem set-ana {nqn} --listener 7 --state optimized"));
    assert_eq!((unknown.code, unknown.err.contains("[[nvmf.listener]]")), (1, true));
    let back = node.run(&format!("subsystem set-ana {nqn} --listener 1 --state optimized -o json"));
    assert!(back.out.contains("\"ana\"") && back.err.is_empty(), "{}{}", back.out, back.err);
    done(&node.run(&format!("subsystem set {nqn} --data-digest require")));
    assert_eq!(node.run(&format!("subsystem set {nqn}")).code, 2);
    let last = node.run(&format!("subsystem deny-host {nqn} nqn.2014-08.org.nvmexpress:uuid:*"));
    assert_eq!((last.code, last.err.contains("--admit-all")), (1, true));
    done(&node.run(&format!("subsystem deny-host {nqn} nqn.2014-08.org.nvmexpress:uuid:* --admit-all")));
    done(&node.run(&format!("subsystem remove-namespace {nqn} 2")));
    done(&node.run(&format!("subsystem delete {nqn}")));
    assert_eq!(node.run("subsystem list -o json").out.trim(), "[]");
}

#[test]
fn controllers_are_listed_and_dropped() {
    let node = Node::start();
    assert_eq!(node.run("controller list").out, "No controllers.\n");
    let queue = |queue_id| QueueInfo { queue_id, peer: ([192, 0, 2, 7], 51514 + queue_id).into() };
    node.plane.add_controller(ControllerInfo {
        id: "0-2@nqn.2026-11.io.vega:s".parse().unwrap(),
        kind: ControllerKind::Io,
        host_nqn: "nqn.2026-11.io.example:h".to_owned(),
        host_id: uuid::Uuid::from_u128(7),
        listener: 1.try_into().unwrap(),
        keep_alive_ms: 7500,
        queues: (0..5).map(queue).collect(),
        commands: 3,
    });
    let expected = "ID                          KIND   HOST                       LISTENER   QUEUES   PEER        KEEP-ALIVE   COMMANDS\n\
                    0-2@nqn.2026-11.io.vega:s   io     nqn.2026-11.io.example:h   1          5        192.0.2.7   7.5s         3\n";
    assert_eq!(node.run("controller list").out, expected);
    assert!(node.run("controller list -o yaml").out.contains("192.0.2.7:51518"));
    assert!(node.run("status").out.contains("Controllers:     1\n"));
    let top = node.run("top --once --interval 0").out;
    let expected = "No volumes.\n\nSUBSYSTEM               CORE   CONTROLLERS   CONNECTIONS\n\
                    nqn.2026-11.io.vega:s   0      1             5\n";
    assert_eq!(top, expected);
    done(&node.run("controller drop 0-2@nqn.2026-11.io.vega:s"));
    let gone = node.run("controller drop 0-2@nqn.2026-11.io.vega:s");
    assert_eq!(
        (gone.code, gone.err.contains("controller 0-2@nqn.2026-11.io.vega:s does not exist")),
        (1, true)
    );
    assert_eq!(node.run("controller drop 0-2").code, 2);
}

#[test]
fn secrets_are_read_from_files_too() {
    let node = Node::start();
    let file = node._dir.path().join("secret");
    std::fs::write(&file, "a secret in a file\r\n").unwrap();
    let iqn = "iqn.2026-11.io.vega:t";
    done(&node.run(&format!("target create {iqn} --auth mutual")));
    done(&node.run(&format!("target user add {iqn} own --role target --secret-file {}", file.display())));
    let served = node.plane.target(&iqn.parse().unwrap()).unwrap();
    assert_eq!(served.own.unwrap().secret.reveal_bytes(), b"a secret in a file");
    let missing = node.run(&format!("target user add {iqn} own --secret-file /nonexistent"));
    assert_eq!((missing.code, missing.err.contains("/nonexistent")), (1, true));
    let unset = node.run(&format!("target user add {iqn} own --secret-env VEGA_TEST_UNSET"));
    assert_eq!((unset.code, unset.err.contains("VEGA_TEST_UNSET")), (1, true));
}

#[test]
fn sessions_status_and_top() {
    let node = Node::start();
    assert_eq!(node.run("session list").out, "No sessions.\n");
    node.plane.add_session(SessionInfo {
        id: SessionId { core: 0, tsih: 17 },
        initiator: "iqn.1994-05.com.redhat:abc".to_owned(),
        isid: "00023d000001".to_owned(),
        target: Some("iqn.2026-11.io.vega:t".parse().unwrap()),
        connections: vec![ConnectionInfo { connection_id: 0, peer: ([192, 0, 2, 7], 51514).into() }],
        tasks: 3,
    });
    let list = node.run("session list").out;
    assert!(
        list.contains("0-17   iqn.1994-05.com.redhat:abc   iqn.2026-11.io.vega:t   192.0.2.7:51514   3"),
        "{list}"
    );
    done(&node.run("session drop 0-17"));
    let gone = node.run("session drop 0-17");
    assert_eq!((gone.code, gone.err.contains("session 0-17 does not exist")), (1, true));
    let status = node.run("status").out;
    assert!(status.contains("State:           serving") && status.contains("127.0.0.1:3260,1"), "{status}");
    assert!(status.contains("Listeners:       127.0.0.1:4420,1,192.0.2.10:4420,2\n"), "{status}");
    done(&node.run("volume create a --size 1MiB"));
    node.plane.record("a", "read", 4096, 20_000);
    let top = node.run("top --once --interval 0").out;
    assert!(top.starts_with("VOLUME   OPERATION   IOPS") && top.contains("a        read"), "{top}");
    assert!(node.run("top --once --interval 0 -o json").out.contains("\"p99_us\""));
}

#[test]
fn exit_codes_say_what_kind_of_failure_it_was() {
    let node = Node::start();
    assert_eq!(node.run("volume").code, 2);
    assert_eq!(node.run("volume create A --size 1MiB").code, 2);
    assert_eq!(node.run("volume create a --size 1.5GiB").code, 2);
    assert_eq!(node.run("volume create a --size 1").code, 2);
    assert_eq!(node.run("target create disk").code, 2);
    assert_eq!(node.run("volume show a").code, 1);
    assert_eq!(node.run("--version").code, 0);
    assert!(node.run("--version").out.contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(node.run("volume create --help").code, 0);
    node.plane.inject("sessions", Fault::Silent);
    let late = node.run("session list --timeout 1");
    assert_eq!(late.code, 124);
    assert!(late.err.contains("--timeout"), "{}", late.err);
}

#[test]
fn a_node_that_does_not_run_is_said_with_the_command_that_starts_it() {
    let gone = run(&["--api", "unix:/nonexistent/vega.sock"], "volume list", "", false);
    assert_eq!(gone.code, 1);
    assert!(
        gone.err.contains("unix:/nonexistent/vega.sock") && gone.err.contains("\"vega node\""),
        "{}",
        gone.err
    );
    assert_eq!(run(&["--api", "nonsense"], "volume list", "", false).code, 2);
}

#[test]
fn a_wrong_configuration_is_said_before_anything_starts() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("vega.toml");
    std::fs::write(&file, "[reactor]\nspin_uss = 3\n").unwrap();
    let wrong = run(&[], &format!("node --config {}", file.display()), "", false);
    assert_eq!(wrong.code, 2);
    assert!(wrong.err.contains("did you mean reactor.spin_us?"), "{}", wrong.err);
    let remote = run(&[], "node --api-listen 0.0.0.0:9503", "", false);
    assert_eq!((remote.code, remote.err.contains("allow_remote")), (2, true));
    let address = run(&[], "node --nvmf-listen 127.0.0.1", "", false);
    assert_eq!((address.code, address.err.contains("127.0.0.1:4420")), (2, true), "{}", address.err);
    let missing = run(&[], "node --config /nonexistent.toml", "", false);
    assert_eq!((missing.code, missing.err.contains("/nonexistent.toml")), (2, true));
}

#[test]
fn completions_and_the_document_need_no_node() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = run(&[], &format!("completions {shell}"), "", false);
        done(&script);
        assert!(script.out.contains("vega") && script.out.contains("add-namespace"), "{shell}");
    }
    assert_eq!(run(&[], "openapi", "", false).out, api::openapi_json());
}

#[test]
fn definitions_are_consistent() {
    Cli::command().debug_assert();
}
