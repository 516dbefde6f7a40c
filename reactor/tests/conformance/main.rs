//! What a `File` and a `Stream` do, as one list each, run against the real driver and against its
//! simulated twin: code that was proven on one meets no surprise on the other.

mod file;
mod stream;
