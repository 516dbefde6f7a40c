//! The life of a node in one process: start, serve, reload, drain, restart, second signal; and no secret in its log.
//!
//! One test, because signals are sent to the whole process.

// A test that fails says where; that is all it has to do.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use control::config::{self, Environment};
use control::fake::{FakeDataPlane, FakeDisk, Fault};
use control::logging::LogHandle;
use control::run::{NodeControl, run_node};
use rustix::process::{Signal, getpid, kill_process};

/// Everything that was ever logged, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

fn start(data_dir: &Path, plane: Arc<FakeDataPlane>) -> std::thread::JoinHandle<ExitCode> {
    let text = format!("[node]\ndata_dir = '{}'\n[api]\nlisten = '127.0.0.1:0'\n", data_dir.display());
    let config = config::load_text(&text, "test", &Environment::default()).unwrap();
    let portals = vec!["127.0.0.1:3260,1".to_owned()];
    let listeners = config.nvmf.listeners.iter().map(|listener| listener.listener(listener.listen)).collect();
    let log = LogHandle::none();
    let node = NodeControl { config, data_plane: plane, portals, listeners, log, config_file: None };
    std::thread::spawn(move || run_node(node))
}

/// Asks until the node answers with `status`; the bound only ends a hopeless test.
fn ask_until(data_dir: &Path, method: &str, path: &str, body: &str, status: &str) -> String {
    let end = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(answer) = ask(data_dir, method, path, body)
            && answer.starts_with(&format!("HTTP/1.1 {status}"))
        {
            return answer;
        }
        assert!(Instant::now() < end, "{method} {path} was never answered with {status}");
        std::thread::yield_now();
    }
}

fn ask(data_dir: &Path, method: &str, path: &str, body: &str) -> Option<String> {
    let mut stream = UnixStream::connect(data_dir.join("vega.sock")).ok()?;
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

fn signal(signal: Signal) {
    kill_process(getpid(), signal).unwrap();
}

#[test]
fn a_node_lives_through_restarts_and_tells_no_secret() {
    let log = Log::default();
    let writer = {
        let log = log.clone();
        move || log.clone()
    };
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(writer).with_ansi(false);
    subscriber.init();
    let dir = tempfile::tempdir().unwrap();
    let disk = FakeDisk::default();
    let target = "/v1/targets/iqn.2026-11.io.vega:t";

    let plane = Arc::new(FakeDataPlane::on_disk(disk.clone()));
    let node = start(dir.path(), plane.clone());
    ask_until(dir.path(), "GET", "/readyz", "", "200");
    ask_until(dir.path(), "POST", "/v1/volumes", r#"{"name":"a","size_bytes":1048576}"#, "201");
    let mapped = r#"{"name":"iqn.2026-11.io.vega:t","luns":{"0":"a"}}"#;
    ask_until(dir.path(), "POST", "/v1/targets", mapped, "201");
    let subsystem = r#"{"nqn":"nqn.2026-11.io.vega:s","namespaces":{"1":"a"}}"#;
    ask_until(dir.path(), "POST", "/v1/subsystems", subsystem, "201");
    let user = format!("{target}/chap-users/host");
    ask_until(dir.path(), "PUT", &user, r#"{"secret":"xyzzy plugh xyzzy"}"#, "200");
    ask_until(dir.path(), "PUT", &user, r#"{"secret":"xyzzy plugh xyzzy","role":"admin"}"#, "422");
    ask_until(dir.path(), "PUT", &user, r#"{"secret":"xyzzy"}"#, "422");
    // A second process on the same directory does not start.
    assert_eq!(start(dir.path(), plane.clone()).join().unwrap(), ExitCode::FAILURE);
    signal(Signal::HUP);
    signal(Signal::TERM);
    assert_eq!(node.join().unwrap(), ExitCode::SUCCESS);
    assert_eq!(plane.log().last(), Some(&"drain"));
    assert!(!dir.path().join("vega.sock").exists());

    let plane = Arc::new(FakeDataPlane::on_disk(disk));
    plane.inject("drain", Fault::Silent);
    let node = start(dir.path(), plane.clone());
    ask_until(dir.path(), "GET", "/readyz", "", "200");
    let served = plane.target(&"iqn.2026-11.io.vega:t".parse().unwrap()).unwrap();
    assert_eq!(
        (served.spec.luns.len(), served.users[0].secret.reveal_bytes()),
        (1, b"xyzzy plugh xyzzy".as_slice())
    );
    let served = plane.subsystem(&"nqn.2026-11.io.vega:s".parse().unwrap()).unwrap();
    assert_eq!((served.spec.namespaces.len(), served.ana.len()), (1, 1));
    signal(Signal::INT);
    // It drains, and answers questions meanwhile.
    ask_until(dir.path(), "GET", "/readyz", "", "503");
    ask_until(dir.path(), "POST", "/v1/volumes", r#"{"name":"b","size_bytes":1048576}"#, "503");
    signal(Signal::INT);
    assert_eq!(node.join().unwrap(), ExitCode::from(130));

    let text = log.text();
    assert!(!text.contains("plugh"), "a secret is in the log");
    for said in [
        "API on unix socket",
        "API and metrics on http://127.0.0.1:",
        "iSCSI portal 127.0.0.1:3260,1",
        "NVMe/TCP on 127.0.0.1:4420, listener tag 1",
        "every host that reaches",
        "drained",
        "in use by process",
        "every initiator that reaches",
    ] {
        assert!(text.contains(said), "{said:?} is not in the log:\n{text}");
    }
}
