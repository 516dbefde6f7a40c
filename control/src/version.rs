//! Which program this is.

/// Version of the crate.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from, or `unknown` outside of a work tree.
pub const GIT_COMMIT: &str = env!("VEGA_GIT_COMMIT");

/// Both, as `vega --version` prints them.
pub const VERSION_AND_COMMIT: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("VEGA_GIT_COMMIT"), ")");
