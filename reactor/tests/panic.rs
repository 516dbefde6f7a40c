//! A panic in a poller ends the process and names the poller.

use std::process::Command;

use reactor::core::{CoreConfig, spawn_core};
use reactor::poller::{Poller, Progress};
use reactor::time::Time;

const CHILD: &str = "REACTOR_TEST_PANIC_CHILD";

struct Broken;
impl Poller for Broken {
    fn name(&self) -> &'static str {
        "broken-poller"
    }
    fn poll(&mut self, _now: Time, _budget: u32) -> Progress {
        panic!("an invariant does not hold");
    }
}

#[test]
fn a_panic_in_a_poller_names_it_and_aborts() {
    if std::env::var_os(CHILD).is_some() {
        let config = CoreConfig { buffer_bytes: 0, ..CoreConfig::new("core-7") };
        spawn_core(config, |_| vec![Box::new(Broken)]).expect("a core").join();
        unreachable!("the process has ended");
    }
    let this = std::env::current_exe().expect("a test has a file");
    let child = Command::new(this)
        .args(["--exact", "--nocapture", "a_panic_in_a_poller_names_it_and_aborts"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let text = String::from_utf8_lossy(&child.stderr);
    assert!(text.contains("poller broken-poller on core-7 panicked"), "{text}");
    assert!(text.contains("an invariant does not hold"), "{text}");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.status), Some(libc::SIGABRT));
}
