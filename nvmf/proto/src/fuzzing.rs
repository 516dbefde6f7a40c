//! Bodies of the fuzz targets `pdu`, `capsule`, `target_queue` and `host_queue`: each states what holds for any bytes.
//!
//! Not part of the product: compiled for tests, for the fuzz crate and under `cfg(fuzzing)` only.

mod host;
mod input;
mod pdu;
mod target;

pub use host::host_queue;
pub use pdu::{capsule, pdu};
pub use target::target_queue;

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use crate::testing::noise::Noise;

    type Body = fn(&[u8]);

    const TARGETS: [(&str, Body); 4] = [
        ("pdu", super::pdu),
        ("capsule", super::capsule),
        ("target_queue", super::target_queue),
        ("host_queue", super::host_queue),
    ];

    fn seeds(target: &str) -> Vec<Vec<u8>> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
        let entries = std::fs::read_dir(&folder).expect("the corpus is part of the tree");
        let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a readable folder").path()).collect();
        paths.sort();
        assert!(!paths.is_empty(), "the corpus of {target} is empty");
        paths.iter().map(|path| std::fs::read(path).expect("a readable seed")).collect()
    }

    #[test]
    fn corpus() {
        for (target, body) in TARGETS {
            for seed in seeds(target) {
                body(&seed);
            }
        }
    }

    /// Some thousand inputs without a fuzzer, so that the bodies themselves are known to hold.
    #[test]
    fn seeds_with_bytes_changed_and_cut_at_every_point() {
        for (target, body) in TARGETS {
            for mut seed in seeds(target) {
                for at in 0..seed.len().min(100) {
                    body(&seed[..at]);
                    let old = seed[at];
                    for new in [0, 0xff, old ^ 1, old ^ 0x40] {
                        seed[at] = new;
                        body(&seed);
                    }
                    seed[at] = old;
                }
            }
        }
    }

    /// Long, and unlike the seeds.
    #[test]
    fn noise() {
        let mut noise = Noise::default();
        for (_, body) in TARGETS {
            for round in 0..300 {
                body(&noise.bytes(16 + round * 3));
            }
        }
    }
}
