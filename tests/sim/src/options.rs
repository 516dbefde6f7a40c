//! What a seed decides: the shape of the world, what goes wrong in it, and what its hosts do.

use iscsi_proto::params::Offers;
use reactor::sim::{DiskFaults, NetFaults, SimRandom};

use crate::limits::{SECTOR_BYTES, VOLUME_BYTES};

/// Chances per mille, of each step of a host, for what it does beside reading and writing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Abuse {
    /// Aborts a task of its own.
    pub abort_permille: u64,
    /// Resets a unit, or aborts or clears a task set.
    pub reset_permille: u64,
    /// Drops a connection.
    pub drop_permille: u64,
    /// Logs in again while its session lives and its tasks run.
    pub reinstate_permille: u64,
    /// Of Data-Out bursts: held back for a while, perhaps until long after the task is gone.
    pub hold_permille: u64,
    /// Sends what it held back for tasks that are gone, instead of forgetting it.
    pub stale_data: bool,
    /// Logs out and in again.
    pub logout_permille: u64,
}

/// What the back end of the volumes is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backing {
    /// Memory: ends with the process.
    Memory,
    /// A file on a simulated disk, past the page cache or through it.
    File {
        /// `O_DIRECT`.
        direct: bool,
    },
}

/// How the target ends, to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The process is killed.
    Kill,
    /// The machine loses power.
    PowerLoss,
    /// It is told to stop, stops, and then the machine loses power.
    Drain,
}

/// One world.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where everything comes from.
    pub seed: u64,
    /// Cores of the node; with two, connections move from the first to the second.
    pub cores: usize,
    /// Initiators.
    pub hosts: usize,
    /// Logical units.
    pub luns: u8,
    /// Logical block in bytes.
    pub block_bytes: u32,
    /// First block that anybody uses, and how many there are.
    pub hot: (u64, u64),
    /// Blocks of one operation at most.
    pub length_blocks_max: u64,
    /// Operations of one host.
    pub ops: u32,
    /// Commands that a host has in flight at most.
    pub depth: usize,
    /// The command window.
    pub queue_depth: u32,
    /// Connections of one session.
    pub connections: usize,
    /// Our target's side of the negotiation.
    pub offers: Offers,
    /// Header and data digests that hosts ask for.
    pub digests: (bool, bool),
    /// Hosts ask for InitialR2T=Yes, ImmediateData=Yes.
    pub initial_r2t: bool,
    /// See `initial_r2t`.
    pub immediate_data: bool,
    /// What hosts offer: MaxRecvDataSegmentLength, MaxBurstLength, FirstBurstLength.
    pub lengths: (u32, u32, u32),
    /// The back end.
    pub backing: Backing,
    /// Errors of the network.
    pub net: NetFaults,
    /// Errors of the disks.
    pub disk: DiskFaults,
    /// What hosts do wrong.
    pub abuse: Abuse,
    /// Endings of the target, one after the other.
    pub endings: Vec<Ending>,
    /// The longest step of the clock in a turn, in nanoseconds.
    pub turn_ns_max: u64,
}

/// A source of decisions.
struct Dice(SimRandom);

impl Dice {
    fn chance(&mut self, percent: u64) -> bool {
        self.0.below(100) < percent
    }

    fn range(&mut self, from: u64, to: u64) -> u64 {
        from + self.0.below(to - from + 1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.0.below(from.len() as u64) as usize]
    }
}

impl Options {
    /// The world of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut dice = Dice(SimRandom::new(seed ^ 0x5eed_5eed));
        let block_bytes = dice.pick(&[512, 4096]);
        let backing = match dice.range(0, 5) {
            0 => Backing::Memory,
            1 => Backing::File { direct: false },
            _ => Backing::File { direct: true },
        };
        let hot_blocks = 4 << dice.range(0, 4);
        let first = dice.range(0, VOLUME_BYTES / u64::from(block_bytes) - hot_blocks);
        let faulty_disk = dice.chance(30);
        let endings = match backing {
            Backing::Memory => Vec::new(),
            Backing::File { .. } => draw_endings(&mut dice),
        };
        let burst = 512 << dice.range(0, 8);
        Self {
            seed,
            cores: if dice.chance(30) { 2 } else { 1 },
            hosts: dice.range(1, 3) as usize,
            luns: dice.range(1, 2) as u8,
            block_bytes,
            hot: (first, hot_blocks),
            length_blocks_max: dice.range(1, 16.min(hot_blocks)),
            ops: dice.range(60, 250) as u32,
            depth: dice.range(1, 24) as usize,
            queue_depth: dice.pick(&[1, 4, 16, 64]),
            connections: dice.pick(&[1, 1, 2, 3]),
            offers: draw_offers(&mut dice, burst),
            digests: (dice.chance(40), dice.chance(40)),
            initial_r2t: dice.chance(40),
            immediate_data: dice.chance(70),
            lengths: (512 << dice.range(0, 8), burst, burst.min(512 << dice.range(0, 8))),
            backing,
            net: draw_net(&mut dice),
            disk: draw_disk(&mut dice, faulty_disk),
            abuse: draw_abuse(&mut dice),
            endings,
            turn_ns_max: dice.pick(&[100, 3_000, 30_000]),
        }
    }

    /// Sectors of one block.
    pub fn block_sectors(&self) -> u64 {
        u64::from(self.block_bytes / SECTOR_BYTES)
    }

    /// True when the machine may lose power.
    pub fn may_lose_power(&self) -> bool {
        self.endings.iter().any(|ending| *ending != Ending::Kill)
    }

    /// True when a block may be found half written.
    pub fn may_tear(&self) -> bool {
        self.may_lose_power() || self.disk.write_error_permille > 0
    }

    /// True when disks give errors.
    pub fn disk_fails(&self) -> bool {
        let disk = &self.disk;
        disk.read_error_permille + disk.write_error_permille + disk.sync_error_permille > 0
    }
}

fn draw_endings(dice: &mut Dice) -> Vec<Ending> {
    let count = dice.pick(&[0, 0, 1, 2, 3]);
    (0..count)
        .map(|_| dice.pick(&[Ending::Kill, Ending::PowerLoss, Ending::PowerLoss, Ending::Drain]))
        .collect()
}

fn draw_offers(dice: &mut Dice, burst: u32) -> Offers {
    Offers {
        max_recv_data_segment_length: 512 << dice.range(0, 8),
        max_burst_length: burst.max(512 << dice.range(0, 8)),
        first_burst_length: 512 << dice.range(0, 8),
        initial_r2t: dice.chance(20),
        immediate_data: dice.chance(80),
        max_connections: 8,
        max_outstanding_r2t: dice.pick(&[1, 2, 4]),
        ..Offers::default()
    }
}

fn draw_net(dice: &mut Dice) -> NetFaults {
    match dice.range(0, 3) {
        0 => NetFaults { window_bytes: 1 << 20, ..NetFaults::none() },
        1 => NetFaults { cut_permille: 700, window_bytes: 4096, ..NetFaults::default() },
        2 => NetFaults { stall_permille: 100, stall_us_max: 5_000, ..NetFaults::default() },
        _ => NetFaults { reset_permille: dice.pick(&[0, 0, 1]), ..NetFaults::default() },
    }
}

fn draw_disk(dice: &mut Dice, faulty: bool) -> DiskFaults {
    let mut disk = DiskFaults {
        latency_us: dice.pick(&[(0, 0), (0, 200), (0, 5_000), (50, 60_000)]),
        no_holes: dice.chance(20),
        queue_depth: dice.pick(&[2, 16, 128]),
        ..DiskFaults::default()
    };
    if faulty {
        disk.read_error_permille = dice.pick(&[0, 20]) as u32;
        disk.write_error_permille = dice.pick(&[0, 20]) as u32;
        disk.sync_error_permille = dice.pick(&[0, 0, 50]) as u32;
    }
    disk
}

fn draw_abuse(dice: &mut Dice) -> Abuse {
    let mut of = |percent: u64, permille: u64| if dice.chance(percent) { permille } else { 0 };
    Abuse {
        abort_permille: of(50, 20),
        reset_permille: of(40, 6),
        drop_permille: of(40, 4),
        reinstate_permille: of(40, 5),
        hold_permille: of(50, 200),
        stale_data: of(70, 1) > 0,
        logout_permille: of(30, 4),
    }
}
