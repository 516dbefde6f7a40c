//! A session against hand-made PDUs: one file per subject, a bench that plays driver, and initiator models.

mod bench;
mod commands;
mod control;
mod data_out;
mod hostile;
mod management;
mod memory;
mod model;
mod multi;
mod responses;
mod segmentation;
mod text;
mod timers;
