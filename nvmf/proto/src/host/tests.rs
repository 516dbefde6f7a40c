//! The host's end against PDUs made by hand.

mod bench;
mod commands;
mod violations;
