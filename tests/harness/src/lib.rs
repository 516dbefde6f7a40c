//! What the proof harnesses share.
//!
//! It is: how a check fails and is reported, processes that end with the check that started them, reproducible
//! chance, and the ledger that says what a block may hold after its target was killed.
//! It is not: a test, and it knows no protocol.
//!
//! Reading order: `failure`, `report`, `process`, `seed`, `ledger`.

#![forbid(unsafe_code)]

pub mod failure;
pub mod ledger;
pub mod limits;
pub mod process;
pub mod report;
pub mod seed;
