//! Wire types of NVM Express, shared by everything here that speaks it: target, host, driver, emulated controller.
//!
//! Followed: NVM Express Base Specification 2.1 ("Base"), NVM Command Set Specification 1.1 ("NVM") and NVMe over TCP
//! Transport Specification 1.1 ("TCP"). Section numbers in the documentation of items are those of these revisions.
//!
//! It is: layouts and code values, and small accessors for bit fields. It is not: a parser of streams, a keeper of state or a
//! judge; which status answers which mistake is the business of the crates above.
//!
//! Everything on the wire is little-endian and unaligned, so each type can be viewed in place in a receive buffer. Code values
//! are newtypes with constants and not enums: a value this crate does not know still round-trips.
//!
//! Reading order: [`sqe`] and [`cqe`] (what every command and answer looks like), [`opcode`], [`status`], [`nvm`] (fields of
//! the I/O commands), [`admin`], [`queue`], then [`fabrics`] and [`tcp`]. [`identify`], [`log`], [`feature`], [`ae`] and [`discovery`]
//! are what the admin commands carry, [`register`] the properties of a controller, [`reservation`] a part of its own.
#![no_std]
#![forbid(unsafe_code)]

/// Declares a wire structure of exactly so many bytes.
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident[$size:expr] { $($(#[$field_meta:meta])* pub $field:ident: $kind:ty,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $name { $($(#[$field_meta])* pub $field: $kind,)* }
        const _: () = assert!(size_of::<$name>() == $size);
        impl Default for $name {
            /// All bytes zero.
            fn default() -> Self {
                zerocopy::FromZeros::new_zeroed()
            }
        }
    };
}

/// Declares a code value: known ones are constants, unknown ones survive.
macro_rules! open_enum {
    ($(#[$meta:meta])* pub enum $name:ident($kind:ty) { $($(#[$value_meta:meta])* $value:ident = $number:expr,)* }) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable, zerocopy::KnownLayout,
        )]
        #[repr(transparent)]
        pub struct $name(pub $kind);
        impl $name {
            $($(#[$value_meta])* pub const $value: Self = Self($number);)*
        }
    };
}

pub mod admin;
pub mod ae;
pub mod cqe;
pub mod discovery;
pub mod fabrics;
pub mod feature;
pub mod identify;
pub mod log;
pub mod nvm;
pub mod opcode;
pub mod queue;
pub mod register;
pub mod reservation;
pub mod sgl;
pub mod sqe;
pub mod status;
pub mod tcp;

pub use cqe::Cqe;
pub use opcode::{AdminOpcode, NvmOpcode};
pub use sgl::SglDescriptor;
pub use sqe::Sqe;
pub use status::{FabricsStatus, Status};

/// The namespace identifier that stands for all namespaces (Base 3.2.1.2).
pub const NSID_ALL: u32 = 0xffff_ffff;

/// Bytes of the field that carries an NVMe Qualified Name.
pub const NQN_FIELD_BYTES: usize = 256;

/// Bytes of the longest NVMe Qualified Name, without the terminating NUL (Base 4.7).
pub const NQN_BYTES_MAX: usize = 223;

const _: () = assert!(NQN_BYTES_MAX < NQN_FIELD_BYTES);

/// The NQN by which every discovery subsystem can be reached (Base 3.1.3.3).
pub const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
