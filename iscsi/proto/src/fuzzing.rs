//! Bodies of the fuzz targets `bhs`, `text`, `login` and `session`: each states what holds for any bytes.
//!
//! Not part of the product: compiled for tests, for the fuzz crate and under `cfg(fuzzing)` only.

mod login;
mod session;

pub use login::login;
pub use session::session;

use zerocopy::IntoBytes;

use crate::digest::{Crc32c, crc32c};
use crate::limits::{KEY_BYTES_MAX, LARGE_BINARY_BYTES_MAX, LARGE_VALUE_BYTES_MAX, LIST_VALUES_MAX};
use crate::login::{Peek, first_login_target};
use crate::pdu::{AhsWalk, BHS_BYTES, Bhs};
use crate::text::{
    TextPairs, TextWriter, decode_binary, encode_hex, parse_boolean, parse_list, parse_number,
};

/// Headers: views lose nothing, lengths never wrap, the AHS walk stays inside its area.
pub fn bhs(data: &[u8]) {
    // Peeking grows monotonically: more bytes never unsay an answer.
    let answer = first_login_target(data);
    if let Some(shorter) = data.len().checked_sub(1) {
        let before = first_login_target(&data[..shorter]);
        assert!(before == Peek::NeedMore || before == answer);
    }
    let Some((bhs, rest)) = Bhs::from_prefix(data) else {
        assert!(data.len() < BHS_BYTES);
        return;
    };
    assert_eq!(bhs.as_bytes(), &data[..BHS_BYTES]);
    assert!(bhs.opcode().0 < 64);
    for (header_digest, data_digest) in [(false, false), (true, false), (false, true), (true, true)] {
        let layout = bhs.layout(header_digest, data_digest);
        assert!(layout.header_bytes <= layout.data_start);
        assert!(layout.data_start + layout.data_bytes <= layout.data_end);
        assert!(layout.data_end <= layout.total_bytes);
        assert!(layout.total_bytes.is_multiple_of(4));
    }
    let area = &rest[..rest.len().min(bhs.ahs_bytes())];
    let segments = AhsWalk::new(area).count();
    assert!(segments <= area.len().div_ceil(4));
    let (left, right) = rest.split_at(rest.len() / 3);
    let mut crc = Crc32c::new();
    crc.update(left);
    crc.update(right);
    assert_eq!(crc.value(), crc32c(rest));
}

/// Text: what parses is written back to the same pairs; every value parser stays within its bounds.
pub fn text(data: &[u8]) {
    let mut writer = TextWriter::new();
    let mut pairs = Vec::new();
    for pair in TextPairs::new(data) {
        let Ok((key, value)) = pair else { break };
        assert!(!key.is_empty() && key.len() <= KEY_BYTES_MAX);
        assert!(value.len() <= LARGE_VALUE_BYTES_MAX);
        values(value);
        writer.pair(key, value);
        pairs.push((key, value));
    }
    let again: Result<Vec<_>, _> = TextPairs::new(writer.as_bytes()).collect();
    assert_eq!(again.as_ref(), Ok(&pairs));
}

fn values(value: &str) {
    if let Some(number) = parse_number(value, 7..=0x00ff_ffff) {
        assert!((7..=0x00ff_ffff).contains(&number));
        assert_eq!(parse_number(&number.to_string(), 0..=u32::MAX), Some(number));
    }
    if let Some(yes) = parse_boolean(value) {
        assert_eq!(value, if yes { "Yes" } else { "No" });
    }
    assert!(parse_list(value).count() <= LIST_VALUES_MAX);
    for bytes_max in [1, 32, LARGE_BINARY_BYTES_MAX] {
        if let Ok(bytes) = decode_binary(value, bytes_max) {
            assert!(!bytes.is_empty() && bytes.len() <= bytes_max);
            assert_eq!(decode_binary(&encode_hex(&bytes), bytes_max), Ok(bytes));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    fn replay(target: &str, body: fn(&[u8])) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let mut replayed = 0;
        for entry in std::fs::read_dir(&folder).expect("the corpus is part of the tree") {
            let path = entry.expect("a readable folder").path();
            body(&std::fs::read(&path).expect("a readable seed"));
            replayed += 1;
        }
        assert!(replayed > 0, "the corpus of {target} is empty");
    }

    #[test]
    fn corpus_of_bhs() {
        replay("bhs", super::bhs);
    }

    #[test]
    fn corpus_of_text() {
        replay("text", super::text);
    }

    #[test]
    fn corpus_of_login() {
        replay("login", super::login);
    }

    #[test]
    fn corpus_of_session() {
        replay("session", super::session);
    }

    /// A few thousand inputs without a fuzzer, so that the bodies themselves are known to hold.
    #[test]
    fn seeds_with_every_byte_changed() {
        for (target, body) in
            [("bhs", super::bhs as fn(&[u8])), ("text", super::text), ("login", super::login)]
        {
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
            for entry in std::fs::read_dir(&folder).expect("the corpus is part of the tree") {
                let seed = std::fs::read(entry.expect("a readable folder").path());
                let mut seed = seed.expect("a readable seed");
                for at in 0..seed.len().min(160) {
                    let old = seed[at];
                    for new in [0, 1, 0x7f, 0x80, 0xff, old ^ 1, b'=', b'9'] {
                        seed[at] = new;
                        body(&seed);
                    }
                    seed[at] = old;
                }
            }
        }
    }
}
