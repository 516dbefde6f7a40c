//! Text exposition format 0.0.4. The library writes OpenMetrics only, in which counters are declared under another
//! name than their samples have; scrapers of the older format would take those for untyped.

use std::fmt::Write;

use super::family::{Family, Kind, Sample, Value};
use super::histogram::Classic;

pub(super) fn encode(families: &[Family]) -> String {
    let mut out = String::new();
    for family in families.iter().filter(|family| !family.samples.is_empty()) {
        write_family(&mut out, family).expect("a string takes any text");
    }
    out
}

fn write_family(out: &mut String, family: &Family) -> std::fmt::Result {
    let (suffix, kind) = match family.kind {
        Kind::Counter => ("_total", "counter"),
        Kind::Gauge => ("", "gauge"),
        Kind::Histogram => ("", "histogram"),
    };
    let name = format!("{}{suffix}", family.name);
    writeln!(out, "# HELP {name} {}", escaped(family.help, false))?;
    writeln!(out, "# TYPE {name} {kind}")?;
    for Sample { labels, value } in &family.samples {
        match value {
            Value::Number(number) => writeln!(out, "{name}{} {number}", label_set(labels, None))?,
            Value::Durations(durations) => {
                let classic = Classic::of(durations);
                let mut cumulative = 0;
                for (bound, count) in &classic.buckets {
                    cumulative += count;
                    let le = if bound.is_infinite() { "+Inf".to_owned() } else { bound.to_string() };
                    writeln!(out, "{name}_bucket{} {cumulative}", label_set(labels, Some(&le)))?;
                }
                writeln!(out, "{name}_sum{} {}", label_set(labels, None), classic.sum_seconds)?;
                writeln!(out, "{name}_count{} {}", label_set(labels, None), classic.count)?;
            }
        }
    }
    Ok(())
}

fn label_set(labels: &[(&'static str, String)], le: Option<&str>) -> String {
    let mut parts: Vec<String> =
        labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value, true))).collect();
    parts.extend(le.map(|le| format!("le=\"{le}\"")));
    if parts.is_empty() { String::new() } else { format!("{{{}}}", parts.join(",")) }
}

fn escaped(text: &str, quotes: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quotes { text.replace('"', "\\\"") } else { text }
}
