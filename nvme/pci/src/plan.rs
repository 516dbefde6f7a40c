//! Moving controllers between the kernel's driver and `vfio-pci`: everything is checked first, then the plan is what is
//! written, and a step that fails gives the controller back.

use std::collections::BTreeSet;
use std::fmt;
use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;

use crate::attribute;
use crate::function::Function;
use crate::host::Host;
use crate::process::OpenFiles;
use crate::usage::{Use, Users};
use crate::{KERNEL_DRIVER, PciAddress, PciError, VFIO_DRIVER};

/// What was allowed beside naming controllers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindOptions {
    /// Serial numbers that were typed: these controllers may be taken from whoever uses them.
    pub confirmed_serials: BTreeSet<String>,
    /// Work without an IOMMU is accepted.
    pub no_iommu: bool,
    /// Disks that are Vega volumes are free to be taken, with what their users have put on them: a node takes back what it
    /// gave to the kernel when it ended, and looks whose volume it is before it touches it.
    pub own_volumes: bool,
    /// A function that no driver has may be taken although nobody can say what its disks hold: whoever takes it knows the device
    /// that it must be, and looks before it writes.
    pub undriven: bool,
}

/// One attribute that is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Write {
    /// The file.
    pub attribute: PathBuf,
    /// What is written to it.
    pub value: String,
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "echo {} > {}",
            if self.value.trim().is_empty() { "''" } else { self.value.trim() },
            self.attribute.display()
        )
    }
}

/// What is done to one controller.
#[derive(Debug)]
struct Move {
    address: PciAddress,
    to: &'static str,
    from: Option<String>,
    /// The disks, claimed so that nobody begins to use one before the kernel's driver has let go.
    claims: Vec<File>,
    /// Leaves the function to any driver again once it is where it belongs.
    frees_override: bool,
}

/// Moves that have been checked and wait to be made. While it lives, the disks are claimed.
#[derive(Debug)]
pub struct Plan {
    host: Host,
    moves: Vec<Move>,
    already: Vec<PciAddress>,
    warnings: Vec<Warning>,
}

/// What an operator should know of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "warning", rename_all = "kebab-case")]
pub enum Warning {
    /// Without an IOMMU.
    NoIommu {
        /// The controller.
        address: PciAddress,
    },
    /// A use was overridden by the serial number.
    Taken {
        /// The controller.
        address: PciAddress,
        /// From whom.
        from: Use,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoIommu { address } => {
                write!(
                    f,
                    "{address} works without an IOMMU: an error in its use can overwrite any memory of this machine"
                )
            }
            Self::Taken { address, from } => write!(f, "{address} is taken although {from}"),
        }
    }
}

impl Host {
    /// Checks whether the named controllers may be given to user space. Nothing is changed yet.
    pub fn plan_bind(&self, addresses: &[PciAddress], options: &BindOptions) -> Result<Plan, PciError> {
        let named: BTreeSet<PciAddress> = addresses.iter().copied().collect();
        let functions = named.iter().map(|address| self.function(*address)).collect::<Result<Vec<_>, _>>()?;
        check_serials(&functions, options)?;
        let users = Users::look(self);
        let mut plan = Plan::new(self);
        for function in functions {
            if function.driver.as_deref() == Some(VFIO_DRIVER) {
                plan.already.push(function.address);
                continue;
            }
            if !self.pci().join("drivers").join(VFIO_DRIVER).exists() {
                return Err(PciError::NoDriver { driver: VFIO_DRIVER });
            }
            check_driver(&function, options)?;
            plan.warnings.extend(self.check_group(&function, &named, options)?);
            let claims = self.check_uses(&function, &users, options, &mut plan.warnings)?;
            plan.moves.push(Move {
                address: function.address,
                to: VFIO_DRIVER,
                from: function.driver,
                claims,
                frees_override: false,
            });
        }
        Ok(plan)
    }

    /// Checks whether the named controllers may go back to the kernel. Nothing is changed yet.
    pub fn plan_unbind(&self, addresses: &[PciAddress]) -> Result<Plan, PciError> {
        let named: BTreeSet<PciAddress> = addresses.iter().copied().collect();
        let mut plan = Plan::new(self);
        for address in named {
            let function = self.function(address)?;
            match function.driver.as_deref() {
                Some(KERNEL_DRIVER) => {
                    plan.already.push(address);
                    continue;
                }
                Some(VFIO_DRIVER) => self.check_holders(&function)?,
                None => {}
                Some(driver) => return Err(PciError::OtherDriver { address, driver: driver.to_owned() }),
            }
            if !self.pci().join("drivers").join(KERNEL_DRIVER).exists() {
                return Err(PciError::NoDriver { driver: KERNEL_DRIVER });
            }
            let from = function.driver;
            plan.moves.push(Move {
                address,
                to: KERNEL_DRIVER,
                from,
                claims: Vec::new(),
                frees_override: true,
            });
        }
        Ok(plan)
    }

    /// Processes that drive the function from user space.
    pub fn holders(&self, function: &Function) -> Vec<crate::Process> {
        let mut doors: BTreeSet<PathBuf> = BTreeSet::new();
        if let Some(group) = &function.iommu_group {
            let prefix = if group.no_iommu { "noiommu-" } else { "" };
            doors.insert(self.roots.dev.join("vfio").join(format!("{prefix}{}", group.number)));
        }
        // The way past groups: one character device for each function.
        for name in attribute::names(&self.function_folder(function.address).join("vfio-dev")) {
            doors.insert(self.roots.dev.join("vfio/devices").join(name));
        }
        let open = OpenFiles::look(&self.roots, |path| doors.contains(path));
        let holders: BTreeSet<_> = doors.iter().flat_map(|door| open.of(door)).cloned().collect();
        holders.into_iter().collect()
    }

    /// Taking the driver away from under a process would wait until that ends.
    fn check_holders(&self, function: &Function) -> Result<(), PciError> {
        let holders = self.holders(function);
        if holders.is_empty() { Ok(()) } else { Err(PciError::Held { address: function.address, holders }) }
    }

    fn check_group(
        &self,
        function: &Function,
        named: &BTreeSet<PciAddress>,
        options: &BindOptions,
    ) -> Result<Option<Warning>, PciError> {
        let address = function.address;
        match function.iommu_group.as_ref().filter(|group| !group.no_iommu) {
            Some(group) => {
                let others = group.members.iter().filter(|member| !named.contains(&member.address));
                let members: Vec<_> = others.filter(|member| member.is_in_the_way()).cloned().collect();
                if !members.is_empty() {
                    return Err(PciError::GroupShared { address, group: group.number, members });
                }
                Ok(None)
            }
            None if !options.no_iommu => Err(PciError::NoIommu { address }),
            None => {
                let allowed = self.roots.sys.join("module/vfio/parameters/enable_unsafe_noiommu_mode");
                match attribute::text(&allowed).as_deref() {
                    Some("Y" | "1") => Ok(Some(Warning::NoIommu { address })),
                    _ => Err(PciError::NoIommuForbidden),
                }
            }
        }
    }

    fn check_uses(
        &self,
        function: &Function,
        users: &Users,
        options: &BindOptions,
        warnings: &mut Vec<Warning>,
    ) -> Result<Vec<File>, PciError> {
        let mut uses = self.uses_of(function, users);
        if options.own_volumes {
            self.forget_volumes(function, &mut uses);
        }
        // Claimed before it is decided: what is not in use now stays so until the controller has been moved.
        let (claims, refused) = self.claim(function);
        for one in refused {
            if !uses.contains(&one) && !uses.iter().any(|known| known.explains(&one)) {
                uses.push(one);
            }
        }
        let (address, serial) = (function.address, function.serial().unwrap_or_default().to_owned());
        if !uses.is_empty() && !options.confirmed_serials.contains(&serial) {
            return Err(PciError::InUse { address, serial, uses });
        }
        warnings.extend(uses.into_iter().map(|from| Warning::Taken { address, from }));
        Ok(claims)
    }
}

/// A serial number that nobody has is a slip of the hand, which must not count as a confirmation of anything.
fn check_serials(functions: &[Function], options: &BindOptions) -> Result<(), PciError> {
    let known: Vec<String> =
        functions.iter().filter_map(|function| function.serial().map(str::to_owned)).collect();
    // A controller that vfio-pci has already tells no serial number, and needs none.
    let unknown = options.confirmed_serials.iter().find(|serial| !known.contains(serial));
    let all_tell = known.len() == functions.len();
    match unknown.filter(|_| all_tell) {
        Some(given) => Err(PciError::SerialUnknown { given: given.clone(), known }),
        None => Ok(()),
    }
}

fn check_driver(function: &Function, options: &BindOptions) -> Result<(), PciError> {
    let address = function.address;
    match function.driver.as_deref() {
        None if options.undriven => return Ok(()),
        None => return Err(PciError::Undriven { address }),
        Some(KERNEL_DRIVER) => {}
        Some(driver) => return Err(PciError::OtherDriver { address, driver: driver.to_owned() }),
    }
    match &function.controller {
        None => return Err(PciError::NoController { address, state: "it is being started or has failed" }),
        // An empty text would make an empty confirmation a good one.
        Some(controller) if controller.serial.is_empty() => {
            return Err(PciError::NoController { address, state: "it tells no serial number" });
        }
        Some(_) => {}
    }
    match function.virtual_functions {
        0 => Ok(()),
        count => Err(PciError::VirtualFunctions { address, count }),
    }
}

impl Plan {
    fn new(host: &Host) -> Self {
        Self { host: host.clone(), moves: Vec::new(), already: Vec::new(), warnings: Vec::new() }
    }

    /// Controllers that are where they should be.
    pub fn already(&self) -> &[PciAddress] {
        &self.already
    }

    /// Controllers that will be moved.
    pub fn moved(&self) -> Vec<PciAddress> {
        self.moves.iter().map(|one| one.address).collect()
    }

    /// What an operator should know.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The uses that a serial number overrides.
    pub fn overridden(&self) -> impl Iterator<Item = &Use> {
        self.warnings.iter().filter_map(|warning| match warning {
            Warning::Taken { from, .. } => Some(from),
            Warning::NoIommu { .. } => None,
        })
    }

    /// Everything that will be written, in order.
    pub fn writes(&self) -> Vec<Write> {
        self.moves.iter().flat_map(|one| one.writes(&self.host)).collect()
    }

    /// Makes the moves. A controller whose move fails is given back, and the ones after it are left alone.
    pub fn execute(self) -> Result<(), PciError> {
        let Self { host, moves, .. } = self;
        moves.into_iter().try_for_each(|one| one.execute(&host))
    }
}

impl Move {
    fn writes(&self, host: &Host) -> Vec<Write> {
        let folder = host.function_folder(self.address);
        let write = |attribute: PathBuf, value: &str| Write { attribute, value: value.to_owned() };
        let address = self.address.to_string();
        let mut writes = vec![write(folder.join("driver_override"), self.to)];
        if self.from.is_some() {
            writes.push(write(folder.join("driver/unbind"), &address));
        }
        writes.push(write(host.pci().join("drivers_probe"), &address));
        if self.frees_override {
            writes.push(write(folder.join("driver_override"), "\n"));
        }
        writes
    }

    fn execute(mut self, host: &Host) -> Result<(), PciError> {
        let mut result = Ok(());
        for one in self.writes(host) {
            result = host.write(&one);
            if result.is_err() {
                break;
            }
            if one.attribute.ends_with("driver/unbind") {
                // The disks are gone; what is still open is a file of a device that is no more.
                self.claims.clear();
            }
        }
        let found = host.driver_of(self.address);
        if result.is_ok() && found.as_deref() == Some(self.to) {
            return Ok(());
        }
        self.give_back(host, found.as_deref());
        let (address, driver) = (self.address, self.to);
        Err(result.err().unwrap_or(PciError::NotTaken { address, driver, found: host.driver_of(address) }))
    }

    /// As it was: no override, and the driver that had it. What does not work here is seen in the error that led here.
    fn give_back(&self, host: &Host, found: Option<&str>) {
        let folder = host.function_folder(self.address);
        let to = |attribute: PathBuf, value: String| {
            let _ = host.write(&Write { attribute, value });
        };
        let Some(before) = &self.from else {
            return to(folder.join("driver_override"), "\n".to_owned());
        };
        if found != Some(before.as_str()) {
            to(folder.join("driver_override"), before.clone());
            to(host.pci().join("drivers_probe"), self.address.to_string());
        }
        let kept = if before == VFIO_DRIVER { before.clone() } else { "\n".to_owned() };
        to(folder.join("driver_override"), kept);
    }
}

impl Host {
    fn write(&self, one: &Write) -> Result<(), PciError> {
        let Write { attribute, value } = one.clone();
        self.kernel.write(&attribute, &value).map_err(|source| PciError::Write { attribute, value, source })
    }
}
