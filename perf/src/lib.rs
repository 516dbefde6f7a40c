//! Measuring tools that have to be fast themselves.
//!
//! It is: the raw exchange that says what two cores and this kernel can do at all ([`exchange`], binary
//! `pingpong`), the emptiest possible iSCSI target, which says what a client can do at all (binary
//! `canned`), and the cases whose instructions are counted (binary `icount`). It is not: part of the product
//! (nothing depends on it), nor the harness (`run.py` starts these programs, pins them and compares).
//!
//! Reading order: [`spin`], [`exchange`], [`canned`], [`program`], then the binaries.
#![forbid(unsafe_code)]

pub mod canned;
pub mod exchange;
pub mod initiator;
pub mod load;
pub mod outbox;
pub mod program;
pub mod spin;
