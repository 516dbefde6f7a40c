//! The status field of a completion (Base 4.2.3).

mod codes;

use core::fmt;

open_enum! {
    /// Status Code Type (Base 4.2.3.1).
    pub enum StatusCodeType(u8) {
        /// Generic Command Status.
        GENERIC = 0,
        /// Command Specific Status.
        COMMAND_SPECIFIC = 1,
        /// Media and Data Integrity Errors.
        MEDIA = 2,
        /// Path Related Status.
        PATH = 3,
        /// Vendor Specific.
        VENDOR_SPECIFIC = 7,
    }
}

/// The 15 bits of a status: Status Code in bits 7:0, Status Code Type in 10:8, Command Retry Delay in 12:11, More in 13, Do Not
/// Retry in 14. On the wire they stand above the Phase Tag ([`crate::Cqe::status`]).
///
/// Two values are equal when all 15 bits are; compare [`Status::code`] to ask only what happened.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status(u16);

const CODE_MASK: u16 = 0x07ff;
const CRD_SHIFT: u32 = 11;
const CRD_MASK: u16 = 0b11 << CRD_SHIFT;
const MORE: u16 = 1 << 13;
const DNR: u16 = 1 << 14;
const BITS: u16 = 0x7fff;

impl Status {
    /// A status with this Status Code Type (3 bits) and Status Code, and no flags.
    pub const fn new(status_code_type: u8, status_code: u8) -> Self {
        Self(((status_code_type & 0b111) as u16) << 8 | status_code as u16)
    }

    /// From the 15 bits; bit 15 of the argument is ignored.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & BITS)
    }

    /// The 15 bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Status Code.
    pub const fn status_code(self) -> u8 {
        self.0 as u8
    }

    /// Status Code Type.
    pub const fn status_code_type(self) -> StatusCodeType {
        StatusCodeType((self.0 >> 8) as u8 & 0b111)
    }

    /// Type and code without the flags.
    pub const fn code(self) -> Self {
        Self(self.0 & CODE_MASK)
    }

    /// Success, whatever the flags say?
    pub const fn is_success(self) -> bool {
        self.0 & CODE_MASK == 0
    }

    /// One of the path related codes, which tell the host to try another path.
    pub const fn is_path_related(self) -> bool {
        self.status_code_type().0 == StatusCodeType::PATH.0
    }

    /// Command Retry Delay: 0 none, 1 to 3 name a delay of Identify Controller (CRDT1 to CRDT3).
    pub const fn crd(self) -> u8 {
        ((self.0 & CRD_MASK) >> CRD_SHIFT) as u8
    }

    /// This status with a Command Retry Delay (2 bits).
    pub const fn with_crd(self, crd: u8) -> Self {
        Self(self.0 & !CRD_MASK | ((crd & 0b11) as u16) << CRD_SHIFT)
    }

    /// More: the Error Information log page has an entry about this.
    pub const fn more(self) -> bool {
        self.0 & MORE != 0
    }

    /// This status with More set.
    pub const fn with_more(self) -> Self {
        Self(self.0 | MORE)
    }

    /// Do Not Retry: the same command would fail again.
    pub const fn dnr(self) -> bool {
        self.0 & DNR != 0
    }

    /// This status with Do Not Retry set.
    pub const fn with_dnr(self) -> Self {
        Self(self.0 | DNR)
    }

    /// The standard's name of the code. Codes 80h and up of type 1 are named as those of an I/O command.
    pub fn name(self) -> Option<&'static str> {
        find(codes::NAMES, self)
    }

    /// The same status as that of a Fabrics command: it prints with the name that the code has there.
    pub const fn of_fabrics(self) -> FabricsStatus {
        FabricsStatus(self)
    }

    fn print(self, name: Option<&str>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}h/{:02x}h", self.status_code_type().0, self.status_code())?;
        if let Some(name) = name {
            write!(f, " {name}")?;
        }
        if self.dnr() { f.write_str(" (do not retry)") } else { Ok(()) }
    }
}

fn find(names: &'static [(Status, &'static str)], status: Status) -> Option<&'static str> {
    names.iter().find(|(other, _)| *other == status.code()).map(|(_, name)| *name)
}

/// The status of a Fabrics command, for whoever reads it: codes 80h to 85h of type 1 mean something else there (Base 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FabricsStatus(pub Status);

impl fmt::Display for FabricsStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.print(find(codes::FABRICS_NAMES, self.0).or_else(|| self.0.name()), f)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.print(self.name(), f)
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Status({self})")
    }
}

#[cfg(test)]
mod tests {
    extern crate std;
    use std::string::ToString;

    use super::*;

    #[test]
    fn every_15_bit_value_round_trips_through_its_parts() {
        for bits in 0..=BITS {
            let status = Status::from_bits(bits);
            let mut again =
                Status::new(status.status_code_type().0, status.status_code()).with_crd(status.crd());
            if status.more() {
                again = again.with_more();
            }
            if status.dnr() {
                again = again.with_dnr();
            }
            assert_eq!(again.bits(), bits);
        }
    }

    #[test]
    fn names_are_unique_and_codes_found() {
        for (i, (status, name)) in codes::NAMES.iter().enumerate() {
            assert_eq!(status.name(), Some(*name));
            assert!(codes::NAMES[..i].iter().all(|(s, n)| s != status && n != name), "{name}");
        }
        assert_eq!(Status::from_bits(0x0281).name(), Some("Unrecovered Read Error"));
        assert_eq!(Status::ANA_TRANSITION.bits(), 0x0303);
        assert!(Status::ANA_TRANSITION.is_path_related());
        assert_eq!(Status::new(7, 0xc0).to_string(), "7h/c0h");
        assert_eq!(
            Status::INVALID_FIELD.with_dnr().to_string(),
            "0h/02h Invalid Field in Command (do not retry)"
        );
    }
}
