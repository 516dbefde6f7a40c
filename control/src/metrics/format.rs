//! Which exposition format a scraper wants.

/// An exposition format of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text 0.0.4: what everything understands.
    Text,
    /// OpenMetrics text 1.0.
    OpenMetrics,
    /// Length-delimited protobuf, the only one with native histograms.
    Protobuf,
}

impl Format {
    /// Chooses by an `Accept` header; text when it names none of ours.
    pub fn accepted(accept: &str) -> Self {
        let mut best = (0, Self::Text);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or("").to_ascii_lowercase();
            let parameters: Vec<&str> = parts.collect();
            let format = match kind.as_str() {
                "application/vnd.google.protobuf"
                    if parameters.contains(&"proto=io.prometheus.client.MetricFamily")
                        && parameters.contains(&"encoding=delimited") =>
                {
                    Self::Protobuf
                }
                "application/openmetrics-text" => Self::OpenMetrics,
                "text/plain" => Self::Text,
                _ => continue,
            };
            let quality = parameters.iter().find_map(|parameter| parameter.strip_prefix("q="));
            let quality = quality.and_then(|text| text.parse::<f32>().ok()).unwrap_or(1.0);
            let quality_thousandths = (quality.clamp(0.0, 1.0) * 1000.0) as u32;
            if quality_thousandths > best.0 {
                best = (quality_thousandths, format);
            }
        }
        best.1
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scraper_chooses() {
        assert_eq!(Format::accepted(""), Format::Text);
        assert_eq!(Format::accepted("*/*"), Format::Text);
        assert_eq!(Format::accepted("text/html,text/plain;q=0.5"), Format::Text);
        let classic =
            "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1";
        assert_eq!(Format::accepted(classic), Format::OpenMetrics);
        let native = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,";
        assert_eq!(Format::accepted(&format!("{native}{classic}")), Format::Protobuf);
        assert_eq!(Format::accepted("application/vnd.google.protobuf"), Format::Text);
        assert_eq!(Format::accepted("application/openmetrics-text;q=0"), Format::Text);
    }
}
