//! Where a function is on the PCI buses of a machine.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// `DDDD:BB:DD.F` in hexadecimal: domain, bus, device, function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The text is no PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{input:?} is no PCI address such as 0000:01:00.0; \"vega disk list\" shows those of NVMe controllers"
)]
pub struct AddressError {
    input: String,
}

/// Devices of a bus, and functions of a device.
const DEVICE_MAX: u32 = 0x1F;
const FUNCTION_MAX: u32 = 7;

fn hexadecimal(text: &str, digits: std::ops::RangeInclusive<usize>, max: u32) -> Option<u32> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u32::from_str_radix(text, 16).ok().filter(|value| plain && *value <= max)
}

impl FromStr for PciAddress {
    type Err = AddressError;

    /// The domain may be left out, as `lspci` does it.
    fn from_str(input: &str) -> Result<Self, AddressError> {
        let parsed = || {
            let (rest, function) = input.rsplit_once('.')?;
            let (rest, device) = rest.rsplit_once(':')?;
            let (domain, bus) = rest.rsplit_once(':').unwrap_or(("0000", rest));
            Some(Self {
                // Host bridges behind a volume management device have domains of five digits, virtual hosts of up to eight.
                domain: hexadecimal(domain, 4..=8, u32::MAX)?,
                bus: u8::try_from(hexadecimal(bus, 2..=2, 0xFF)?).ok()?,
                device: u8::try_from(hexadecimal(device, 2..=2, DEVICE_MAX)?).ok()?,
                function: u8::try_from(hexadecimal(function, 1..=1, FUNCTION_MAX)?).ok()?,
            })
        };
        parsed().ok_or_else(|| AddressError { input: input.chars().take(64).collect() })
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { domain, bus, device, function } = self;
        write!(f, "{domain:04x}:{bus:02x}:{device:02x}.{function}")
    }
}

impl TryFrom<String> for PciAddress {
    type Error = AddressError;

    fn try_from(input: String) -> Result<Self, AddressError> {
        input.parse()
    }
}

impl From<PciAddress> for String {
    fn from(address: PciAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_domain_and_written_with_it() {
        for (text, written) in [
            ("0000:01:00.0", "0000:01:00.0"),
            ("01:00.0", "0000:01:00.0"),
            ("10000:E1:1f.7", "10000:e1:1f.7"),
            ("abcd:ff:00.1", "abcd:ff:00.1"),
            ("89ABCDEF:00:00.0", "89abcdef:00:00.0"),
        ] {
            assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), written);
        }
        for bad in [
            "",
            "0000:01:00",
            "0000:01:00.8",
            "0000:01:20.0",
            "1:00.0",
            "0000:1:00.0",
            "000:01:00.0",
            "000000000:01:00.0",
            "0000:01:00.00",
            "0000:01:00.0 ",
            ".",
            ":",
            "0000:01:00.0/..",
            "../../x",
            "0000:+1:00.0",
            "0000:01:00.",
            "nvme0",
            "0000:00:01:00.0",
        ] {
            let error = bad.parse::<PciAddress>().unwrap_err().to_string();
            assert!(error.contains("vega disk list"), "{bad}");
        }
    }
}
