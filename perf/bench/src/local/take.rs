//! Taking a controller from the kernel, and giving it back. Blocking: before the cores start, and after they have ended.

use nvme_pci::{BindOptions, Host, PciAddress};
use vfio::{VfioDevice, Way};

use crate::error::BenchError;

/// A controller that belongs to this process. Whoever drops it gives it back.
#[derive(Debug)]
pub struct Borrowed {
    host: Host,
    address: PciAddress,
    device: Option<VfioDevice>,
    /// The kernel had it before, and gets it back.
    was_bound: bool,
    notes: Vec<String>,
}

/// Takes the controller at `address`, under the rules of `vega disk bind`: one that is mounted, swapped to, partitioned,
/// claimed, open or labelled is refused unless its serial number was typed.
pub fn take(
    host: Host,
    address: PciAddress,
    confirm_serial: Option<&str>,
    no_iommu: bool,
) -> Result<Borrowed, BenchError> {
    let options = BindOptions {
        confirmed_serials: confirm_serial.map(str::to_owned).into_iter().collect(),
        no_iommu,
        own_volumes: false,
        undriven: false,
    };
    let plan = host.plan_bind(&[address], &options)?;
    let notes = plan.warnings().iter().map(ToString::to_string).collect();
    let was_bound = plan.already().is_empty();
    plan.execute()?;
    let mut borrowed = Borrowed { host, address, device: None, was_bound, notes };
    let way = no_iommu.then_some(Way::NoIommu);
    // What was taken goes back when it cannot be opened.
    borrowed.device = Some(VfioDevice::open(address, way)?);
    Ok(borrowed)
}

impl Borrowed {
    /// The function, for whoever drives it; every handle is let go of before this is.
    pub fn device(&self) -> VfioDevice {
        self.device.clone().expect("taken out only to give it back")
    }

    /// What an operator should know.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Gives it back to the driver that had it. On failure what is to be done by hand.
    pub fn give_back(mut self) -> Result<(), String> {
        self.return_it()
    }

    fn return_it(&mut self) -> Result<(), String> {
        let address = self.address;
        let by_hand = format!("\"vega disk unbind {address}\" gives it back later");
        // The last handle waits until the kernel has stopped the function.
        if self.device.take().is_some_and(|device| !device.release()) {
            return Err(format!("{address} is still held by a thread; {by_hand}"));
        }
        if !std::mem::take(&mut self.was_bound) {
            return Ok(());
        }
        let plan = self.host.plan_unbind(&[address]);
        let given = plan.and_then(nvme_pci::Plan::execute);
        given.map_err(|error| format!("{address} was not given back to the kernel: {error}; {by_hand}"))
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        // Nobody is left to be told; what could be done was done.
        let _ = self.return_it();
    }
}

#[cfg(test)]
mod tests {
    use nvme_pci::testing::{FakeController, FakeMachine};

    use super::*;

    fn machine(signature: &[u8]) -> (tempfile::TempDir, FakeMachine) {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = FakeMachine::new(folder.path());
        machine.add_controller(&FakeController::default());
        machine.put("nvme0n1", 0, signature);
        (folder, machine)
    }

    fn try_to_take(machine: &FakeMachine, serial: Option<&str>) -> BenchError {
        let address = FakeController::default().address.parse().expect("an address");
        take(machine.host(), address, serial, false)
            .expect_err("the kernel below this test has no such function")
    }

    #[test]
    fn a_controller_in_use_is_refused_and_nothing_is_touched() {
        let (_folder, machine) = machine(b"XFSB");
        let refused = try_to_take(&machine, None).to_string();
        assert!(refused.contains("an XFS filesystem") && refused.contains("S6P2NS0T123456"), "{refused}");
        assert!(try_to_take(&machine, Some("S6P2")).is_usage(), "a serial number that nobody has");
        assert!(machine.kernel().written().is_empty());
    }

    #[test]
    fn what_was_taken_and_cannot_be_opened_goes_back() {
        for (signature, serial) in [(&b""[..], None), (b"XFSB", Some("S6P2NS0T123456"))] {
            let (_folder, machine) = machine(signature);
            let error = try_to_take(&machine, serial);
            assert!(matches!(error, BenchError::Vfio(_)), "{error}");
            let function = machine.host().functions().remove(0);
            assert_eq!((function.driver.as_deref(), function.driver_override), (Some("nvme"), None));
            assert!(machine.kernel().written().len() > 4, "it was taken, and given back");
        }
    }
}
