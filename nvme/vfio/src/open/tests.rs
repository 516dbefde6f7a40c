use std::fs;
use std::os::unix::fs::symlink;

use super::*;

/// A system with one function, which vfio-pci has, in group 7.
fn system() -> (tempfile::TempDir, System, PciAddress) {
    let root = tempfile::tempdir().expect("a folder");
    let system = System::new(root.path());
    let function = system.path("/sys/bus/pci/devices/0000:00:04.0");
    fs::create_dir_all(&function).expect("a folder");
    fs::create_dir_all(system.path("/dev/vfio")).expect("a folder");
    symlink("../../drivers/vfio-pci", function.join("driver")).expect("a link");
    symlink("../../iommu_groups/7", function.join("iommu_group")).expect("a link");
    (root, system, "0000:00:04.0".parse().expect("an address"))
}

fn refusal(system: &System, address: PciAddress, way: Option<Way>) -> VfioError {
    open(system, address, way).expect_err("nothing here is a device")
}

#[test]
fn a_function_that_is_not_there_or_not_ours_is_refused_first() {
    let (_root, system, address) = system();
    let other = "0000:00:05.0".parse().expect("an address");
    assert_eq!(refusal(&system, other, None), VfioError::NoSuchFunction { address: other });
    let link = system.path("/sys/bus/pci/devices/0000:00:04.0/driver");
    fs::remove_file(&link).expect("it was made");
    assert_eq!(refusal(&system, address, None), VfioError::NotBound { address, driver: None });
    symlink("../../drivers/nvme", &link).expect("a link");
    let driver = Some("nvme".to_owned());
    assert_eq!(refusal(&system, address, None), VfioError::NotBound { address, driver });
}

#[test]
fn what_is_missing_is_named() {
    let (_root, system, address) = system();
    let path = CONTAINER.to_owned();
    assert_eq!(refusal(&system, address, None), VfioError::NoVfio { address, path });
    for way in [Way::Iommufd, Way::NoIommu] {
        // Without its file, the kernel does not offer the one; without the container, it has no VFIO for the other.
        let error = refusal(&system, address, Some(way));
        let wanted = match way {
            Way::Iommufd => VfioError::WayNotOffered { address, way },
            _ => VfioError::NoVfio { address, path: CONTAINER.to_owned() },
        };
        assert_eq!(error, wanted);
    }
    fs::remove_file(system.path("/sys/bus/pci/devices/0000:00:04.0/iommu_group")).expect("it was made");
    assert_eq!(refusal(&system, address, None), VfioError::NoIommu { address });
}

#[test]
fn a_file_that_is_no_vfio_is_an_error_of_its_own() {
    let (_root, system, address) = system();
    fs::write(system.path(CONTAINER), "").expect("room");
    let request = Request::ApiVersion;
    assert_eq!(refusal(&system, address, None), VfioError::Refused { address, request, errno: libc::ENOTTY });
}

#[test]
fn the_open_files_errors_say_what_they_mean() {
    let (_root, system, address) = system();
    let opening = Opening { system: &system, address };
    let path = Path::new("/dev/vfio/7");
    let meaning = |errno| opening.not_opened(path, &io::Error::from_raw_os_error(errno), address);
    let shown = || "/dev/vfio/7".to_owned();
    assert_eq!(meaning(libc::ENOENT), VfioError::NoVfio { address, path: shown() });
    assert_eq!(meaning(libc::ENODEV), VfioError::NoVfio { address, path: shown() });
    for errno in [libc::EPERM, libc::EACCES] {
        assert_eq!(meaning(errno), VfioError::NotPermitted { address, path: shown(), errno });
    }
    assert_eq!(meaning(libc::EBUSY), VfioError::Busy { address, path: shown(), holders: Vec::new() });
    let request = Request::Open;
    assert_eq!(meaning(libc::EMFILE), VfioError::Refused { address, request, errno: libc::EMFILE });
}
