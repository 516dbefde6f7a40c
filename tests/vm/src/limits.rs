//! The bounds of the guest harness. They end what hangs; none is an expectation about speed.

use std::time::Duration;

/// From one word of the guest to the next: booting, or one case.
pub const SILENCE_PATIENCE: Duration = Duration::from_secs(420);
/// Processor time that a guest may use between two words. Emulation uses both processors, so that on a free machine
/// this ends what spins before the clock on the wall does, and on a busy one the wall ends it.
pub const PROCESSOR_PATIENCE: Duration = Duration::from_secs(400);
/// Processor time until the guest says its first word. Booting takes a tenth of it.
pub const BOOT_PROCESSOR_PATIENCE: Duration = Duration::from_secs(150);
/// How often a guest is started that does not boot.
pub const BOOT_TRIES: u32 = 3;
/// From the last word until the emulator has ended.
pub const POWER_OFF_PATIENCE: Duration = Duration::from_secs(60);
/// Unpacking and compressing while an image is prepared.
pub const PREPARE_PATIENCE: Duration = Duration::from_secs(300);
/// For the emulator's monitor to answer; it may be busy with the guest.
pub const MONITOR_PATIENCE: Duration = Duration::from_secs(120);
/// The most cuts of power that one case may ask for; one that asks again and again does not see that there was one.
pub const CUTS_MAX: u32 = 4;
/// The pause between two looks at a guest that says nothing.
pub const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Memory of a guest: Vega's buffers, its data on a RAM disk, and the initramfs.
pub const MEMORY_MIB: u32 = 2048;
/// Processors of a guest: one for the reactor, one for the initiator.
pub const PROCESSORS: u32 = 2;
/// Seconds that one case may take inside the guest before the guest itself ends it, and says why.
pub const CASE_PATIENCE_S: u64 = 360;

const _: () = {
    // The guest knows more about a case that hangs than the harness does, so it speaks first.
    assert!(CASE_PATIENCE_S < SILENCE_PATIENCE.as_secs());
    assert!(BOOT_PROCESSOR_PATIENCE.as_secs() < PROCESSOR_PATIENCE.as_secs());
    assert!(MONITOR_PATIENCE.as_secs() < SILENCE_PATIENCE.as_secs());
    assert!(POWER_OFF_PATIENCE.as_secs() < SILENCE_PATIENCE.as_secs());
};
