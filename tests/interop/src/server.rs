//! The target under test: a real process on a port and in a directory of its own.

use std::fs::Permissions;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use initiator::chap::Credentials;
use initiator::{Auth, Login, Session};
use nix::sys::signal::Signal;
use nvme_host::{Association, Identity};
use tempfile::TempDir;

use crate::failure::{Context, Outcome, ensure, fail};
use crate::limits;
use crate::metrics;
use crate::options::Options;
use crate::process::{Daemon, Held, eventually, run_well, tail};

/// The name of the one target that a server offers.
pub const TARGET_NAME: &str = "iqn.2026-11.io.vega:interop";
/// The name of the one subsystem, where it is offered; namespace n is unit n - 1.
pub const SUBSYSTEM_NQN: &str = "nqn.2026-11.io.vega:interop";
/// The initiator name that the harness uses.
pub const INITIATOR_NAME: &str = "iqn.2026-11.io.vega:harness";

const FREE_BYTES: &str = "vega_buffer_pool_available_bytes";
const SESSIONS: &str = "vega_sessions";
const CONTROLLERS: &str = "vega_controllers";
/// The ports that targets under test listen on.
const PORTS: std::ops::Range<u16> = 10_000..30_000;

/// Which target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The product.
    Vega,
    /// A second opinion about the harness: the Linux user-space target.
    Tgt,
}

impl Kind {
    /// Parses the value of `--server`.
    pub fn parse(text: &str) -> Outcome<Self> {
        match text {
            "vega" => Ok(Self::Vega),
            "tgt" => Ok(Self::Tgt),
            _ => fail(format!("no such server: {text:?}")),
        }
    }
}

/// One logical unit.
#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// Size.
    pub size_mib: u64,
    /// Bytes per logical block.
    pub block_bytes: u32,
    /// In memory instead of in a file.
    pub memory: bool,
}

impl Unit {
    /// A file of 512-byte blocks.
    pub const fn file(size_mib: u64) -> Self {
        Self { size_mib, block_bytes: 512, memory: false }
    }

    /// The same in memory.
    pub const fn memory(size_mib: u64) -> Self {
        Self { size_mib, block_bytes: 512, memory: true }
    }

    /// The same with blocks of 4,096 bytes.
    #[must_use]
    pub const fn with_4k_blocks(self) -> Self {
        Self { block_bytes: 4096, ..self }
    }
}

/// What a server offers.
#[derive(Clone, Debug, Default)]
pub struct Offer {
    /// Its logical units, in LUN order.
    pub units: Vec<Unit>,
    /// Initiators must prove this name.
    pub chap: Option<Credentials>,
    /// The target proves this name to them.
    pub mutual: Option<Credentials>,
    /// How long a connection may take nothing, where it is not to be the usual time.
    pub answer_patience_s: Option<u32>,
    /// NVMe/TCP listeners, each with a tag of its own; without one there is no subsystem.
    pub listeners: usize,
}

impl Offer {
    /// Only these units, open to everyone.
    pub fn of(units: &[Unit]) -> Self {
        Self { units: units.to_vec(), ..Self::default() }
    }

    /// The same over NVMe/TCP as well, on so many addresses.
    #[must_use]
    pub fn with_listeners(self, listeners: usize) -> Self {
        Self { listeners, ..self }
    }
}

/// A running target. Dropping it kills the process and removes its data.
#[derive(Debug)]
pub struct Server {
    kind: Kind,
    program: PathBuf,
    directory: TempDir,
    offer: Offer,
    daemon: Daemon,
    control_port: u16,
    /// Buffers that are free when nobody is logged in; unknown of another target.
    idle_free_bytes: Option<f64>,
    /// Where it listens.
    pub portal: SocketAddr,
    /// Where it listens for NVMe/TCP.
    pub listeners: Vec<SocketAddr>,
}

impl Server {
    /// Starts a fresh one and waits until it serves every unit.
    pub fn start(options: &Options, offer: Offer) -> Outcome<Self> {
        let directory = TempDir::with_prefix("interop-")?;
        let portal = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        let control_port = free_port()? % 10_000;
        let program = match options.kind {
            Kind::Vega => std::fs::canonicalize(&options.vega)
                .context(&format!("{} (build it first: cargo build --release)", options.vega.display()))?,
            Kind::Tgt => PathBuf::from("tgtd"),
        };
        let listeners = free_ports(offer.listeners)?;
        match options.kind {
            Kind::Vega => write_vega_config(directory.path(), portal, &listeners, &offer)?,
            Kind::Tgt => ensure(listeners.is_empty(), || "this target has no NVMe/TCP".to_owned())?,
        }
        let daemon = spawn(options.kind, &program, directory.path(), portal, control_port)?;
        let kind = options.kind;
        let mut server = Self {
            kind,
            program,
            directory,
            offer,
            daemon,
            control_port,
            idle_free_bytes: None,
            portal,
            listeners,
        };
        server.await_service()?;
        if kind == Kind::Vega {
            eventually(limits::STATE_PATIENCE, "nobody is logged in yet", || server.is_idle())?;
            server.idle_free_bytes = Some(server.metric(FREE_BYTES)?);
        }
        Ok(server)
    }

    /// The LUN of the `index`-th unit.
    pub fn lun(&self, index: usize) -> u64 {
        // tgt keeps LUN 0 for its own controller.
        index as u64 + u64::from(self.kind == Kind::Tgt)
    }

    /// The address of a unit for libiscsi; `query` begins with `?` or is empty.
    pub fn url(&self, index: usize, query: &str) -> String {
        let user = match &self.offer.chap {
            Some(credentials) => format!("{}%{}@", credentials.name, credentials.secret),
            None => String::new(),
        };
        format!("iscsi://{user}{}/{TARGET_NAME}/{}{query}", self.portal, self.lun(index))
    }

    /// A login with the right credentials.
    pub fn login(&self, qualifier: u16) -> Login {
        let mut login = Login::normal(INITIATOR_NAME, TARGET_NAME).with_qualifier(qualifier);
        if let Some(credentials) = &self.offer.chap {
            login.auth = Auth::Chap { credentials: credentials.clone(), mutual: self.offer.mutual.clone() };
        }
        login
    }

    /// A session with the right credentials.
    pub fn session(&self, qualifier: u16) -> Outcome<Session> {
        self.login(qualifier).session(self.portal).context("logging in")
    }

    /// A controller of the subsystem, enabled, through the first listener.
    pub fn association(&self, host: u16) -> Outcome<Association> {
        self.association_with(0, host, Default::default(), 0)
    }

    /// The same through another listener, with digests, with a keep alive timeout.
    pub fn association_with(
        &self,
        listener: usize,
        host: u16,
        digests: nvme_host::Digests,
        keep_alive_ms: u32,
    ) -> Outcome<Association> {
        let (address, host) = (self.listeners[listener], Identity::numbered(host));
        let association = Association::begin(address, SUBSYSTEM_NQN, &host, digests, keep_alive_ms);
        association.context("connecting over NVMe/TCP")
    }

    /// Fails if the process has ended, and shows what it said last.
    pub fn ensure_alive(&mut self) -> Outcome {
        self.daemon.ensure_alive().map_err(|failure| failure.within(&self.last_words()))
    }

    /// Descriptors and memory now.
    pub fn held(&self) -> Outcome<Held> {
        self.daemon.held()
    }

    /// Fails unless descriptors and memory come back to `held`.
    pub fn ensure_returned(&self, held: Held) -> Outcome {
        held.ensure_returned(&self.daemon)
    }

    /// Fails unless, with nobody logged in, every buffer comes home and every session and controller is forgotten.
    pub fn ensure_buffers_home(&self) -> Outcome {
        let Some(at_first) = self.idle_free_bytes else { return Ok(()) };
        let mut now = 0.0;
        let home = eventually(limits::STATE_PATIENCE, "every buffer is home", || {
            // Who is gone is asked first: buffers are read when nobody is left that could hold some.
            let is_idle = self.is_idle()?;
            now = self.metric(FREE_BYTES)?;
            Ok(is_idle && now >= at_first)
        });
        home.map_err(|failure| failure.within(&format!("{at_first} bytes were free, now {now}")))
    }

    /// Fails unless most of the buffers come into use within some rounds of `progress`; true of another target, which does not tell.
    pub fn ensure_buffers_short(&self, mut progress: impl FnMut() -> Outcome) -> Outcome {
        let mut share = 1.0;
        for _ in 0..limits::SHORTAGE_ROUNDS {
            progress()?;
            if self.kind != Kind::Vega {
                return Ok(());
            }
            share = self.metric(FREE_BYTES)? / self.metric("vega_buffer_pool_bytes")?;
            if share < 0.5 {
                return Ok(());
            }
        }
        let sessions = self.metric(SESSIONS)?;
        let controllers = self.controllers()?;
        fail(format!(
            "buffers are not short: {share} of them are free, with {sessions} sessions and {controllers} controllers"
        ))
    }

    fn is_idle(&self) -> Outcome<bool> {
        Ok(self.metric(SESSIONS)? == 0.0 && self.controllers()? == 0.0)
    }

    /// Controllers of NVMe/TCP, of which there are none to be told of without a subsystem.
    fn controllers(&self) -> Outcome<f64> {
        if self.listeners.is_empty() { Ok(0.0) } else { self.metric(CONTROLLERS) }
    }

    /// A metric of the product, summed over its labels.
    pub fn metric(&self, name: &str) -> Outcome<f64> {
        metrics::read(&self.directory.path().join("data/vega.sock"), name)
    }

    /// kill -9.
    pub fn kill(&mut self) -> Outcome {
        self.daemon.kill()
    }

    /// Asks for a clean end and waits for it.
    pub fn stop(&mut self) -> Outcome {
        if self.kind == Kind::Tgt {
            // It ignores SIGTERM while sessions are open.
            return self.kill();
        }
        self.daemon.signal(Signal::SIGTERM)?;
        let status = self.daemon.wait(limits::STATE_PATIENCE)?;
        ensure(status.success(), || format!("a clean stop ended with {status}: {}", self.last_words()))
    }

    /// Starts again on the same data, and waits until every unit is served.
    pub fn start_again(&mut self) -> Outcome {
        self.daemon = spawn(self.kind, &self.program, self.directory.path(), self.portal, self.control_port)?;
        self.await_service()
    }

    fn await_service(&mut self) -> Outcome {
        self.wait_until_listening()?;
        if self.kind == Kind::Tgt {
            self.provision_tgt().context("provisioning")?;
        }
        self.wait_until_serving()
    }

    /// What the process wrote to its log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_path(self.directory.path())).unwrap_or_default()
    }

    /// What the process wrote to its log last.
    pub fn last_words(&self) -> String {
        let log = self.log();
        // A panic is what matters most, and its backtrace is long.
        let panic =
            log.rfind("panicked at").map(|at| log[at..].lines().take(3).collect::<Vec<_>>().join(" | "));
        match panic {
            Some(panic) => format!("the target {panic}"),
            None => format!("log of the target:\n        {}", tail(&log)),
        }
    }

    fn wait_until_listening(&mut self) -> Outcome {
        let portal = self.portal;
        let daemon = &mut self.daemon;
        eventually(limits::STATE_PATIENCE, "the portal listens", || {
            daemon.ensure_alive()?;
            Ok(TcpStream::connect(portal).is_ok())
        })
        .map_err(|failure| failure.within(&self.last_words()))
    }

    fn wait_until_serving(&self) -> Outcome {
        eventually(limits::STATE_PATIENCE, "every unit is ready", || {
            let Ok(mut session) = self.session(0x7000) else {
                return Ok(false);
            };
            let ready = (0..self.offer.units.len()).all(|index| session.settle(self.lun(index)).is_ok());
            Ok(ready && session.logout().is_ok())
        })
        .map_err(|failure| failure.within(&self.last_words()))
    }

    fn provision_tgt(&self) -> Outcome {
        let control_port = self.control_port.to_string();
        let tgtadm = |line: &str| {
            let mut command = Command::new("tgtadm");
            command.env("TGT_IPC_SOCKET", self.directory.path().join("ipc"));
            command.args(["-C", &control_port, "--lld", "iscsi"]).args(line.split_whitespace());
            run_well(&mut command, limits::COMMAND_PATIENCE)
        };
        tgtadm(&format!("--op new --mode target --tid 1 -T {TARGET_NAME}"))?;
        for (index, unit) in self.offer.units.iter().enumerate() {
            let image = self.directory.path().join(format!("unit-{index}.img"));
            let file = std::fs::File::options().create(true).append(true).open(&image)?;
            file.set_len(unit.size_mib << 20)?;
            let lun = self.lun(index);
            tgtadm(&format!(
                "--op new --mode logicalunit --tid 1 --lun {lun} -b {} --blocksize {}",
                image.display(),
                unit.block_bytes
            ))?;
            tgtadm(&format!(
                "--op update --mode logicalunit --tid 1 --lun {lun} --params thin_provisioning=1"
            ))?;
        }
        if let Some(credentials) = &self.offer.chap {
            let (name, secret) = (&credentials.name, &credentials.secret);
            tgtadm(&format!("--op new --mode account --user {name} --password {secret}"))?;
            tgtadm(&format!("--op bind --mode account --tid 1 --user {name}"))?;
        }
        for digest in ["HeaderDigest", "DataDigest"] {
            tgtadm(&format!("--op update --mode target --tid 1 --name {digest} --value None,CRC32C"))?;
        }
        tgtadm("--op bind --mode target --tid 1 -I ALL")?;
        Ok(())
    }
}

fn log_path(directory: &Path) -> PathBuf {
    directory.join("target.log")
}

fn spawn(
    kind: Kind,
    program: &Path,
    directory: &Path,
    portal: SocketAddr,
    control_port: u16,
) -> Outcome<Daemon> {
    let mut command = Command::new(program);
    command.current_dir(directory);
    match kind {
        Kind::Vega => {
            command.arg("node").arg("--config").arg(directory.join("vega.toml"));
        }
        Kind::Tgt => {
            command.env("TGT_IPC_SOCKET", directory.join("ipc")).arg("-f");
            command.args(["-C", &control_port.to_string()]);
            command.arg("--iscsi").arg(format!("portal={portal}"));
        }
    }
    Daemon::start(&mut command, &log_path(directory))
}

/// The part of the configuration that is about NVMe/TCP.
fn nvmf_config(listeners: &[SocketAddr], offer: &Offer) -> String {
    if listeners.is_empty() {
        return "\n[nvmf]\nlistener = []\n".to_owned();
    }
    let mut text = format!("\n[nvmf.timeouts]\nconnect_s = {}\n", limits::LOGIN_TIMEOUT_S);
    for (tag, listener) in (1..).zip(listeners) {
        text += &format!("\n[[nvmf.listener]]\nlisten = \"{listener}\"\ntag = {tag}\n");
    }
    text += &format!("\n[[subsystem]]\nnqn = \"{SUBSYSTEM_NQN}\"\n[subsystem.namespaces]\n");
    for index in 0..offer.units.len() {
        text += &format!("\"{}\" = \"unit-{index}\"\n", index + 1);
    }
    text
}

/// The configuration that makes `vega node` offer `offer` from its first start on.
fn write_vega_config(
    directory: &Path,
    portal: SocketAddr,
    listeners: &[SocketAddr],
    offer: &Offer,
) -> Outcome {
    let data = directory.join("data");
    std::fs::create_dir_all(&data)?;
    let mut text = format!("[node]\ndata_dir = {data:?}\n\n[[iscsi.portal]]\nlisten = \"{portal}\"\n");
    text += &format!("\n[iscsi.timeouts]\nlogin_s = {}\n", limits::LOGIN_TIMEOUT_S);
    if let Some(patience_s) = offer.answer_patience_s {
        text += &format!("nop_answer_s = {patience_s}\n");
    }
    text += "\n[api]\nlisten = \"\"\n";
    for (index, unit) in offer.units.iter().enumerate() {
        let backing = if unit.memory { "memory" } else { "file" };
        text += &format!("\n[[volume]]\nname = \"unit-{index}\"\nsize = \"{}MiB\"\n", unit.size_mib);
        text += &format!("block_size = {}\nbacking = \"{backing}\"\n", unit.block_bytes);
    }
    let method = match (&offer.chap, &offer.mutual) {
        (None, _) => "none",
        (Some(_), None) => "chap",
        (Some(_), Some(_)) => "mutual",
    };
    text += &format!("\n[[target]]\nname = \"{TARGET_NAME}\"\nauth_method = \"{method}\"\n");
    text += "[target.luns]\n";
    for index in 0..offer.units.len() {
        text += &format!("\"{index}\" = \"unit-{index}\"\n");
    }
    for (role, credentials) in [("initiator", &offer.chap), ("target", &offer.mutual)] {
        let Some(credentials) = credentials else { continue };
        let secret_file = directory.join(format!("{role}.secret"));
        std::fs::write(&secret_file, &credentials.secret)?;
        std::fs::set_permissions(&secret_file, Permissions::from_mode(0o600))?;
        text += &format!("\n[[target.user]]\nname = \"{}\"\nrole = \"{role}\"\n", credentials.name);
        text += &format!("secret_file = {secret_file:?}\n");
    }
    text += &nvmf_config(listeners, offer);
    Ok(std::fs::write(directory.join("vega.toml"), text)?)
}

/// A port that nobody listens on at this moment. Below those that the system gives to outgoing connections: such a one would be
/// gone when the target is started again, and who connects to it while nobody listens may connect to itself.
pub fn free_port() -> Outcome<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let first = std::process::id().wrapping_mul(61);
    for _ in 0..PORTS.len() {
        let at = first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS.len() as u32;
        let port = PORTS.start + at as u16;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    fail("no port is free")
}

/// Different addresses that nobody listens on at this moment.
fn free_ports(count: usize) -> Outcome<Vec<SocketAddr>> {
    (0..count).map(|_| Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?)))).collect()
}
