//! The guest harness: Vega before the initiators of the Linux kernel.
//!
//! It is: one program that boots a Linux guest from unpacked packages, runs Vega and the kernel's own iSCSI initiator
//! or NVMe/TCP host in it, and reports one line per case. Nothing is installed, and no root is needed.
//! It is not: a place for what a peer outside a kernel can prove (`interop`), or a benchmark: the guest is emulated.
//!
//! Reading order: `cases`, `image` (with `packages`, `kernel`, `cpio`), `overlay`, `machine`, `monitor`, `guest`, this
//! file; then `guest/init`, `guest/lib.sh` and a case.

#![forbid(unsafe_code)]

mod cases;
mod cpio;
mod guest;
mod image;
mod kernel;
mod limits;
mod machine;
mod monitor;
mod options;
mod overlay;
mod packages;

use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};

use cases::Case;
use guest::{End, Guest};
use harness::failure::{Context, Failure, Outcome, ensure};
use harness::report::{Report, say};
use image::Image;
use machine::Machine;
use options::{GROUPS, Options, Verb};
use overlay::Contents;

fn main() -> ExitCode {
    let cache = std::env::var_os("VEGA_CACHE").map(PathBuf::from);
    let options = match Options::parse(std::env::args().skip(1), cache) {
        Ok(options) => options,
        Err(failure) => {
            say(&format!("vm: {failure}\n{}", options::USAGE));
            return ExitCode::from(2);
        }
    };
    let outcome = match &options.verb {
        Verb::Prepare => prepare(&options),
        Verb::List => list(),
        Verb::Shell(group) => shell(&options, group.as_deref()),
        Verb::Run(groups) => match run(&options, groups) {
            Ok(report) => return report.finish(),
            Err(failure) => Err(failure),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            say(&format!("vm: {failure}"));
            ExitCode::FAILURE
        }
    }
}

/// This package's own folder: the scripts are read from the tree, so that a change of one needs no build.
fn own(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

fn wanted_kernels(options: &Options) -> Outcome<Vec<String>> {
    let mut kernels = image::kernels(&options.cache)?;
    match options.kernel.as_deref() {
        Some("all") => {}
        Some(version) => {
            ensure(kernels.iter().any(|kernel| kernel == version), || {
                format!("no kernel {version}; there are {}", kernels.join(", "))
            })?;
            kernels = vec![version.to_owned()];
        }
        None => kernels = kernels.split_off(kernels.len() - 1),
    }
    Ok(kernels)
}

fn prepare(options: &Options) -> Outcome {
    for kernel in image::kernels(&options.cache)? {
        let image = image::prepare(&options.cache, &kernel)?;
        say(&format!("Linux {}: {}", image.release, image.base.display()));
    }
    Ok(())
}

fn list() -> Outcome {
    for group in GROUPS {
        for case in cases::find(&own("cases"), group)? {
            say(&case.full_name());
        }
    }
    Ok(())
}

/// A guest for a person, with the devices of `group`.
fn shell(options: &Options, group: Option<&str>) -> Outcome {
    let kernel = wanted_kernels(options)?.remove(0);
    let image = image::prepare(&options.cache, &kernel)?;
    let folder = std::path::absolute(options.logs.join("shell"))?;
    renew(&folder)?;
    let initrd = write_initrd(options, &image, &folder, &[], 0)?;
    let machine = group.map_or(Ok(Machine::default()), |group| Machine::find(&own("cases"), group))?;
    machine.make_images(&folder)?;
    let mut command = guest::command(&image, &options.cache, &initrd, "vm.shell", &machine)?;
    command.args(machine.arguments(&folder));
    command.args(["-serial", "mon:stdio", "-serial", "null"]).stdin(Stdio::inherit());
    let status = command.status()?;
    ensure(status.success(), || format!("the emulator ended with {status}"))
}

fn run(options: &Options, groups: &[String]) -> Outcome<Report> {
    let mut report = Report::new(options.only.clone());
    for kernel in wanted_kernels(options)? {
        let image = image::prepare(&options.cache, &kernel)?;
        say(&format!("Linux {}", image.release));
        for group in groups {
            let group = GROUPS.iter().find(|name| *name == group).expect("it was checked with the options");
            report.suite(group);
            let mut cases = cases::find(&own("cases"), group)?;
            cases.retain(|case| report.wants(&case.name));
            run_cases(options, &image, cases, &mut report)?;
        }
    }
    Ok(report)
}

/// Runs all cases; a guest in which one fails may be in any state, so the others get a new one.
fn run_cases(options: &Options, image: &Image, mut cases: Vec<Case>, report: &mut Report) -> Outcome {
    let mut number = 0;
    while !cases.is_empty() {
        number += 1;
        let folder = options.logs.join(&image.release).join(format!("{}-{number}", cases[0].group));
        let logs = format!("logs in {}", folder.display());
        let batch = cases[..if options.each { 1 } else { cases.len() }].to_vec();
        let count = cases.len();
        let mut failed = false;
        run_guest(options, image, &folder, &batch, &mut |result| {
            cases.retain(|case| case.full_name() != result.name);
            failed |= result.outcome.is_err();
            let name = result.name.split_once("::").map_or(result.name.as_str(), |(_, name)| name);
            say(&format!("{} s of the guest's clock:", result.seconds));
            report.record(name, result.outcome.map_err(|failure| failure.within(&logs)));
        })
        .context(&logs)?;
        ensure(cases.len() < count, || format!("a guest ended without one of its cases; {logs}"))?;
        if !failed {
            std::fs::remove_dir_all(&folder)?;
        }
    }
    Ok(())
}

/// One guest, until it has worked through `cases` or failed; another with the same disks after each cut of power.
fn run_guest(
    options: &Options,
    image: &Image,
    folder: &Path,
    cases: &[Case],
    on_result: &mut dyn FnMut(guest::Result),
) -> Outcome {
    // QEMU and the guest's arguments are told where its files are.
    let folder = &std::path::absolute(folder)?;
    renew(folder)?;
    let machine = Machine::find(&own("cases"), &cases[0].group)?;
    let (mut cases, mut cuts, mut boots) = (cases, 0, 0);
    loop {
        let initrd = write_initrd(options, image, folder, cases, cuts)?;
        let outcome = Guest::start(image, &options.cache, &initrd, folder, &machine)
            .and_then(|guest| guest.follow(on_result));
        // It is the largest file by far, and can be made again.
        std::fs::remove_file(&initrd)?;
        let name = match outcome? {
            End::Over => return Ok(()),
            End::Cut(name) => name,
            End::NotBooted => {
                boots += 1;
                ensure(boots < limits::BOOT_TRIES, || format!("the guest did not boot {boots} times"))?;
                say("the guest did not boot; once more");
                continue;
            }
        };
        let at = cases.iter().position(|case| case.full_name() == name);
        let at = at.ok_or_else(|| Failure::new(format!("{name} is not in the list")))?;
        cuts = if at == 0 { cuts + 1 } else { 1 };
        ensure(cuts <= limits::CUTS_MAX, || format!("{name} had its power cut {cuts} times"))?;
        cases = &cases[at..];
    }
}

/// Removes what an earlier run with the same first case left.
fn renew(folder: &Path) -> Outcome {
    let _ = std::fs::remove_dir_all(folder);
    Ok(std::fs::create_dir_all(folder)?)
}

fn write_initrd(
    options: &Options,
    image: &Image,
    folder: &Path,
    cases: &[Case],
    cuts: u32,
) -> Outcome<PathBuf> {
    let scripts = own("guest");
    let contents = Contents {
        vega: &options.vega,
        load: &options.load,
        nvme: &options.nvme,
        fio_engine: &options.fio_engine,
        scripts: &scripts,
    };
    let mut bytes = std::fs::read(&image.base).context("the prepared image")?;
    bytes.extend(contents.archive(cases, cuts)?);
    let initrd = folder.join("initrd.cpio");
    std::fs::write(&initrd, bytes)?;
    Ok(initrd)
}
