//! LUN fields as numbers: one logical unit, several spellings (SAM-5 section 4.7).

/// LUN `number` as the big-endian number of its 8 bytes: peripheral addressing below 256, flat space above.
pub const fn to_wire(number: u16) -> u64 {
    let field = if number < 256 { number } else { 0x4000 | number };
    (field as u64) << 48
}

/// The usual spelling of a LUN field: flat addressing below 256 becomes peripheral.
pub const fn canonical(lun: u64) -> u64 {
    let field = (lun >> 48) as u16;
    if field & 0xc000 == 0x4000 && field & 0x3fff < 256 && lun & 0xffff_ffff_ffff == 0 {
        to_wire(field & 0x3fff)
    } else {
        lun
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_and_peripheral_addresses_name_the_same_unit() {
        assert_eq!(to_wire(1), 0x0001_0000_0000_0000);
        assert_eq!(to_wire(300), 0x412c_0000_0000_0000);
        assert_eq!(canonical(0x4001_0000_0000_0000), to_wire(1));
        assert_eq!(canonical(0x4001_0000_0000_0001), 0x4001_0000_0000_0001);
        assert_eq!(canonical(to_wire(300)), to_wire(300));
        assert_eq!(canonical(0xc101_0000_0000_0000), 0xc101_0000_0000_0000);
    }
}
