//! Every bound of the control plane, with the relations between them checked by the compiler.

use std::time::Duration;

/// Names of volumes and devices are DNS labels.
pub const DNS_LABEL_BYTES_MAX: usize = 63;
/// RFC 7143, section 4.2.7.2.
pub const ISCSI_NAME_BYTES_MAX: usize = 223;
/// RFC 7143, section 9.2.1: fewer than 96 random bits need another protection below.
pub const SECRET_BYTES_MIN: usize = 12;
/// Fits a text value of login.
pub const SECRET_BYTES_MAX: usize = 255;
/// `CHAP_N` fits a text value of login (RFC 7143, section 6.1).
pub const CHAP_NAME_BYTES_MAX: usize = 255;
/// RFC 7143, section 13.7: `TargetAlias` is a text value.
pub const ALIAS_BYTES_MAX: usize = 255;
/// Smallest volume.
pub const VOLUME_BYTES_MIN: u64 = 1 << 20;
/// Largest volume: a signed 64-bit file offset is the first thing that ends; this is far below it.
pub const VOLUME_BYTES_MAX: u64 = 1 << 55;
/// NVMe devices of a node. Each takes queues and a poller on a core.
pub const DEVICES_MAX: usize = 64;
/// Smallest emulated device.
pub const EMULATED_BYTES_MIN: u64 = 8 << 20;
/// Largest emulated device: it is memory of the node, taken as it is written to.
pub const EMULATED_BYTES_MAX: u64 = 1 << 40;
/// Largest namespace identifier of a device (NVMe Base specification, section 3.2.1.2: FFFFFFFFh stands for all).
pub const DEVICE_NSID_MAX: u32 = 0xFFFF_FFFE;
/// Volumes of a node.
pub const VOLUMES_MAX: usize = 4096;
/// Targets of a node.
pub const TARGETS_MAX: usize = 4096;
/// Largest LUN: peripheral device addressing reaches that far, and every initiator speaks it.
pub const LUN_MAX: u16 = 255;
/// Logical units of one target.
pub const LUNS_PER_TARGET_MAX: usize = 256;
/// CHAP users of one target.
pub const USERS_PER_TARGET_MAX: usize = 256;
/// Entries of one allow list.
pub const ALLOW_PER_TARGET_MAX: usize = 1024;
/// NVMe Base specification, section 4.7: an NQN has at most 223 bytes and a null.
pub const NQN_BYTES_MAX: usize = 223;
/// Identify Controller, `SN`: 20 bytes of ASCII.
pub const SERIAL_NUMBER_BYTES_MAX: usize = 20;
/// Identify Controller, `MN`: 40 bytes of ASCII.
pub const MODEL_NUMBER_BYTES_MAX: usize = 40;
/// Subsystems of a node.
pub const SUBSYSTEMS_MAX: usize = 4096;
/// Largest namespace identifier: one Identify answer lists that many.
pub const NSID_MAX: u32 = 1024;
/// Namespaces of one subsystem.
pub const NAMESPACES_PER_SUBSYSTEM_MAX: usize = 1024;
/// Entries of the allow list of one subsystem.
pub const HOSTS_PER_SUBSYSTEM_MAX: usize = 1024;
/// Listeners of NVMe/TCP: the discovery log has an entry for each of them and each subsystem.
pub const LISTENERS_MAX: usize = 64;

/// Requests that the data plane holds at once; more are refused at once instead of queued.
pub const REQUESTS_IN_FLIGHT_MAX: usize = 64;
/// Requests that wait for one of those places.
pub const REQUESTS_WAITING_MAX: usize = 512;
/// The data plane answers a question within this.
pub const QUERY_DEADLINE: Duration = Duration::from_secs(5);
/// The data plane finishes a change of targets or sessions within this.
pub const CHANGE_DEADLINE: Duration = Duration::from_secs(20);
/// Creating, opening, growing and deleting touch files.
pub const FILE_DEADLINE: Duration = Duration::from_secs(60);

/// Volumes that are opened at once when a node starts.
pub const RESTORES_AT_ONCE: usize = 16;
/// What is not as it should be is tried again this often.
pub const RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Connections to the API at once.
pub const API_CONNECTIONS_MAX: usize = 256;
/// Largest request body.
pub const API_BODY_BYTES_MAX: usize = 1 << 20;
/// Largest answer that a client of ours reads.
pub const ANSWER_BYTES_MAX: usize = 256 << 20;
/// A client gets this long for one request's headers.
pub const API_HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request as a whole; the file deadline must fit in it.
pub const API_REQUEST_DEADLINE: Duration = Duration::from_secs(90);

/// Requests in progress get this long when the node has drained.
pub const API_STOP_GRACE: Duration = Duration::from_secs(3);
/// Threads of the control plane.
pub const CONTROL_THREADS: usize = 2;

/// Largest configuration file and largest catalog that is read.
pub const CONFIG_BYTES_MAX: u64 = 4 << 20;
/// Largest catalog that is read.
pub const CATALOG_BYTES_MAX: u64 = 64 << 20;
/// A scrape is served from the last answer while that is younger than this.
pub const STATS_FRESH: Duration = Duration::from_millis(500);

const _: () = {
    assert!(SECRET_BYTES_MIN <= SECRET_BYTES_MAX);
    assert!(LUNS_PER_TARGET_MAX == LUN_MAX as usize + 1);
    assert!(NAMESPACES_PER_SUBSYSTEM_MAX == NSID_MAX as usize, "NSID 0 names no namespace");
    // 4096 bytes of identifiers of 4 bytes each.
    assert!(NSID_MAX <= 4096 / 4, "an active namespace list holds every NSID");
    assert!(EMULATED_BYTES_MIN >= 2 * VOLUME_BYTES_MIN, "a volume and its label fit on the smallest device");
    assert!(VOLUME_BYTES_MAX < i64::MAX as u64 / 2);
    assert!(VOLUME_BYTES_MIN.is_multiple_of(4096) && VOLUME_BYTES_MAX.is_multiple_of(4096));
    assert!(QUERY_DEADLINE.as_secs() < CHANGE_DEADLINE.as_secs());
    assert!(CHANGE_DEADLINE.as_secs() < FILE_DEADLINE.as_secs());
    // A change may need two steps in the data plane: the file, then the target that maps it.
    assert!(FILE_DEADLINE.as_secs() + CHANGE_DEADLINE.as_secs() < API_REQUEST_DEADLINE.as_secs());
    assert!(RESTORES_AT_ONCE < REQUESTS_IN_FLIGHT_MAX, "a start leaves room for questions");
    assert!(REQUESTS_WAITING_MAX >= API_CONNECTIONS_MAX, "every connection may have one request");
};
