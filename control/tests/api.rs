//! The API as a client sees it: bytes over a Unix socket and a TCP port, a data plane without data behind it.

// A test that fails says where; that is all it has to do.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use control::api::{self, ApiServer, BindError, Binding};
use control::bridge::Bridge;
use control::catalog::Catalog;
use control::fake::{FakeDataPlane, Fault, fake_device};
use control::model::{ControllerInfo, DeviceState, Listener};
use control::service::{NodeFacts, Service};
use serde_json::{Value, json};
use tokio::sync::watch;

const TARGET: &str = "/v1/targets/iqn.2026-11.io.vega:t";
const SUBSYSTEM: &str = "/v1/subsystems/nqn.2026-11.io.vega:s";

struct Node {
    socket: PathBuf,
    tcp: SocketAddr,
    plane: Arc<FakeDataPlane>,
    dir: tempfile::TempDir,
    stop: watch::Sender<bool>,
    runtime: Option<tokio::runtime::Runtime>,
}

fn binding(socket: &Path) -> Binding {
    Binding { socket: socket.to_owned(), listen: Some(([127, 0, 0, 1], 0).into()), allow_remote: false }
}

impl Node {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("vega.sock");
        let plane = Arc::new(FakeDataPlane::default());
        let facts = NodeFacts {
            name: "test".to_owned(),
            data_dir: dir.path().to_owned(),
            portals: Vec::new(),
            listeners: vec![Listener { tag: 1.try_into().unwrap(), address: "127.0.0.1:4420".to_owned() }],
            started_at: "2026-11-22T00:00:00Z".parse().unwrap(),
        };
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let service = Service::new(Catalog::open(dir.path()).unwrap(), Bridge::new(plane.clone()), facts);
        runtime.block_on(service.restore());
        let server = runtime.block_on(ApiServer::bind(&binding(&socket))).unwrap();
        let tcp = server.bound().listen.unwrap();
        let (stop, stopped) = watch::channel(false);
        runtime.spawn(server.serve(api::router(service), stopped, Duration::from_secs(1)));
        Self { socket, tcp, plane, dir, stop, runtime: Some(runtime) }
    }

    fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        self.send(method, path, "content-type: application/json\r\n", body.as_bytes())
    }

    fn get(&self, path: &str) -> Answer {
        self.send("GET", path, "", b"")
    }

    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> Answer {
        exchange(
            UnixStream::connect(&self.socket).unwrap(),
            &request(method, path, "localhost", headers, body),
        )
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.runtime.take().unwrap().shutdown_background();
    }
}

struct Answer {
    status: u16,
    headers: String,
    body: Vec<u8>,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{} {}", self.status, self.text()))
    }

    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }

    /// A problem document with this status and code.
    #[track_caller]
    fn problem(self, status: u16, code: &str) -> String {
        let it = self.is(status);
        assert!(it.headers.contains("content-type: application/problem+json"), "{}", it.headers);
        let document = it.json();
        assert_eq!(
            (document["status"].as_u64(), document["code"].as_str()),
            (Some(status.into()), Some(code))
        );
        assert_eq!(document["type"], format!("urn:vega:problem:{code}"));
        document["detail"].as_str().unwrap().to_owned()
    }
}

fn request(method: &str, path: &str, host: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: {host}\r\n{headers}content-length: {}\r\nconnection: close\r\n\r\n",
        body.len()
    );
    [head.as_bytes(), body].concat()
}

fn exchange(mut stream: impl Read + Write, request: &[u8]) -> Answer {
    // The server may answer and close before it has read a body that is too large.
    let _ = stream.write_all(request);
    let mut received = Vec::new();
    let _ = stream.read_to_end(&mut received);
    let end = received.windows(4).position(|window| window == b"\r\n\r\n").expect("an answer has headers");
    let headers = String::from_utf8(received[..end].to_vec()).unwrap().to_ascii_lowercase();
    let status = headers.split(' ').nth(1).unwrap().parse().unwrap();
    let body = received[end + 4..].to_vec();
    assert!(!headers.contains("transfer-encoding: chunked"), "these answers have a known length");
    Answer { status, headers, body }
}

fn new_volume(name: &str) -> Value {
    json!({ "name": name, "size_bytes": 1 << 20 })
}

#[test]
fn volumes() {
    let node = Node::start();
    assert_eq!(node.get("/v1/volumes").is(200).json(), json!([]));
    let created = node.call("POST", "/v1/volumes", Some(new_volume("a"))).is(201).json();
    assert_eq!(
        (&created["state"], &created["block_size"], &created["backing"]),
        (&json!("online"), &json!(512), &json!("file"))
    );
    let again = node.call("POST", "/v1/volumes", Some(new_volume("a"))).is(200).json();
    assert_eq!(again["uuid"], created["uuid"]);
    let other = json!({ "name": "a", "size_bytes": 2 << 20 });
    node.call("POST", "/v1/volumes", Some(other)).problem(409, "exists-differently");
    let grown = node.call("PATCH", "/v1/volumes/a", Some(json!({ "size_bytes": 2 << 20 }))).is(200).json();
    assert_eq!(grown["size_bytes"], 2 << 20);
    node.call("PATCH", "/v1/volumes/a", Some(json!({ "size_bytes": 1 << 20 })))
        .problem(422, "shrink-refused");
    node.get("/v1/volumes/b").problem(404, "not-found");
    node.get("/v1/volumes/B_").problem(422, "invalid-value");
    node.call("DELETE", "/v1/volumes/a?delete_data=true", None).problem(422, "not-confirmed");
    node.call("DELETE", "/v1/volumes/a?delete_dat=true", None).problem(422, "invalid-value");
    let deleted = node.call("DELETE", "/v1/volumes/a?delete_data=true&confirm=a", None).is(200).json();
    assert_eq!(deleted["data_deleted"], true);
    node.call("DELETE", "/v1/volumes/a", None).problem(404, "not-found");
}

#[test]
fn targets_are_changed_by_idempotent_requests() {
    let node = Node::start();
    for name in ["a", "b"] {
        node.call("POST", "/v1/volumes", Some(new_volume(name))).is(201);
    }
    let new = json!({ "name": "iqn.2026-11.io.vega:t", "luns": { "3": "a" }, "auth_method": "chap" });
    node.call("POST", "/v1/targets", Some(new.clone())).is(201);
    node.call("POST", "/v1/targets", Some(new)).is(200);
    for _ in 0..2 {
        let view =
            node.call("PUT", &format!("{TARGET}/luns/0"), Some(json!({ "volume": "b" }))).is(200).json();
        assert_eq!(view["luns"], json!({ "0": "b", "3": "a" }));
        let path = format!("{TARGET}/initiators/iqn.1994-05.com.redhat:%2A");
        let view = node.call("PUT", &path, None).is(200).json();
        assert_eq!(view["allow"], json!(["iqn.1994-05.com.redhat:*"]));
    }
    node.call("PUT", &format!("{TARGET}/luns/0"), Some(json!({ "volume": "a" }))).problem(409, "in-use");
    node.call("PUT", &format!("{TARGET}/luns/256"), Some(json!({ "volume": "a" })))
        .problem(422, "invalid-value");
    node.call("PUT", &format!("{TARGET}/luns/x"), Some(json!({ "volume": "a" })))
        .problem(422, "invalid-value");
    let detail = node.call("DELETE", "/v1/volumes/a", None).problem(409, "in-use");
    assert!(detail.contains("vega target lun remove"), "{detail}");
    assert_eq!(node.get(&format!("{TARGET}/initiators")).is(200).json(), json!(["iqn.1994-05.com.redhat:*"]));
    let changed = node.call("PATCH", TARGET, Some(json!({ "data_digest": "require" }))).is(200).json();
    assert_eq!((&changed["data_digest"], &changed["auth_method"]), (&json!("require"), &json!("chap")));
    node.call("DELETE", &format!("{TARGET}/luns/3"), None).is(200);
    node.call("DELETE", &format!("{TARGET}/luns/3"), None).problem(404, "not-found");
    node.call("DELETE", TARGET, None).is(204);
    node.call("DELETE", TARGET, None).problem(404, "not-found");
}

#[test]
fn subsystems_are_changed_by_idempotent_requests() {
    let node = Node::start();
    for name in ["a", "b"] {
        node.call("POST", "/v1/volumes", Some(new_volume(name))).is(201);
    }
    let new =
        json!({ "nqn": "nqn.2026-11.io.vega:s", "namespaces": { "3": "a" }, "serial_number": "0123456789" });
    let created = node.call("POST", "/v1/subsystems", Some(new.clone())).is(201).json();
    assert_eq!(created["listeners"], json!([{ "tag": 1, "address": "127.0.0.1:4420", "ana": "optimized" }]));
    assert_eq!(created["model_number"], "Vega volume");
    assert!(created["warnings"][0].as_str().unwrap().contains("every host"));
    node.call("POST", "/v1/subsystems", Some(new)).is(200);
    let namespaces = format!("{SUBSYSTEM}/namespaces");
    let host = format!("{SUBSYSTEM}/hosts/nqn.2014-08.org.nvmexpress:uuid:%2A");
    for _ in 0..2 {
        let view = node.call("POST", &namespaces, Some(json!({ "volume": "b" }))).is(200).json();
        assert_eq!(view["namespaces"], json!({ "1": "b", "3": "a" }));
        node.call("PUT", &format!("{namespaces}/1"), Some(json!({ "volume": "b" }))).is(200);
        let view = node.call("PUT", &host, None).is(200).json();
        assert_eq!(view["allow"], json!(["nqn.2014-08.org.nvmexpress:uuid:*"]));
        let state = json!({ "state": "non-optimized" });
        let view = node.call("PUT", &format!("{SUBSYSTEM}/ana/1"), Some(state)).is(200).json();
        assert_eq!(
            (&view["ana"], &view["listeners"][0]["ana"]),
            (&json!({ "1": "non-optimized" }), &json!("non-optimized"))
        );
    }
    node.call("PUT", &format!("{namespaces}/3"), Some(json!({ "volume": "b" }))).problem(409, "in-use");
    for wrong in ["0", "1025", "x", "4294967297"] {
        node.call("PUT", &format!("{namespaces}/{wrong}"), Some(json!({ "volume": "b" })))
            .problem(422, "invalid-value");
    }
    node.call("POST", &namespaces, Some(json!({ "volume": "b", "nsid": 0 }))).problem(422, "invalid-value");
    node.call("PUT", &format!("{SUBSYSTEM}/ana/2"), Some(json!({ "state": "change" })))
        .problem(404, "not-found");
    node.call("PUT", &format!("{SUBSYSTEM}/ana/0"), Some(json!({ "state": "change" })))
        .problem(422, "invalid-value");
    node.call("PUT", &format!("{SUBSYSTEM}/ana/1"), Some(json!({ "state": "good" })))
        .problem(422, "invalid-value");
    let all =
        node.call("PUT", "/v1/listeners/1/ana", Some(json!({ "state": "inaccessible" }))).is(200).json();
    assert_eq!(all[0]["listeners"][0]["ana"], "inaccessible");
    let detail = node.call("DELETE", "/v1/volumes/a", None).problem(409, "in-use");
    assert!(detail.contains("namespace 3 of subsystem nqn.2026-11.io.vega:s"), "{detail}");
    let volume = node.get("/v1/volumes/a").is(200).json();
    assert_eq!(volume["namespace"], json!({ "subsystem": "nqn.2026-11.io.vega:s", "nsid": 3 }));
    assert_eq!(
        node.get(&format!("{SUBSYSTEM}/hosts")).is(200).json(),
        json!(["nqn.2014-08.org.nvmexpress:uuid:*"])
    );
    node.call("DELETE", &host, None).problem(422, "not-confirmed");
    node.call("DELETE", &format!("{host}?admit=true"), None).problem(422, "invalid-value");
    node.call("DELETE", &format!("{host}?admit_all=true"), None).is(200);
    let changed = node.call("PATCH", SUBSYSTEM, Some(json!({ "data_digest": "require" }))).is(200).json();
    assert_eq!((&changed["data_digest"], &changed["header_digest"]), (&json!("require"), &json!("host")));
    node.call("PATCH", SUBSYSTEM, Some(json!({ "serial_number": "1" }))).problem(422, "invalid-value");
    node.call("DELETE", &format!("{namespaces}/3"), None).is(200);
    node.call("DELETE", &format!("{namespaces}/3"), None).problem(404, "not-found");
    node.call("DELETE", SUBSYSTEM, None).is(204);
    node.call("DELETE", SUBSYSTEM, None).problem(404, "not-found");
    node.get("/v1/subsystems/iqn.2026-11.io.vega:s").problem(422, "invalid-value");
    let discovery = json!({ "nqn": "nqn.2014-08.org.nvmexpress.discovery" });
    node.call("POST", "/v1/subsystems", Some(discovery)).problem(422, "invalid-value");
}

#[test]
fn controllers_are_listed_and_dropped() {
    let node = Node::start();
    assert_eq!(node.get("/v1/controllers").is(200).json(), json!([]));
    let controller = json!({
        "id": "0-2@nqn.2026-11.io.vega:s", "kind": "io", "host_nqn": "nqn.2026-11.io.example:h", "listener": 1,
        "host_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "keep_alive_ms": 5000, "commands": 7,
        "queues": [{ "queue_id": 0, "peer": "192.0.2.7:51514" }, { "queue_id": 1, "peer": "192.0.2.7:51516" }]
    });
    node.plane.add_controller(serde_json::from_value::<ControllerInfo>(controller.clone()).unwrap());
    assert_eq!(node.get("/v1/controllers").is(200).json(), json!([controller]));
    let stats = node.get("/v1/stats").is(200).json();
    assert_eq!((&stats["controllers"], &stats["subsystems"][0]["connections"]), (&json!(1), &json!(2)));
    node.call("DELETE", "/v1/controllers/0-2", None).problem(422, "invalid-value");
    node.call("DELETE", "/v1/controllers/0-3@nqn.2026-11.io.vega:s", None).problem(404, "not-found");
    node.call("DELETE", "/v1/controllers/0-2%40nqn.2026-11.io.vega:s", None).is(204);
    assert_eq!(node.get("/v1/controllers").is(200).json(), json!([]));
    node.plane.inject("controllers", Fault::Silent);
    node.get("/v1/controllers").problem(504, "deadline-exceeded");
}

#[test]
fn devices_are_shown_with_their_namespaces_and_make_the_node_ready() {
    let node = Node::start();
    assert_eq!(node.get("/v1/devices").is(200).json(), json!([]));
    node.plane.set_device(fake_device("fast-1"));
    // Counters that were read a moment ago are not read again.
    let change = json!({ "name": "hot", "size_bytes": 1 << 20, "backing": { "nvme": { "device": "fast-1", "namespace": 2 } } });
    node.call("POST", "/v1/volumes", Some(change.clone())).is(201);
    let devices = node.get("/v1/devices").is(200).json();
    assert_eq!((&devices[0]["name"], &devices[0]["state"]), (&json!("fast-1"), &json!("ready")));
    assert_eq!(devices[0]["pci_address"], "0000:01:00.0");
    assert_eq!(devices[0]["namespaces"][1]["volume"], "hot");
    assert_eq!(devices[0]["health"]["temperature_celsius"], 38);
    assert_eq!(devices[0].get("smart_log"), None);
    let device = node.get("/v1/devices/fast-1").is(200).json();
    assert_eq!(
        (&device["smart_log"]["percent_used"], &device["id_ctrl"]["fr"]),
        (&json!(3), &json!("2B2QEXM7"))
    );
    node.get("/v1/devices/slow-1").problem(404, "not-found");
    node.get("/v1/devices/Fast").problem(422, "invalid-value");
    let again = |name: &str| {
        let mut volume = change.clone();
        volume["name"] = name.into();
        node.call("POST", "/v1/volumes", Some(volume))
    };
    again("other").problem(409, "in-use");
    again("hot").is(200);
    let elsewhere =
        json!({ "name": "x", "size_bytes": 1 << 20, "backing": { "nvme": { "device": "slow-1" } } });
    node.call("POST", "/v1/volumes", Some(elsewhere)).problem(404, "not-found");
    let mut faulted = fake_device("fast-2");
    (faulted.state, faulted.problem) = (DeviceState::Faulted, Some("pulled the plug".to_owned()));
    node.plane.set_device(faulted);
    node.call("POST", "/v1/volumes", Some(new_volume("fresh"))).is(201);
    let ready = node.get("/readyz?verbose").is(503);
    assert!(ready.text().contains("device/fast-2 failed: pulled the plug\n"), "{}", ready.text());
    assert!(!ready.text().contains("device/fast-1 failed"), "{}", ready.text());
    let stats = node.get("/v1/stats").is(200).json();
    assert_eq!(
        (&stats["devices"][0]["device"], &stats["devices"][0]["in_flight"]),
        (&json!("fast-1"), &json!(7))
    );
}

#[test]
fn secrets_go_in_and_never_come_out() {
    let node = Node::start();
    node.call("POST", "/v1/targets", Some(json!({ "name": "iqn.2026-11.io.vega:t" }))).is(201);
    let user = format!("{TARGET}/chap-users/host");
    let put = |secret: Value| node.call("PUT", &user, Some(json!({ "secret": secret })));
    let view = put(json!("xyzzy plugh xyzzy")).is(200);
    assert!(!view.text().contains("plugh"));
    assert_eq!(view.json()["users"], json!([{ "name": "host", "role": "initiator" }]));
    for wrong in [
        json!("xyzzy"),
        json!("xyzzy plugh\u{7} xyzzy"),
        json!({ "xyzzy": 1 }),
        json!(71077345),
        json!(["xyzzy"]),
    ] {
        let detail = put(wrong).problem(422, "invalid-value");
        assert!(!detail.contains("xyzzy") && !detail.contains("71077345"), "{detail}");
    }
    let malformed = node.send(
        "PUT",
        &user,
        "content-type: application/json\r\n",
        b"{\"secret\": \"xyzzy plugh xyzzy\", }",
    );
    assert!(!malformed.problem(400, "not-json").contains("xyzzy"));
    let more = node.call("PUT", &user, Some(json!({ "secret": "xyzzy plugh xyzzy", "rol": "target" })));
    assert!(!more.problem(422, "invalid-value").contains("xyzzy"));
    for path in
        ["/v1/targets", TARGET, "/v1/node", "/v1/stats", "/metrics", "/readyz?verbose", "/openapi.json"]
    {
        assert!(!node.get(path).is(200).text().contains("plugh"), "{path}");
    }
    node.get(&user).problem(405, "no-such-method");
    node.call("DELETE", &user, None).is(200);
}

#[test]
fn wrong_requests_are_answered_with_what_is_wrong() {
    let node = Node::start();
    let json_type = "content-type: application/json\r\n";
    node.get("/v2/volumes").problem(404, "no-such-path");
    node.call("PUT", "/v1/volumes", None).problem(405, "no-such-method");
    node.send("POST", "/v1/volumes", "content-type: text/plain\r\n", b"{}").problem(415, "not-json");
    node.send("POST", "/v1/volumes", "", b"{}").problem(415, "not-json");
    node.send("POST", "/v1/volumes", json_type, b"{").problem(400, "not-json");
    node.send("POST", "/v1/volumes", json_type, b"{} {}").problem(422, "invalid-value");
    let unknown = json!({ "name": "a", "size_bytes": 1 << 20, "blocksize": 512 });
    let detail = node.call("POST", "/v1/volumes", Some(unknown)).problem(422, "invalid-value");
    assert!(detail.contains("blocksize") && detail.contains("block_size"), "{detail}");
    let detail = node.call("POST", "/v1/volumes", Some(new_volume("A"))).problem(422, "invalid-value");
    assert!(detail.starts_with("name: ") && detail.contains("upper-case"), "{detail}");
    let large = vec![b' '; 2 << 20];
    node.send("POST", "/v1/volumes", json_type, &large).problem(413, "unreadable-body");
    for (name, size, block) in
        [("a", 1_000_000u64, 512), ("a", u64::MAX, 512), ("a", 1 << 20, 1024), ("a", 0, 512)]
    {
        let new = json!({ "name": name, "size_bytes": size, "block_size": block });
        node.call("POST", "/v1/volumes", Some(new)).problem(422, "invalid-value");
    }
}

#[test]
fn a_data_plane_that_is_stuck_makes_answers_late_and_nothing_else() {
    let node = Node::start();
    node.call("POST", "/v1/volumes", Some(new_volume("a"))).is(201);
    node.plane.inject("sessions", Fault::Silent);
    node.get("/v1/sessions").problem(504, "deadline-exceeded");
    node.get("/v1/sessions").is(200);
    node.get("/livez").is(200);
}

#[test]
fn health_status_and_metrics() {
    let node = Node::start();
    node.call("POST", "/v1/volumes", Some(new_volume("a"))).is(201);
    node.plane.record("a", "read", 4096, 20_000);
    assert_eq!(node.get("/livez").is(200).text(), "ok\n");
    assert_eq!(node.get("/healthz").is(200).text(), "ok\n");
    assert_eq!(node.get("/readyz").is(200).text(), "ok\n");
    assert!(node.get("/readyz?verbose").is(200).text().contains("[+]volume/a ok\n"));
    let status = node.get("/v1/node").is(200).json();
    assert_eq!((&status["volumes"], &status["draining"]), (&json!(1), &json!(false)));
    let stats = node.get("/v1/stats").is(200).json();
    assert_eq!(stats["volumes"][0]["operations"][0]["operations"], 1);
    let text = node.get("/metrics").is(200);
    assert!(text.headers.contains("content-type: text/plain; version=0.0.4"));
    assert!(text.text().contains("vega_volume_operations_total{volume=\"a\",operation=\"read\"} 1\n"));
    let accept = "accept: application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited\r\n";
    let protobuf = node.send("GET", "/metrics", accept, b"").is(200);
    assert!(protobuf.headers.contains("content-type: application/vnd.google.protobuf"));
    let document = node.get("/openapi.json").is(200);
    assert_eq!(document.text(), include_str!("../openapi.json"));
}

#[test]
fn the_tcp_port_answers_only_to_names_of_this_machine() {
    let node = Node::start();
    let ask = |host: &str| {
        exchange(TcpStream::connect(node.tcp).unwrap(), &request("GET", "/v1/volumes", host, "", b""))
    };
    for own in
        [&format!("127.0.0.1:{}", node.tcp.port()), "localhost", "LOCALHOST:80", "[::1]:9503", "127.0.0.2"]
    {
        ask(own).is(200);
    }
    for other in ["evil.example", "evil.example:9503", "192.0.2.1:9503", "localhost.evil.example", ""] {
        ask(other).problem(421, "wrong-host");
    }
}

#[test]
fn sockets_are_private_and_never_taken_from_a_living_process() {
    let node = Node::start();
    let mode = std::fs::metadata(&node.socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let bind = |path: &Path| runtime.block_on(ApiServer::bind(&binding(path)));
    assert!(matches!(bind(&node.socket), Err(BindError::SocketInUse { .. })));
    let file = node.dir.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(matches!(bind(&file), Err(BindError::Socket { .. })));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let stale = node.dir.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(bind(&stale).is_ok());
    let taken = Binding { listen: Some(node.tcp), ..binding(&node.dir.path().join("other.sock")) };
    let error = runtime.block_on(ApiServer::bind(&taken)).err().unwrap().to_string();
    assert!(error.contains("api.listen"), "{error}");
}

#[test]
fn many_clients_at_once_create_one_volume() {
    let node = Node::start();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let create = || node.call("POST", "/v1/volumes", Some(new_volume("a"))).status;
        let threads: Vec<_> = (0..24).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1);
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 23);
    assert_eq!(node.plane.log(), ["create-volume"]);
}
