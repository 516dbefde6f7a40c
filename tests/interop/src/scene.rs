//! A server, a witness on it and what it held at first: what attacks and storms happen to.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::failure::{Context, Outcome};
use crate::options::Options;
use crate::process::Held;
use crate::report::{self, Report};
use crate::server::Server;
use crate::witness::Witness;

/// Completions of the witness that each storm must leave room for.
pub const PROGRESS: u64 = 1000;
/// And each attack.
const PROGRESS_BESIDE_ATTACK: u64 = 50;
/// What many peers that ask for much and take or send nothing may make the target keep, beyond its start: far less than they
/// asked for.
pub const BACKLOG_KIB_MAX: u64 = 256 * 1024;

/// A named attack, which gets the seed.
pub type Attack = (&'static str, fn(&Server, u64) -> Outcome);

/// A server, what it held at first, and a witness on a unit that nothing else happens to.
pub struct Scene {
    pub server: Server,
    pub held: Held,
    pub witness: Witness,
}

impl Scene {
    pub fn of(server: Server, witness: Witness) -> Outcome<Self> {
        // Buffers that are used for the first time are no leak; so the baseline is taken in full motion.
        witness.ensure_progress(PROGRESS)?;
        let held = server.held()?;
        Ok(Self { server, held, witness })
    }

    fn attack(&mut self, attack: fn(&Server, u64) -> Outcome, seed: u64) -> Outcome {
        let outcome = attack(&self.server, seed);
        self.server.ensure_alive()?;
        outcome?;
        self.witness.ensure_progress(PROGRESS_BESIDE_ATTACK)
    }

    fn is_spoiled(&mut self) -> bool {
        self.server.ensure_alive().is_err() || self.witness.has_ended()
    }

    /// Fails unless the witness gets on and, when it has gone, everything is as it was. The server lives on.
    pub fn close(mut self) -> Outcome<Server> {
        self.server.ensure_alive()?;
        self.witness.ensure_progress(PROGRESS).context("at the end")?;
        self.server.ensure_returned(self.held)?;
        self.witness.finish()?;
        self.server.ensure_buffers_home()?;
        Ok(self.server)
    }
}

/// One server for all attacks, so that what they leave behind adds up.
pub fn attack(
    report: &mut Report,
    options: &Options,
    set: fn(&Options) -> Outcome<Scene>,
    attacks: &[Attack],
) {
    let mut scene = match set(options) {
        Ok(scene) => scene,
        Err(failure) => return report.record("start", Err(failure)),
    };
    for (name, attack) in attacks {
        report.check(name, || scene.attack(*attack, options.seed));
        if scene.is_spoiled() {
            // The check has failed; the others still deserve a process and a witness.
            if let Err(failure) = scene.witness.finish() {
                report::say(&format!("    {failure}"));
            }
            scene = match set(options) {
                Ok(fresh) => fresh,
                Err(failure) => return report.record("start_again", Err(failure)),
            };
        }
    }
    report.check("nothing_is_left", || scene.close().map(drop));
}

/// A thousand connections are more than the usual soft limit allows both ends.
pub fn raise_descriptor_limit() -> Outcome {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(())
}
