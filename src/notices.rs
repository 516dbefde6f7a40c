//! What the cores have to say to the log: writing it may wait, which no core may do.

use std::sync::mpsc::{SyncSender, sync_channel};

use iscsi_target::setup::ChapPause;

/// Notices that wait to be written; what comes beyond that is only counted.
const NOTICES_MAX: usize = 256;

/// Starts the thread that writes them. It ends when the last core has ended.
pub fn listen() -> SyncSender<ChapPause> {
    let (sender, receiver) = sync_channel::<ChapPause>(NOTICES_MAX);
    let write = move || {
        for notice in receiver {
            let ChapPause { address, initiator_name, target_name, pause } = notice;
            tracing::warn!(
                %address, initiator_name, target_name, pause_s = pause.as_secs(),
                "{initiator_name} from {address} gave too many wrong CHAP answers for {target_name}: no login from there is \
                 looked at for {} s",
                pause.as_secs(),
            );
        }
    };
    let thread = std::thread::Builder::new().name("vega-notices".to_owned()).spawn(write);
    thread.expect("the process may start a thread");
    sender
}
