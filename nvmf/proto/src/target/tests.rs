//! The controller's end against PDUs made by hand.

mod bench;
mod commands;
mod memory;
mod segmentation;
mod violations;
