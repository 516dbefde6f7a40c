//! What the specification asks of a controller, driven by hand through registers, doorbells and queues in memory.

mod admin;
mod bring_up;
mod events;
mod faults;
mod features;
mod model;
mod namespaces;
mod nvm;
mod power;
mod queues;
mod rig;
mod shadow;
mod transfer;
