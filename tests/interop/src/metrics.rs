//! What the target says about itself: its metrics, over the Unix socket of its API.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use crate::failure::{Context, Failure, Outcome};
use crate::limits;

/// The sum of the metric `name` over all its labels.
pub fn read(socket: &Path, name: &str) -> Outcome<f64> {
    let text = scrape(socket).context("reading the metrics")?;
    sum(&text, name).ok_or_else(|| Failure::new(format!("no metric {name}")))
}

fn scrape(socket: &Path) -> Outcome<String> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(limits::STATE_PATIENCE))?;
    // HTTP/1.0: the answer ends with the connection, and comes in one piece.
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

fn sum(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let labelled = rest.starts_with(['{', ' ']);
        labelled.then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
    });
    values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_the_sum_over_its_labels() {
        let text = "# TYPE a gauge\na{core=\"0\"} 2\na{core=\"1\"} 3.5\na_b{core=\"0\"} 7\nc 1\n";
        assert_eq!(sum(text, "a"), Some(5.5));
        assert_eq!(sum(text, "c"), Some(1.0));
        assert_eq!(sum(text, "b"), None);
    }
}
