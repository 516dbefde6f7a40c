//! What was opened, and how: one line for the log.

use std::fmt;

use nvme_pci::PciAddress;

use crate::error::Way;
use crate::function::Reset;

/// What was opened, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Where it is.
    pub address: PciAddress,
    /// How it is reached.
    pub way: Way,
    /// Length of the registers.
    pub registers_bytes: u32,
    /// How many interrupt vectors there are.
    pub interrupt_vectors: u16,
    /// How it can be reset.
    pub reset: Reset,
}

impl Report {
    /// What is dangerous about it; to be logged as a warning.
    pub fn warning(&self) -> Option<&'static str> {
        (self.way == Way::NoIommu).then_some(
            "no IOMMU stands between this device and all memory: an error in it or in its driver can overwrite anything, and \
             after kill -9 it may go on writing to memory that is not ours any more",
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let reset = match self.reset {
            Reset::Function => "by itself",
            Reset::Hot => "with its bus",
            Reset::None => "not at all",
        };
        write!(
            f,
            "{}: {}, {} KiB of registers, {} interrupt vectors, can be reset {reset}",
            self.address,
            self.way,
            self.registers_bytes >> 10,
            self.interrupt_vectors
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_an_iommu_comes_with_a_warning() {
        let address = "0000:00:04.0".parse().expect("an address");
        let report = |way| Report {
            address,
            way,
            registers_bytes: 16 << 10,
            interrupt_vectors: 65,
            reset: Reset::Function,
        };
        assert_eq!(
            report(Way::Group).to_string(),
            "0000:00:04.0: VFIO group and container (type 1), 16 KiB of registers, 65 interrupt vectors, can be reset by itself"
        );
        assert_eq!(report(Way::Group).warning(), None);
        assert_eq!(report(Way::Iommufd).warning(), None);
        assert!(report(Way::NoIommu).warning().is_some_and(|text| text.contains("kill -9")));
    }
}
