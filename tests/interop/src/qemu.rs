//! QEMU's own tools over its iSCSI driver, and a real file system carried in and out.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::failure::{Context, Outcome, ensure};
use crate::limits;
use crate::options::Options;
use crate::process::{Daemon, run_well};
use crate::report::Report;
use crate::seed::Seed;
use crate::server::{Offer, Server, Unit};

const IMAGE_MIB: u64 = 96;

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    for (name, unit) in [
        ("file_512", Unit::file(IMAGE_MIB)),
        ("file_4k", Unit::file(IMAGE_MIB).with_4k_blocks()),
        ("memory_512", Unit::memory(IMAGE_MIB)),
    ] {
        report.check(&format!("io_{name}"), || patterns(options, unit));
        report.check(&format!("file_system_{name}"), || file_system(options, unit));
    }
}

/// QEMU's tools, from the directory that the install script prepared, else from the path.
struct Tools {
    programs: Option<PathBuf>,
}

impl Tools {
    fn find() -> Self {
        let given = std::env::var_os("QEMU_TOOLS").map(PathBuf::from);
        let cache = std::env::var_os("VEGA_CACHE").map_or_else(|| PathBuf::from(".cache"), PathBuf::from);
        let programs = given
            .or_else(|| std::path::absolute(cache.join("qemu")).ok())
            .filter(|directory| directory.join("usr/bin/qemu-img").exists());
        Self { programs }
    }

    fn command(&self, name: &str) -> Command {
        match &self.programs {
            Some(root) => {
                let mut command = Command::new(root.join("usr/bin").join(name));
                command.env("QEMU_MODULE_DIR", module_directory(root));
                command
            }
            None => Command::new(name),
        }
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Outcome<String> {
        run_well(self.command(name).args(arguments), limits::COMMAND_PATIENCE)
    }
}

/// Where Debian keeps the block drivers, for whatever machine this is.
fn module_directory(root: &Path) -> PathBuf {
    let libraries = root.join("usr/lib");
    std::fs::read_dir(&libraries)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("qemu"))
        .find(|path| path.exists())
        .unwrap_or(libraries)
}

/// Writes patterns, zeroes and discards pieces, reads all of it back; alignment and overlap on purpose.
fn patterns(options: &Options, unit: Unit) -> Outcome {
    let mut server = Server::start(options, Offer::of(&[unit]))?;
    let tools = Tools::find();
    let url = server.url(0, "");
    let io = |line: &str| -> Outcome {
        let mut arguments = vec!["-f", "raw", "-t", "none"];
        for command in line.split(';') {
            arguments.extend(["-c", command.trim()]);
        }
        arguments.push(&url);
        let output = tools.run("qemu-io", &arguments)?;
        let bad = ["failed", "error", "Error"].iter().any(|word| output.contains(word));
        ensure(!bad, || format!("qemu-io {line:?} said: {output}"))
    };
    io("write -P 0x11 0 8M; write -P 0x22 4k 64k; write -P 0x33 100k 4k; flush")?;
    io("write -z 1M 512k; discard 2M 1M; writev -P 0x44 6M 4k 8k 16k; flush")?;
    io("aio_write -P 0x55 16M 64k; aio_write -P 0x66 17M 64k; aio_write -P 0x77 18M 64k; aio_flush")?;
    io("write -P 0x88 95M 1M; flush")?;
    io("read -P 0x11 0 4k; read -P 0x22 4k 16k; read -P 0x22 52k 16k; read -P 0x11 68k 16k")?;
    io("read -P 0x33 100k 4k; read -P 0 1M 16k; read -P 0 1520k 16k; read -P 0x11 1536k 16k")?;
    io("read -P 0x44 6M 28k; read -P 0x88 95M 16k; read -P 0x88 98288k 16k; read -P 0x11 3M 16k")?;
    if unit.block_bytes == 512 {
        // With blocks of 4 KiB, QEMU's driver trips over its own assertion when a read is this long.
        io("read -P 0 1M 512k; read -P 0x11 1536k 512k; read -P 0x55 16M 64k; read -P 0x11 3M 1M")?;
        io("read -P 0x66 17M 64k; read -P 0x77 18M 64k; read -P 0x88 95M 1M")?;
    }
    server.ensure_alive()?;
    server.stop()?;
    if !unit.memory {
        server.start_again()?;
        io("read -P 0x22 4k 16k; read -P 0 1M 16k; read -P 0x88 95M 16k")?;
    }
    Ok(())
}

/// An ext4 image with files in it, made without mounting anything.
struct Image {
    directory: TempDir,
}

impl Image {
    fn make(seed: u64, files: usize) -> Outcome<Self> {
        let directory = TempDir::with_prefix("interop-image-")?;
        let tree = directory.path().join("tree");
        let mut chance = Seed::new(seed);
        for index in 0..files {
            let folder = tree.join(format!("folder-{}", index % 7));
            std::fs::create_dir_all(&folder)?;
            let length = chance.below(60_000) as usize;
            let bytes: Vec<u8> = (0..length).map(|_| chance.draw() as u8).collect();
            std::fs::write(folder.join(format!("file-{index}")), bytes)?;
        }
        let image = Self { directory };
        let file = std::fs::File::create(image.path())?;
        file.set_len(IMAGE_MIB << 20)?;
        let mut mke2fs = Command::new("mke2fs");
        mke2fs.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&tree).arg(image.path());
        run_well(&mut mke2fs, limits::COMMAND_PATIENCE)?;
        Ok(image)
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("image.raw")
    }

    fn text(&self) -> String {
        self.path().display().to_string()
    }

    /// Fails unless the unit at `url` holds exactly this image, and the file system in it is clean.
    fn ensure_served(&self, tools: &Tools, url: &str) -> Outcome {
        tools.run("qemu-img", &["compare", "-f", "raw", "-F", "raw", &self.text(), url])?;
        let back = self.directory.path().join("back.raw");
        let back_text = back.display().to_string();
        tools.run("qemu-img", &["convert", "-f", "raw", "-O", "raw", url, &back_text])?;
        run_well(Command::new("e2fsck").args(["-f", "-n"]).arg(&back), limits::COMMAND_PATIENCE)?;
        run_well(Command::new("cmp").arg(self.path()).arg(&back), limits::COMMAND_PATIENCE)?;
        Ok(())
    }
}

/// An image goes in, is compared, comes out, and is clean; also after a restart.
fn file_system(options: &Options, unit: Unit) -> Outcome {
    let mut server = Server::start(options, Offer::of(&[unit]))?;
    let tools = Tools::find();
    let url = server.url(0, "");
    let image = Image::make(options.seed, 300)?;
    tools.run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", &image.text(), &url])?;
    image.ensure_served(&tools, &url)?;
    server.stop()?;
    if !unit.memory {
        server.start_again()?;
        image.ensure_served(&tools, &url).context("after a restart")?;
    }
    Ok(())
}

/// Copies a file system in, and kills the target somewhere in the middle. The unit then is a mixture of two
/// images, so nothing can be said about the file system; but copying again must make it whole, and what
/// qemu-io had acknowledged before the kill must be there after it.
pub fn kill_while_copying(options: &Options, rounds: u32) -> Outcome {
    let mut server = Server::start(options, Offer::of(&[Unit::file(IMAGE_MIB)]))?;
    let tools = Tools::find();
    let url = server.url(0, "");
    let mut chance = Seed::new(options.seed);
    for round in 0..rounds {
        let image = Image::make(options.seed + u64::from(round), 200)?;
        let log = image.directory.path().join("convert.log");
        let mut copy = tools.command("qemu-img");
        copy.args(["convert", "-n", "-W", "-f", "raw", "-O", "raw", &image.text(), &url]);
        let copying = Daemon::start(&mut copy, &log)?;
        std::thread::sleep(std::time::Duration::from_millis(chance.below(400)));
        server.kill()?;
        drop(copying);
        server.start_again()?;
        acknowledged_then_killed(&mut server, &tools, &url, round)?;
        tools.run("qemu-img", &["convert", "-n", "-f", "raw", "-O", "raw", &image.text(), &url])?;
        server.kill()?;
        server.start_again()?;
        image.ensure_served(&tools, &url).context(&format!("round {round}"))?;
    }
    server.stop()
}

/// Each qemu-io run that ended with success is a promise.
fn acknowledged_then_killed(server: &mut Server, tools: &Tools, url: &str, round: u32) -> Outcome {
    let pattern = 1 + round % 250;
    let write = format!("write -P {pattern} {round}M 256k");
    let io = |line: &str| tools.run("qemu-io", &["-f", "raw", "-t", "none", "-c", line, url]);
    io(&write)?;
    server.kill()?;
    server.start_again()?;
    let output = io(&format!("read -P {pattern} {round}M 256k"))?;
    ensure(!output.contains("failed"), || format!("after {write:?} and a kill: {output}"))
}
