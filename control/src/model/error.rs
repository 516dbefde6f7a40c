//! What is wrong with a value that a person or a program gave us.

/// A refused value. Every message names the input, the reason and the remedy; no secret appears in one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Not a DNS label.
    #[error(
        "volume name {input:?}: {reason}; use 1 to 63 lower-case letters, digits and '-', beginning and ending \
         with a letter or digit, for example \"data-1\""
    )]
    VolumeName {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a DNS label.
    #[error(
        "device name {input:?}: {reason}; use the name of a [[device]] of the configuration: 1 to 63 lower-case letters, \
         digits and '-', for example \"fast-1\""
    )]
    DeviceName {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// No namespace has that identifier.
    #[error("namespace {nsid} is out of range; use 1 to {max}")]
    DeviceNsid {
        /// What was given.
        nsid: u32,
        /// Largest identifier.
        max: u32,
    },
    /// Not an iSCSI name.
    #[error(
        "iSCSI name {input:?}: {reason}; use iqn.YYYY-MM.reversed.domain[:name], for example \
         \"iqn.2026-11.io.vega:data-1\", or eui. with 16, or naa. with 16 or 32 hexadecimal digits"
    )]
    IscsiName {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not an entry of an allow list.
    #[error(
        "initiator {input:?}: {reason}; give an iSCSI name, or the beginning of one followed by '*', for example \
         \"iqn.1994-05.com.redhat:*\""
    )]
    InitiatorPattern {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a user name for CHAP.
    #[error(
        "CHAP user name {input:?}: {reason}; use 1 to 255 printable ASCII characters without blanks, '/' or ','"
    )]
    ChapUserName {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A secret of a length that CHAP must not use.
    #[error(
        "the secret has {length} bytes; CHAP needs {min} to {max} (RFC 7143, section 9.2.1): generate one with \
         \"openssl rand -hex 16\""
    )]
    SecretLength {
        /// How many bytes were given.
        length: usize,
        /// Fewest bytes.
        min: usize,
        /// Most bytes.
        max: usize,
    },
    /// A secret with bytes that nobody can type into an initiator.
    #[error("the secret is not text, or holds a control character; use printable characters only")]
    SecretNotText,
    /// Neither 512 nor 4096.
    #[error("block size {block_size} is not supported; use 512 or 4096")]
    BlockSize {
        /// What was given.
        block_size: u32,
    },
    /// A size that is not a whole number of blocks, or out of range.
    #[error(
        "size {size_bytes} bytes: {reason}; use a multiple of {block_size} from {min_bytes} to {max_bytes} bytes"
    )]
    VolumeSize {
        /// What was given.
        size_bytes: u64,
        /// What is wrong with it.
        reason: &'static str,
        /// The block size that it must be a multiple of.
        block_size: u32,
        /// Smallest size.
        min_bytes: u64,
        /// Largest size.
        max_bytes: u64,
    },
    /// A size in words that cannot be read.
    #[error(
        "size {input:?}: {reason}; write bytes or a number with a unit, for example 10GiB, 512MiB or 10G"
    )]
    SizeText {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A device path that is not absolute.
    #[error(
        "device path {path:?} is not absolute; give a path that stays the same after a restart, such as /dev/disk/by-id/…"
    )]
    DevicePath {
        /// What was given.
        path: std::path::PathBuf,
    },
    /// A LUN outside of what a target serves.
    #[error("LUN {lun} is out of range; use 0 to {max}")]
    Lun {
        /// What was given.
        lun: u64,
        /// Largest LUN.
        max: u16,
    },
    /// Portal group tag 0 is reserved.
    #[error("portal group tag 0 is reserved; use 1 to 65535")]
    PortalGroupTag,
    /// An alias that does not fit into login text.
    #[error("alias of {length} bytes: use at most {max} bytes of UTF-8 without control characters")]
    Alias {
        /// How long it is.
        length: usize,
        /// Most bytes.
        max: usize,
    },
    /// More entries than one object may have.
    #[error("{of}: {count} {what} are too many; the limit is {max}")]
    TooMany {
        /// The object: its kind and name.
        of: String,
        /// Entries of which kind.
        what: &'static str,
        /// How many.
        count: usize,
        /// The limit.
        max: usize,
    },
    /// Authentication is asked for, but nobody could pass it.
    #[error(
        "target {target} asks for CHAP, but has no user; add one with \"vega target user add {target} NAME\" or choose \
         the method \"none\""
    )]
    NoChapUser {
        /// The target.
        target: String,
    },
    /// Mutual authentication without the target's own credentials.
    #[error(
        "target {target} asks for mutual CHAP, but has no credentials of its own; add them with \"vega target user add \
         {target} NAME --role target\""
    )]
    NoTargetCredentials {
        /// The target.
        target: String,
    },
    /// Two sets of the target's own credentials.
    #[error("target {target} already proves itself as {existing:?}; remove that user first")]
    SecondTargetCredentials {
        /// The target.
        target: String,
        /// The user that is there.
        existing: String,
    },
    /// The same secret in both directions.
    #[error(
        "target {target}: user {user:?} has the same secret as the other direction; each direction needs its own \
         (RFC 7143, section 9.2.1)"
    )]
    SameSecretBothWays {
        /// The target.
        target: String,
        /// The user.
        user: String,
    },
    /// Not an NVMe Qualified Name.
    #[error(
        "NQN {input:?}: {reason}; use nqn.YYYY-MM.reversed.domain:name, for example \"nqn.2026-11.io.vega:data-1\", or \
         nqn.2014-08.org.nvmexpress:uuid: and a UUID"
    )]
    Nqn {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not an entry of the allow list of a subsystem.
    #[error(
        "host {input:?}: {reason}; give a host NQN (on Linux: cat /etc/nvme/hostnqn), or the beginning of one followed \
         by '*', for example \"nqn.2014-08.org.nvmexpress:uuid:*\""
    )]
    HostPattern {
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Not a serial or model number.
    #[error(
        "{what} {input:?}: {reason}; use 1 to {max_bytes} printable ASCII characters that do not begin or end with a \
         blank"
    )]
    IdentifyText {
        /// Serial number or model number.
        what: &'static str,
        /// What was given.
        input: String,
        /// What is wrong with it.
        reason: &'static str,
        /// Most characters.
        max_bytes: usize,
    },
    /// An NSID outside of what a subsystem serves.
    #[error("NSID {nsid} is out of range; use 1 to {max}")]
    Nsid {
        /// What was given.
        nsid: u64,
        /// Largest NSID.
        max: u32,
    },
    /// A port identifier that names no listener.
    #[error("listener tag {tag} is out of range; use 1 to 65535")]
    PortId {
        /// What was given.
        tag: u64,
    },
    /// The name of discovery itself.
    #[error("{nqn} is the name of the discovery subsystem, which is there by itself; choose another name")]
    DiscoveryNqn {
        /// The name.
        nqn: String,
    },
    /// One volume as two namespaces: a host would find the same identifiers twice and use neither.
    #[error(
        "subsystem {nqn}: volume {volume} is namespace {first} and namespace {second}; a volume is one namespace"
    )]
    VolumeTwice {
        /// The subsystem.
        nqn: String,
        /// The volume.
        volume: String,
        /// Its first NSID.
        first: u32,
        /// Its second NSID.
        second: u32,
    },
    /// No NSID is left.
    #[error("subsystem {nqn} has {max} namespaces, which is the limit; use another subsystem")]
    NoFreeNsid {
        /// The subsystem.
        nqn: String,
        /// The limit.
        max: usize,
    },
}
