//! libiscsi's conformance suite: one process per suite, every skip accounted for.

use std::collections::BTreeSet;
use std::process::Command;

use initiator::chap::Credentials;

use crate::cunit::{self, TestLine};
use crate::failure::{Outcome, ensure, fail};
use crate::limits;
use crate::options::Options;
use crate::process::{run_bounded, run_well, tail};
use crate::report::Report;
use crate::server::{Offer, Server, Unit};

const PROGRAM: &str = "iscsi-test-cu";
const APPROVED_SKIPS: &str = include_str!("../approved-skips.txt");
const APPROVED_FAILURES: &str = include_str!("../approved-failures.txt");
/// These reset the whole target, so a second run beside them would see its commands aborted.
const TARGET_WIDE: [&str; 5] = ["Reserve6", "PreventAllow", "iSCSITMF", "MultipathIO", "Sanitize"];
/// Mostly waits: it is run on a server of its own, beside the others.
const PATIENT: &str = "Sanitize";
const SIZE_MIB: u64 = 512;

/// One way to run the suite.
struct Variant {
    name: &'static str,
    offer: Offer,
    query: &'static str,
}

/// Runs every variant.
pub fn run(report: &mut Report, options: &Options) {
    let suites = match suites() {
        Ok(suites) => suites,
        Err(failure) => return report.record("list", Err(failure)),
    };
    // Every shape of unit once: a test that one of them excuses has to pass on another.
    let mut variants = vec![
        variant("plain", Offer::of(&[Unit::file(SIZE_MIB)]), ""),
        variant("header_digest", Offer::of(&[Unit::memory(SIZE_MIB)]), "?header_digest=crc32c"),
        variant("blocks_4k", Offer::of(&[Unit::file(SIZE_MIB).with_4k_blocks()]), ""),
        variant(
            "chap",
            Offer { chap: Some(chap()), ..Offer::of(&[Unit::memory(SIZE_MIB).with_4k_blocks()]) },
            "",
        ),
    ];
    if options.quick {
        variants.truncate(1);
    }
    for variant in &variants {
        let wanted: Vec<&String> =
            suites.iter().filter(|suite| report.wants(&check_name(variant.name, suite))).collect();
        if wanted.is_empty() {
            continue;
        }
        run_variant(report, variant, &wanted, options);
    }
    if !options.quick {
        report.check("two_at_once", || two_at_once(options, &suites));
    }
}

fn variant(name: &'static str, offer: Offer, query: &'static str) -> Variant {
    Variant { name, offer, query }
}

fn chap() -> Credentials {
    Credentials { name: "harness".to_owned(), secret: "a-secret-of-24-characters".to_owned() }
}

fn check_name(variant: &str, suite: &str) -> String {
    format!("{variant}::{suite}")
}

/// The suites of the program, those that leave reservations last.
fn suites() -> Outcome<Vec<String>> {
    let list = run_well(Command::new(PROGRAM).arg("--list"), limits::COMMAND_PATIENCE)?;
    let mut suites = cunit::parse_suites(&list);
    ensure(suites.len() > 40, || format!("{PROGRAM} lists only {} suites", suites.len()))?;
    suites.sort_by_key(|name| name == "Reserve6");
    Ok(suites)
}

fn run_variant(report: &mut Report, variant: &Variant, suites: &[&String], options: &Options) {
    let lists = match Lists::of(&variant.offer.units) {
        Ok(lists) => lists,
        Err(failure) => return report.record("approved_lists", Err(failure)),
    };
    let mut skipped = BTreeSet::new();
    let mut conclude = |report: &mut Report, suite: &str, run: Outcome<Vec<TestLine>>| {
        let outcome = run.and_then(|tests| {
            skipped.extend(tests.iter().filter(|test| !test.skips.is_empty()).map(|test| test.name.clone()));
            judge(&tests, &lists)
        });
        report.record(&check_name(variant.name, suite), outcome);
    };
    let (patient, others): (Vec<&String>, Vec<&String>) = suites.iter().partition(|suite| **suite == PATIENT);
    std::thread::scope(|scope| {
        let beside = (!patient.is_empty()).then(|| scope.spawn(|| run_alone(variant, options, PATIENT)));
        if !others.is_empty() {
            match Server::start(options, variant.offer.clone()) {
                Ok(mut server) => {
                    for suite in &others {
                        let run = run_on(&mut server, variant, suite);
                        conclude(report, suite, run);
                    }
                }
                Err(failure) => report.record(variant.name, Err(failure)),
            }
        }
        if let Some(beside) = beside {
            let run = beside.join().unwrap_or_else(|_| fail("a runner panicked"));
            conclude(report, PATIENT, run);
        }
    });
    if suites.len() > 40 {
        let stale: Vec<&String> = lists.skips.iter().filter(|name| !skipped.contains(*name)).collect();
        let outcome = ensure(stale.is_empty(), || format!("approved skips that did not skip: {stale:?}"));
        report.record(&check_name(variant.name, "approved_skips"), outcome);
    }
}

fn run_alone(variant: &Variant, options: &Options, suite: &str) -> Outcome<Vec<TestLine>> {
    let offer = Offer { answer_patience_s: Some(limits::TARGET_PATIENCE_S), ..variant.offer.clone() };
    run_on(&mut Server::start(options, offer)?, variant, suite)
}

fn run_on(server: &mut Server, variant: &Variant, suite: &str) -> Outcome<Vec<TestLine>> {
    let tests = run_suite(suite, &server.url(0, variant.query))?;
    server.ensure_alive()?;
    Ok(tests)
}

/// Runs one suite against `url`, with a second path where the suite wants one.
fn run_suite(suite: &str, url: &str) -> Outcome<Vec<TestLine>> {
    let mut command = Command::new(PROGRAM);
    command.args([
        "--dataloss",
        "--allow-sanitize",
        "--Verbose-scsi",
        "--test",
        &format!("ALL.{suite}"),
        url,
    ]);
    if suite == "MultipathIO" {
        command.arg(url);
    }
    let finished = run_bounded(&mut command, limits::SUITE_PATIENCE)?;
    let run = cunit::parse(&finished.output);
    let Some((ran, failed)) = run.summary else {
        return fail(format!("{}: no summary: {}", finished.status, tail(&finished.output)));
    };
    let counted = run.tests.iter().filter(|test| !test.passed).count();
    ensure(ran == run.tests.len() && failed == counted && ran > 0, || {
        format!(
            "the summary says {ran} ran and {failed} failed, but {} and {counted} were read",
            run.tests.len()
        )
    })?;
    Ok(run.tests)
}

/// Every test passed, and every skip is approved; a test that is known to be wrong must fail.
fn judge(tests: &[TestLine], lists: &Lists) -> Outcome {
    let mut complaints = Vec::new();
    for test in tests {
        let must_fail = lists.failures.contains(&test.name);
        if !test.passed && !must_fail {
            complaints.push(format!("{} FAILED: {}", test.name, test.words.join("; ")));
        }
        if test.passed && must_fail {
            complaints.push(format!("{} passed, but approved-failures.txt says that it cannot", test.name));
        }
        if !test.skips.is_empty() && !lists.skips.contains(&test.name) {
            complaints.push(format!("{} was skipped: {}", test.name, test.skips.join("; ")));
        }
    }
    ensure(complaints.is_empty(), || complaints.join("\n    "))
}

/// The approved exceptions, as far as they apply to a unit.
struct Lists {
    skips: BTreeSet<String>,
    failures: BTreeSet<String>,
}

impl Lists {
    fn of(units: &[Unit]) -> Outcome<Self> {
        let read = |text| units.iter().map(|unit| approved(text, *unit)).collect::<Outcome<Vec<_>>>();
        let merge = |sets: Vec<BTreeSet<String>>| sets.into_iter().flatten().collect();
        Ok(Self { skips: merge(read(APPROVED_SKIPS)?), failures: merge(read(APPROVED_FAILURES)?) })
    }
}

/// The test names of a list that apply to `unit`. Each line is `name[@tag,…] | reason | section`, all tags must
/// fit, and a line without all parts is an error.
fn approved(text: &str, unit: Unit) -> Outcome<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let [name, reason, section] = parts[..] else {
            return fail(format!("{line:?} is not `name | reason | section`"));
        };
        ensure(!name.is_empty() && !reason.is_empty() && !section.is_empty(), || {
            format!("{line:?} lacks a part")
        })?;
        let (name, tags) = name.split_once('@').unwrap_or((name, ""));
        let mut applies = true;
        for tag in tags.split(',').filter(|tag| !tag.is_empty()) {
            applies &= match tag {
                "file" => !unit.memory,
                "memory" => unit.memory,
                "512" => unit.block_bytes == 512,
                "4k" => unit.block_bytes == 4096,
                _ => return fail(format!("{line:?}: unknown tag {tag:?}")),
            };
        }
        if applies {
            names.insert(name.to_owned());
        }
    }
    Ok(names)
}

/// Two programs at once on two units of one target.
fn two_at_once(options: &Options, suites: &[String]) -> Outcome {
    let units = [Unit::file(SIZE_MIB), Unit::memory(SIZE_MIB)];
    let mut server = Server::start(options, Offer::of(&units))?;
    let lists = [Lists::of(&units[..1])?, Lists::of(&units[1..])?];
    let urls = [server.url(0, ""), server.url(1, "")];
    std::thread::scope(|scope| {
        let runs: Vec<_> = urls
            .iter()
            .zip(&lists)
            .map(|(url, lists)| {
                scope.spawn(move || {
                    suites
                        .iter()
                        .filter(|suite| !TARGET_WIDE.contains(&suite.as_str()))
                        .try_for_each(|suite| judge(&run_suite(suite, url)?, lists))
                })
            })
            .collect();
        runs.into_iter()
            .map(|run| run.join().unwrap_or_else(|_| fail("a runner panicked")))
            .collect::<Outcome<Vec<()>>>()
    })?;
    server.ensure_alive()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, passed: bool, skips: &[&str]) -> TestLine {
        let skips = skips.iter().map(|reason| (*reason).to_owned()).collect();
        TestLine { name: name.to_owned(), passed, skips, words: Vec::new() }
    }

    #[test]
    fn the_lists_are_well_formed_and_tags_select() {
        let lists = Lists::of(&[Unit::file(1)]).expect("well-formed lists");
        assert!(!lists.skips.is_empty() && !lists.failures.is_empty());
        for bad in ["Name | reason", "Name | | section", "Name@tape | reason | section"] {
            assert!(approved(bad, Unit::file(1)).is_err(), "{bad}");
        }
        let text = "A@file | r | s\nB@512,memory | r | s\nC | r | s";
        let names = |unit| approved(text, unit).expect("a list").into_iter().collect::<String>();
        assert_eq!(names(Unit::file(1)), "AC");
        assert_eq!(names(Unit::memory(1)), "BC");
        assert_eq!(names(Unit::memory(1).with_4k_blocks()), "C");
    }

    #[test]
    fn whatever_is_off_the_lists_fails_the_suite() {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let lists = Lists { skips: set(&["A.Known"]), failures: set(&["A.Wrong"]) };
        let good =
            [line("A.Known", true, &["reason"]), line("A.Good", true, &[]), line("A.Wrong", false, &[])];
        assert!(judge(&good, &lists).is_ok());
        assert!(judge(&[line("A.Bad", false, &[])], &lists).is_err());
        assert!(judge(&[line("A.Wrong", true, &[])], &lists).is_err());
        assert!(judge(&[line("A.Unknown", true, &["reason"])], &lists).is_err());
    }
}
