//! Identify Controller and the SMART log as `nvme id-ctrl` and `nvme smart-log` show them, so that what was written for
//! those reads ours: the same keys in JSON, the same lines for people.
//!
//! Numbers of 128 bits are JSON numbers as far as those are exact everywhere (64 bits), and text beyond that.

mod id_ctrl;
mod smart_log;

pub use id_ctrl::{id_ctrl, id_ctrl_text};
pub use smart_log::{critical_warnings, kelvins_to_celsius, smart_log, smart_log_text};

use serde_json::{Map, Value};

/// Keys and values in the order in which they are shown.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.push((key, value.into()));
    }

    fn wide(&mut self, key: &'static str, value: u128) {
        self.0.push((key, wide(value)));
    }

    fn into_value(self) -> Value {
        Value::Object(self.0.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
    }
}

/// Names and what they are, one per line, the colons in column `width`.
fn lines(width: usize, all: impl IntoIterator<Item = (String, String)>) -> String {
    all.into_iter().map(|(name, value)| format!("{name:<width$}: {value}\n")).collect()
}

fn wide(value: u128) -> Value {
    u64::try_from(value).map_or_else(|_| Value::String(value.to_string()), Value::from)
}

/// ASCII that is padded with blanks or zeros; what is no ASCII is shown as '?'.
pub fn padded_text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let printable = |byte: &u8| if matches!(byte, 0x20..=0x7E) { char::from(*byte) } else { '?' };
    bytes[..end].iter().map(printable).collect()
}
