//! Operations that take I/O, and what is remembered of each between its steps.

/// What the logical unit wants to know again when the I/O of a command is done.
#[derive(Debug)]
pub struct Pending(pub(crate) Plan);

#[derive(Debug)]
pub(crate) enum Plan {
    /// One read whose payload is the answer.
    Read,
}
