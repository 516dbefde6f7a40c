//! Every format against a reader that knows its rules.

use std::collections::{BTreeMap, BTreeSet};

use prometheus_client::encoding::prometheus_protobuf::prometheus_data_model::MetricFamily;
use prost::Message;

use super::*;
use crate::service::tests::{Fixture, new_volume};

async fn gathered() -> Gathered {
    let it = Fixture::new();
    it.service.restore().await;
    it.service.create_volume(new_volume("a")).await.unwrap();
    it.service.create_volume(new_volume("b")).await.unwrap();
    for latency_ns in [8_000, 9_000, 70_000, 3_000_000] {
        it.plane.record("a", "read", 4096, latency_ns);
    }
    it.plane.record("b", "flush", 0, 1_000_000);
    let new = serde_json::json!({ "nqn": "nqn.2026-11.io.vega:s", "ana": { "2": "inaccessible" } });
    it.service.create_subsystem(serde_json::from_value(new).unwrap()).await.unwrap();
    for (id, kind) in
        [("0-1@nqn.2026-11.io.vega:s", "io"), ("0-1@nqn.2014-08.org.nvmexpress.discovery", "discovery")]
    {
        let controller = serde_json::json!({
            "id": id, "kind": kind, "host_nqn": "nqn.2026-11.io.example:h", "listener": 1, "keep_alive_ms": 5000,
            "host_id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "commands": 0,
            "queues": [{ "queue_id": 0, "peer": "192.0.2.7:51514" }, { "queue_id": 1, "peer": "192.0.2.7:51516" }]
        });
        it.plane.add_controller(serde_json::from_value(controller).unwrap());
    }
    it.plane.set_device(crate::fake::fake_device("fast-1"));
    it.service.stats_changed();
    gather(&it.service).await
}

/// Checks text of version 0.0.4 as far as its rules can be checked line by line, and returns the samples.
fn parse_text(text: &str) -> BTreeMap<String, f64> {
    let (mut samples, mut types, mut helped) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap();
            assert!(helped.insert(name.to_owned()) && !help.is_empty(), "{line}");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(
                helped.contains(name) && types.insert(name.to_owned(), kind.to_owned()).is_none(),
                "{line}"
            );
        } else {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let name = series.split('{').next().unwrap();
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .filter_map(|suffix| name.strip_suffix(suffix))
                .find(|family| types.get(*family).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(name);
            let kind = types.get(family).unwrap_or_else(|| panic!("{line} has no type"));
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            assert!(
                name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'),
                "{line}"
            );
            for unit in ["_ms", "_us", "_ns", "_kb", "_mb", "_seconds_seconds"] {
                assert!(!name.ends_with(unit), "{line}");
            }
            assert!(
                samples.insert(series.to_owned(), value.parse().unwrap()).is_none(),
                "{line} is there twice"
            );
        }
    }
    samples
}

#[tokio::test]
async fn text_follows_the_rules_and_says_what_happened() {
    let text = String::from_utf8(gathered().await.encode(Format::Text)).unwrap();
    let samples = parse_text(&text);
    let read =
        |series: &str| samples.get(series).copied().unwrap_or_else(|| panic!("{series} is not in:\n{text}"));
    assert_eq!(read("vega_volume_operations_total{volume=\"a\",operation=\"read\"}"), 4.0);
    assert_eq!(read("vega_volume_bytes_total{volume=\"a\",operation=\"read\"}"), 16384.0);
    assert_eq!(read("vega_volume_errors_total{volume=\"a\",operation=\"write\"}"), 0.0);
    assert_eq!(read("vega_volume_size_bytes{volume=\"b\"}"), 1_048_576.0);
    let bucket = |le: &str| {
        read(&format!(
            "vega_volume_operation_duration_seconds_bucket{{volume=\"a\",operation=\"read\",le=\"{le}\"}}"
        ))
    };
    assert_eq!((bucket("0.00001"), bucket("0.0001"), bucket("0.005"), bucket("+Inf")), (2.0, 3.0, 4.0, 4.0));
    assert_eq!(read("vega_volume_operation_duration_seconds_count{volume=\"b\",operation=\"flush\"}"), 1.0);
    assert_eq!(read("vega_node_ready"), 1.0);
    assert_eq!(read("vega_sessions{core=\"0\"}"), 0.0);
    assert_eq!(read("vega_subsystems"), 1.0);
    let discovery = "subsystem=\"nqn.2014-08.org.nvmexpress.discovery\",core=\"0\"";
    assert_eq!(read(&format!("vega_controllers{{{discovery}}}")), 1.0);
    let subsystem = "subsystem=\"nqn.2026-11.io.vega:s\"";
    assert_eq!(read(&format!("vega_controller_connections{{{subsystem},core=\"0\"}}")), 2.0);
    for (listener, state) in [(1, "optimized"), (2, "inaccessible")] {
        let labels = format!("{subsystem},listener=\"{listener}\",state=\"{state}\"");
        assert_eq!(read(&format!("vega_subsystem_ana_state{{{labels}}}")), 1.0);
    }
    assert_eq!(read("vega_core_busy_seconds_total{core=\"0\"}"), 0.0);
    for (series, value) in [
        ("temperature_celsius{device=\"fast-1\"}", 38.0),
        ("available_spare_ratio{device=\"fast-1\"}", 0.97),
        ("available_spare_threshold_ratio{device=\"fast-1\"}", 0.1),
        ("endurance_used_ratio{device=\"fast-1\"}", 0.03),
        ("media_errors_total{device=\"fast-1\"}", 2.0),
        ("media_written_bytes_total{device=\"fast-1\"}", 512e6),
        ("power_on_seconds_total{device=\"fast-1\"}", 18000.0),
        ("critical_warning{device=\"fast-1\",warning=\"read-only\"}", 0.0),
        ("state{device=\"fast-1\",state=\"ready\"}", 1.0),
        ("state{device=\"fast-1\",state=\"faulted\"}", 0.0),
        ("commands_in_flight{device=\"fast-1\",core=\"0\"}", 7.0),
        ("queue_entries{device=\"fast-1\",core=\"0\"}", 255.0),
        ("events_total{device=\"fast-1\",event=\"reset\"}", 1.0),
        ("commands_total{device=\"fast-1\",core=\"0\"}", 1.0),
        ("errors_total{device=\"fast-1\",core=\"0\"}", 0.0),
        ("command_duration_seconds_count{device=\"fast-1\",core=\"0\"}", 1.0),
    ] {
        assert_eq!(read(&format!("vega_device_{series}")), value, "{series}");
    }
    let info = "vega_device_info{device=\"fast-1\",kind=\"pci\",pci_address=\"0000:01:00.0\",serial=\"S6P2NS0T123456\",\
                model=\"Example 1TB\",firmware=\"2B2QEXM7\"}";
    assert_eq!(read(info), 1.0);
    assert!(samples.keys().any(|series| series.starts_with("vega_build_info{version=")));
    if let Some(path) = std::env::var_os("VEGA_METRICS_OUT") {
        std::fs::write(path, &text).unwrap();
    }
}

#[tokio::test]
async fn open_metrics_ends_as_it_must_and_declares_counters_without_suffix() {
    let text = String::from_utf8(gathered().await.encode(Format::OpenMetrics)).unwrap();
    assert!(text.ends_with("# EOF\n"));
    assert!(text.contains("# TYPE vega_volume_operations counter\n"));
    assert!(text.contains("vega_volume_operations_total{volume=\"a\",operation=\"read\"} 4"));
    assert!(text.contains("vega_volume_operation_duration_seconds_bucket{"));
}

#[tokio::test]
async fn protobuf_carries_classic_and_native_buckets_of_the_same_values() {
    let bytes = gathered().await.encode(Format::Protobuf);
    let mut rest = bytes.as_slice();
    let mut families = BTreeMap::new();
    while !rest.is_empty() {
        let family = MetricFamily::decode_length_delimited(&mut rest).unwrap();
        assert!(families.insert(family.name.clone(), family).is_none());
    }
    assert!(families.contains_key("vega_volume_operations_total"));
    let durations = &families["vega_volume_operation_duration_seconds"];
    let of_read = durations.metric.iter().find(|metric| {
        metric.label.iter().any(|l| l.value == "a") && metric.label.iter().any(|l| l.value == "read")
    });
    let histogram = of_read.unwrap().histogram.as_ref().unwrap();
    assert_eq!((histogram.sample_count, histogram.schema), (4, 3));
    let (mut sum, mut count) = (0, 0);
    for delta in &histogram.positive_delta {
        count += delta;
        sum += count;
    }
    assert_eq!(sum, 4);
    let buckets: u32 = histogram.positive_span.iter().map(|span| span.length).sum();
    assert_eq!(buckets as usize, histogram.positive_delta.len());
    assert_eq!(histogram.bucket.last().map(|bucket| bucket.cumulative_count), Some(4));
}

#[test]
fn labels_are_escaped() {
    let mut family = Family::new(Kind::Gauge, "vega_test", "back\\slash\nline");
    family.push(vec![("name", "a\"b\\c\nd".to_owned())], 1.5);
    let text = text::encode(&[family]);
    assert_eq!(
        text,
        "# HELP vega_test back\\\\slash\\nline\n# TYPE vega_test gauge\nvega_test{name=\"a\\\"b\\\\c\\nd\"} 1.5\n"
    );
}
