//! What is accepted, what is refused, and how it is said.

use super::*;

fn read(text: &str) -> Result<Config, ConfigError> {
    load_text(text, "test.toml", &Environment::default())
}

fn refusal(text: &str) -> String {
    read(text).unwrap_err().to_string()
}

#[test]
fn nothing_at_all_is_the_default() {
    assert_eq!(read("").unwrap(), Config::default());
}

/// Every key that a configuration may have.
const KEYS: &str = "
    name data_dir cores idle spin_us buffer_bytes stall_us listen advertise tag
    connections_per_session sessions max_recv_data_segment_bytes max_burst_bytes first_burst_bytes
    outstanding_r2t queue_depth login_s nop_interval_s nop_answer_s drain_s socket allow_remote
    failures_until_pause pause_first_s pause_longest_s forget_s
    format level size block_size backing uuid core alias portal_group_tag luns auth_method role
    secret_file allow header_digest data_digest io_queues_per_controller
    in_capsule_data_bytes connect_s
    nqn serial_number model_number namespaces ana
    pci_address path emulated_size confirm_serial no_iommu
";

#[test]
fn the_example_documents_every_key_and_equals_the_defaults() {
    let example = include_str!("../../../vega.example.toml");
    assert_eq!(read(example).unwrap(), Config::default());
    // What is commented out as an example of an object must be accepted as well.
    let with_objects: String = example
        .lines()
        .map(|line| line.strip_prefix("#| ").unwrap_or(line))
        .fold(String::new(), |text, line| text + line + "\n");
    let config = read(&with_objects).unwrap();
    assert!(config.volumes.len() >= 2 && !config.targets.is_empty() && !config.targets[0].users.is_empty());
    assert_eq!((config.subsystems[0].namespaces.len(), config.subsystems[0].ana.len()), (2, 1));
    assert_eq!((config.devices.len(), config.volumes[2].backing.kind()), (3, "nvme"));
    for key in KEYS.split_whitespace() {
        let shown = example.lines().any(|line| {
            line.trim_start_matches(['#', '|', ' ']).split('=').next().is_some_and(|k| k.trim() == key)
                || line.contains(&format!("{key} = "))
        });
        assert!(shown, "{key} is not in the example");
    }
}

#[test]
fn unknown_keys_are_named_with_their_path_and_the_nearest_key() {
    assert_eq!(
        refusal("[reactor]\nspin_ms = 3"),
        "test.toml: unknown key reactor.spin_ms; did you mean reactor.spin_us?"
    );
    assert_eq!(refusal("[reactr]\n"), "test.toml: unknown key reactr; did you mean reactor?");
    let nested = refusal("[iscsi.limits]\nqueue_dept = 3");
    assert_eq!(
        nested,
        "test.toml: unknown key iscsi.limits.queue_dept; did you mean iscsi.limits.queue_depth?"
    );
    let list = refusal("[[volume]]\nname = 'a'\nsize = 1048576\nblocksize = 512");
    assert_eq!(list, "test.toml: unknown key volume[0].blocksize; did you mean volume[0].block_size?");
    // Nothing is spelled like it, as when the line that opens its table was forgotten.
    let tableless = refusal("data_dir = '/srv'");
    assert!(
        tableless.starts_with("test.toml: unknown key data_dir; what is known there: node, "),
        "{tableless}"
    );
}

#[test]
fn wrong_values_are_named_with_their_path() {
    assert!(refusal("[reactor]\nspin_us = 'x'").starts_with("test.toml: reactor.spin_us: invalid type"));
    assert!(refusal("[reactor]\nidle = 'never'").contains("reactor.idle: unknown variant `never`"));
    assert!(refusal("[reactor]\ncores = 'all'").contains("neither \"auto\" nor a list"));
    assert!(refusal("[reactor]\nbuffer_bytes = '64XiB'").contains("the unit is not known"));
    assert!(refusal("[[volume]]\nname = 'A'\nsize = 1048576").contains("upper-case"));
    assert!(refusal("[reactor").contains("is not TOML"));
    assert!(refusal("[[target]]\nname = 'disk'").contains("iqn."));
    assert!(refusal("[[target]]\nname = 'iqn.2026-11.io.vega:a'\nluns = { 300 = 'a' }").contains("LUN 300"));
    let subsystem = |rest: &str| refusal(&format!("[[subsystem]]\nnqn = 'nqn.2026-11.io.vega:a'\n{rest}"));
    assert!(
        subsystem("namespaces = { 0 = 'a' }").contains("subsystem[0].namespaces.0: NSID 0 is out of range")
    );
    assert!(subsystem("namespaces = { 01 = 'a' }").contains("an NSID from 1 to 1024"));
    assert!(subsystem("namespaces = { 1 = 'a', 2 = 'a' }").contains("namespace 1 and namespace 2"));
    assert!(subsystem("ana = { 1 = 'broken' }").contains("unknown variant `broken`"));
    assert!(subsystem("serial_number = ''").contains("serial number"));
    assert!(subsystem("allow = ['*']").contains("an empty list already admits everyone"));
    assert!(refusal("[[subsystem]]\nnqn = 'iqn.2026-11.io.vega:a'").contains("nqn."));
    let discovery = "[[subsystem]]\nnqn = 'nqn.2014-08.org.nvmexpress.discovery'";
    assert!(refusal(discovery).contains("discovery subsystem"));
}

#[test]
fn relations_are_checked() {
    let remote = "[api]\nlisten = '0.0.0.0:9503'\n";
    assert!(refusal(remote).contains("api.allow_remote = true"));
    assert!(read(&format!("{remote}allow_remote = true")).is_ok());
    assert!(read("[api]\nlisten = ''").unwrap().api.listen.is_none());
    assert!(refusal("[iscsi]\nportal = []").contains("at least one portal"));
    assert!(refusal("[[iscsi.portal]]\nlisten = '127.0.0.1:1'\ntag = 0").contains("reserved"));
    assert!(refusal("[iscsi.limits]\nfirst_burst_bytes = '2MiB'").contains("max_burst_bytes"));
    assert!(refusal("[iscsi.limits]\nmax_burst_bytes = '16MiB'").contains("16777215"));
    assert!(refusal("[reactor]\ncores = [1, 1]").contains("none twice"));
    assert!(refusal("[reactor]\nbuffer_bytes = 1").contains("16MiB"));
}

#[test]
fn pauses_after_wrong_chap_answers_are_checked() {
    let chap = |text: &str| format!("[iscsi.chap]\n{text}");
    let edges =
        read(&chap("failures_until_pause = 1\npause_first_s = 9\npause_longest_s = 9\nforget_s = 10"));
    let edges = edges.unwrap().iscsi.chap;
    assert_eq!((edges.failures_until_pause, edges.pause_longest_s, edges.forget_s), (1, 9, 10));
    for (key, values) in [
        ("failures_until_pause", "0 1001"),
        ("pause_first_s", "0 3601"),
        ("pause_longest_s", "0 3601"),
        ("forget_s", "0 86401"),
    ] {
        for value in values.split(' ') {
            let text = refusal(&chap(&format!("{key} = {value}")));
            assert!(text.starts_with(&format!("iscsi.chap.{key}: {value} is outside of 1 to ")), "{text}");
        }
    }
    assert_eq!(
        refusal(&chap("pause_first_s = 33")),
        "iscsi.chap.pause_longest_s: 32 is shorter than iscsi.chap.pause_first_s, 33; raise it or lower pause_first_s"
    );
    let forgotten = refusal(&chap("forget_s = 32"));
    assert!(
        forgotten.starts_with("iscsi.chap.forget_s: 32 is not longer than iscsi.chap.pause_longest_s, 32, ")
    );
    assert!(forgotten.ends_with("raise it or lower pause_longest_s"));
    assert_eq!(
        refusal(&chap("pause_first = 1")),
        "test.toml: unknown key iscsi.chap.pause_first; did you mean iscsi.chap.pause_first_s?"
    );
}

#[test]
fn timeouts_are_checked() {
    for (key, values) in
        [("login_s", "0 301"), ("nop_interval_s", "0 3601"), ("nop_answer_s", "0 3601"), ("drain_s", "3601")]
    {
        for value in values.split(' ') {
            let text = refusal(&format!("[iscsi.timeouts]\n{key} = {value}"));
            assert!(text.starts_with(&format!("iscsi.timeouts.{key}: {value} is outside of")), "{text}");
        }
    }
}

#[test]
fn listeners_and_their_limits_are_checked() {
    let off = read("[nvmf]\nlistener = []").unwrap();
    assert!(!off.nvmf.enabled() && Config::default().nvmf.enabled());
    let listener = |rest: &str| format!("[[nvmf.listener]]\nlisten = '127.0.0.1:4420'\n{rest}\n");
    assert!(refusal(&listener("tag = 0")).contains("nvmf.listener[0].tag: tag 0 is reserved"));
    assert!(refusal(&(listener("") + &listener("tag = 2"))).contains("listed twice"));
    for bad in ["192.0.2.10", ":4420", "host:0", "host:x", "host:65536"] {
        assert!(refusal(&listener(&format!("advertise = '{bad}'"))).contains("host:port"), "{bad}");
    }
    assert_eq!(
        refusal(&listener("port = 1")),
        "test.toml: unknown key nvmf.listener[0].port; what is known there: listen, advertise, tag"
    );
    let advertised = read(&listener("advertise = 'storage.example:4420'\ntag = 7")).unwrap();
    let told = advertised.nvmf.listeners[0].listener(([127, 0, 0, 1], 4421).into());
    assert_eq!((told.tag.get(), told.address.as_str()), (7, "storage.example:4420"));
    let told = Config::default().nvmf.listeners[0].listener(([127, 0, 0, 1], 4421).into());
    assert_eq!((told.tag.get(), told.address.as_str()), (1, "127.0.0.1:4421"));
    for (key, values) in [
        ("io_queues_per_controller", "0 65"),
        ("queue_depth", "1 1025"),
        ("in_capsule_data_bytes", "4000 16896"),
    ] {
        for value in values.split(' ') {
            let text = refusal(&format!("[nvmf.limits]\n{key} = {value}"));
            assert!(text.starts_with(&format!("nvmf.limits.{key}: ")), "{text}");
        }
    }
    assert!(refusal("[nvmf.timeouts]\nconnect_s = 16").contains("connect_s"));
    assert!(
        refusal("[nvmf.timeouts]\nkeep_alive_ms = 60").contains("unknown key nvmf.timeouts.keep_alive_ms")
    );
    let (most, text) = (crate::limits::LISTENERS_MAX, listener("").replace("4420", "0"));
    assert!(read(&text.repeat(most)).is_ok() && refusal(&text.repeat(most + 1)).contains("too many"));
}

#[test]
fn the_environment_wins_over_the_file_and_is_checked_like_it() {
    let with = |name: &str, value: &str| {
        let variables = [(name.to_owned(), value.to_owned())];
        let environment = Environment::from_variables(variables.into_iter());
        load_text("[reactor]\nspin_us = 1\n", "test.toml", &environment)
    };
    assert_eq!(with("VEGA_REACTOR__SPIN_US", "7").unwrap().reactor.spin_us, 7);
    assert_eq!(with("VEGA_REACTOR__IDLE", "poll").unwrap().reactor.idle, IdlePolicy::Poll);
    assert_eq!(with("VEGA_ISCSI__LIMITS__QUEUE_DEPTH", "9").unwrap().iscsi.limits.queue_depth, 9);
    assert!(!with("VEGA_NVMF__LISTENER", "[]").unwrap().nvmf.enabled());
    assert!(with("VEGA_REACTOR__SPIN_MS", "7").unwrap_err().to_string().contains("reactor.spin_us"));
}
