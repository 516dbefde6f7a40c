//! Metrics for Prometheus, read at scrape time from counters that the cores write.
//!
//! [`gather`] makes one list of families; each format is written from it. Text shows classic histogram buckets, the
//! protobuf format native ones as well. Names carry their unit, labels are volumes, operations, subsystems and
//! cores, never hosts or connections, so that the number of series is bounded by the catalog.

mod devices;
mod family;
mod format;
mod gather;
mod histogram;
mod text;

pub use format::Format;
pub use gather::gather;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeMetric, NoLabelSet, prometheus_protobuf, text as openmetrics,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use family::{Family, Kind, Value};
use histogram::{Classic, Native};

/// All families of one scrape.
#[derive(Clone, Debug)]
pub struct Gathered {
    families: Vec<Family>,
    created: std::time::SystemTime,
}

impl Gathered {
    /// Writes everything in one format.
    pub fn encode(self, format: Format) -> Vec<u8> {
        if format == Format::Text {
            return text::encode(&self.families).into_bytes();
        }
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        match format {
            Format::Protobuf => prometheus_protobuf::encode_to_vec(&registry)
                .expect("names and help are text, and counts fit"),
            _ => {
                let mut out = String::new();
                openmetrics::encode(&mut out, &registry).expect("a string takes any text");
                out.into_bytes()
            }
        }
    }
}

impl Collector for Gathered {
    fn encode(&self, mut encoder: DescriptorEncoder) -> Result<(), std::fmt::Error> {
        for family in self.families.iter().filter(|family| !family.samples.is_empty()) {
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
                Kind::Histogram => MetricType::Histogram,
            };
            let mut metric = encoder.encode_descriptor(family.name, family.help, None, kind)?;
            for sample in &family.samples {
                let mut one = metric.encode_family(&sample.labels)?;
                match &sample.value {
                    Value::Number(number) if family.kind == Kind::Counter => {
                        EncodeMetric::encode(&ConstCounter::new(*number), one)?;
                    }
                    Value::Number(number) => EncodeMetric::encode(&ConstGauge::new(*number), one)?,
                    Value::Durations(durations) => {
                        let classic = Classic::of(durations);
                        let native = Native::of(durations);
                        one.encode_histogram_with_native::<NoLabelSet>(
                            classic.sum_seconds,
                            classic.count,
                            &classic.buckets,
                            None,
                            native.encoding(self.created),
                        )?;
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
