//! An I/O engine for fio that reaches NVMe namespaces from user space, without the kernel's initiator and without its driver.
//!
//! It is: the half of the engine behind a C interface of eight functions ([`ffi`]). The other half, `shim/vega_fio.c`, is
//! compiled against fio's own headers and knows its structures; `build.sh` makes both into `libvega_fio.so`. File names are
//! written as SPDK's plugin understands them: `trtype=tcp adrfam=IPv4 traddr=127.0.0.1 trsvcid=4420 subnqn=… ns=1`,
//! `trtype=PCIe traddr=0000.01.00.0 ns=1`; and `trtype=emulated size=1GiB` is a controller in fio's own memory.
//! It is not: part of the product, nor free of a copy: payload goes through a buffer of the engine's own.
//!
//! Reading order: [`open`], [`shared`] (controllers that several jobs have), [`network`] (sockets that are tried again and
//! again, in fio's own thread), [`engine`], [`ffi`].

pub mod engine;
pub mod ffi;
pub mod network;
pub mod open;
pub mod shared;
