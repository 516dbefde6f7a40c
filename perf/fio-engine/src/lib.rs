//! An I/O engine for fio that reaches NVMe/TCP namespaces from user space, without the kernel's initiator.
//!
//! It is: the half of the engine behind a C interface of seven functions ([`ffi`]). The other half, `shim/vega_fio.c`, is
//! compiled against fio's own headers and knows its structures; `build.sh` makes both into `libvega_fio.so`. File names are
//! written as SPDK's plugin understands them: `trtype=tcp adrfam=IPv4 traddr=127.0.0.1 trsvcid=4420 subnqn=… ns=1`.
//! It is not: part of the product, nor free of a copy: payload goes through a buffer of the engine's own.
//!
//! Reading order: [`filename`], [`network`] (sockets that are tried again and again, in fio's own thread), [`engine`], [`ffi`].

pub mod engine;
pub mod ffi;
pub mod filename;
pub mod network;
