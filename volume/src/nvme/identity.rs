//! The identity of a namespace's data.

use nvme::Namespace;
use uuid::Uuid;

/// The namespace's UUID, else one made from its NGUID, its EUI64, or from the serial number and model of its controller: the
/// same for the same namespace, for ever.
pub fn namespace_uuid(namespace: &Namespace) -> Uuid {
    let ids = namespace.info().ids;
    if ids.uuid != [0; 16] {
        return Uuid::from_bytes(ids.uuid);
    }
    if ids.nguid != [0; 16] {
        return Uuid::from_bytes(ids.nguid);
    }
    let hash = if ids.eui64 == [0; 8] {
        let controller = namespace.controller();
        let nsid = namespace.info().nsid.to_le_bytes();
        fnv1a(&[b"serial", controller.serial.as_bytes(), &[0], controller.model.as_bytes(), &[0], &nsid])
    } else {
        fnv1a(&[b"eui64", &ids.eui64])
    };
    // A UUID of its own making says so in its version (8).
    uuid::Builder::from_custom_bytes(hash.to_be_bytes()).into_uuid()
}

/// FNV-1a of 128 bits.
fn fnv1a(parts: &[&[u8]]) -> u128 {
    const OFFSET: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    parts.iter().copied().flatten().fold(OFFSET, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_published_one() {
        assert_eq!(fnv1a(&[]), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
        assert_eq!(fnv1a(&[b"a"]), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964);
        assert_eq!(fnv1a(&[b"foo", b"bar"]), fnv1a(&[b"foobar"]));
        assert_eq!(fnv1a(&[b"foobar"]), 0x343e_1662_793c_64bf_6f0d_3597_ba44_6f18);
    }
}
