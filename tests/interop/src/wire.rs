//! What we send, as Wireshark reads it: real runs over both protocols, recorded by a relay, decoded by tshark.
//!
//! A PDU that tshark finds fault with fails, a digest that it computes otherwise fails, and so does one that it does not
//! see: its count of every type of PDU in each direction must be that of this program, which splits the streams itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::failure::{Context, Failure, Outcome, ensure};
use crate::limits;
use crate::options::Options;
use crate::pcap;
use crate::process::run_well;
use crate::relay::{Chunk, Relay};
use crate::report::{Report, say};
use crate::server::{Offer, Server, Unit};
use crate::wire_runs::{self, Run};

/// The two dissectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// iSCSI.
    Iscsi,
    /// NVMe/TCP.
    NvmeTcp,
}

/// PDUs by direction (from the target) and type.
type Count = BTreeMap<(bool, u8), usize>;

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    if Command::new("tshark").arg("--version").output().is_err() {
        say("wire: SKIPPED, because there is no tshark (scripts/install.sh test installs it)");
        return report.skip("every_check");
    }
    for run in wire_runs::RUNS {
        report.check(run.name, || decode(options, run).map_err(|failure| failure.within(run.name)));
    }
}

fn decode(options: &Options, run: &Run) -> Outcome {
    let server = Server::start(options, Offer::of(&[Unit::file(64)]).with_listeners(1))?;
    let (target, port) = match run.protocol {
        Protocol::Iscsi => (server.portal, 3260),
        Protocol::NvmeTcp => (server.listeners[0], 4420),
    };
    let relay = Relay::start(target)?;
    (run.body)(&server, relay.address, options)?;
    let chunks = relay.finish()?;
    let directory = TempDir::with_prefix("wire-")?;
    let path = directory.path().join("run.pcap");
    pcap::write(&path, port, &chunks)?;
    let outcome = judge(run, &path, &chunks);
    if outcome.is_err() {
        let kept = PathBuf::from("target").join(format!("wire-{}.pcap", run.name));
        if std::fs::copy(&path, &kept).is_ok() {
            say(&format!("    the capture is kept in {}", kept.display()));
        }
    }
    outcome
}

fn judge(run: &Run, path: &Path, chunks: &[Chunk]) -> Outcome {
    // Errors and warnings of every dissector; what is only worth a note (a connection that ends) is not asked for.
    let faults = tshark(
        path,
        run,
        "_ws.malformed || _ws.unreassembled || _ws.expert.severity >= 0x600000",
        &["frame.number", "_ws.col.Info", "_ws.expert.message"],
    )?;
    ensure(faults.is_empty(), || format!("tshark finds fault:\n{faults}"))?;
    let digests = match run.protocol {
        Protocol::NvmeTcp => {
            "nvme-tcp.hdgst.status == 0 || nvme-tcp.ddgst.status == 0
                || nvme-tcp.unknown_data && ip.src == 10.0.0.2"
        }
        // A digest that it does not agree with is an expert item, see above.
        Protocol::Iscsi => "iscsi.opcode >= 0x40",
    };
    let wrong = tshark(path, run, digests, &["frame.number", "_ws.col.Info"])?;
    ensure(wrong.is_empty(), || format!("tshark computes other digests, or knows no such PDU:\n{wrong}"))?;
    let (mut own, mut seen) = (own_count(run, chunks)?, tshark_count(path, run)?);
    if run.protocol == Protocol::Iscsi {
        // The peer's, which tshark knows only where it comes back inside of a Reject.
        let is_other = |(_, opcode): &(bool, u8)| *opcode != initiator::pdu::opcode::SNACK;
        own.retain(|key, _| is_other(key));
        seen.retain(|key, _| is_other(key));
    }
    ensure(own == seen, || format!("PDUs by (from target, type): {own:?} were sent, tshark sees {seen:?}"))?;
    for wanted in run.wanted {
        let found = own.get(wanted).copied().unwrap_or(0);
        ensure(found > 0, || format!("the run had no PDU of (from target, type) {wanted:?}: {own:?}"))?;
    }
    Ok(())
}

fn tshark(path: &Path, run: &Run, filter: &str, fields: &[&str]) -> Outcome<String> {
    let mut command = Command::new("tshark");
    command.args(["-n", "-r"]).arg(path).args(["-Y", filter, "-T", "fields", "-E", "occurrence=a"]);
    for field in fields {
        command.args(["-e", field]);
    }
    for preference in run.preferences {
        command.args(["-o", preference]);
    }
    let output = run_well(&mut command, limits::COMMAND_PATIENCE).context("tshark")?;
    // It warns of being root among its answers.
    Ok(output
        .lines()
        .filter(|line| !line.starts_with("Running as user"))
        .map(|line| format!("{line}\n"))
        .collect())
}

fn tshark_count(path: &Path, run: &Run) -> Outcome<Count> {
    let field = match run.protocol {
        Protocol::Iscsi => "iscsi.opcode",
        Protocol::NvmeTcp => "nvme-tcp.type",
    };
    let mut count = Count::new();
    for line in tshark(path, run, field, &["ip.src", field])?.lines() {
        let (source, types) = line.split_once('\t').ok_or_else(|| Failure::new(format!("{line:?}")))?;
        for text in types.split(',') {
            let value = match text.strip_prefix("0x") {
                Some(hex) => u8::from_str_radix(hex, 16),
                None => text.parse(),
            };
            let value = value.map_err(|error| Failure::new(format!("{text:?}: {error}")))?;
            *count.entry((source == "10.0.0.2", value)).or_default() += 1;
        }
    }
    Ok(count)
}

/// Splits the streams into PDUs by their own lengths.
fn own_count(run: &Run, chunks: &[Chunk]) -> Outcome<Count> {
    let mut streams: BTreeMap<(usize, bool), Vec<u8>> = BTreeMap::new();
    for chunk in chunks {
        streams.entry((chunk.connection, chunk.from_target)).or_default().extend(&chunk.bytes);
    }
    let mut count = Count::new();
    for ((connection, from_target), bytes) in streams {
        let mut at = 0;
        // A login has no digests yet.
        let mut digests = initiator::pdu::Digests::default();
        while at < bytes.len() {
            let rest = &bytes[at..];
            let (kind, length) = match run.protocol {
                Protocol::NvmeTcp if rest.len() >= 8 => {
                    (rest[0], u32::from_le_bytes([rest[4], rest[5], rest[6], rest[7]]) as usize)
                }
                Protocol::Iscsi if rest.len() >= 48 => iscsi_pdu(rest, &mut digests, run),
                _ => (0, 0),
            };
            ensure((1..=rest.len()).contains(&length), || {
                format!("connection {connection} ends within a PDU: {:02x?}", &rest[..rest.len().min(16)])
            })?;
            *count.entry((from_target, kind)).or_default() += 1;
            at += length;
        }
    }
    Ok(count)
}

/// Opcode and length of an iSCSI PDU; digests begin after the login.
fn iscsi_pdu(bytes: &[u8], digests: &mut initiator::pdu::Digests, run: &Run) -> (u8, usize) {
    let opcode = bytes[0] & 0x3f;
    let is_login = matches!(opcode, 0x03 | 0x23);
    if !is_login {
        *digests = run.iscsi_digests;
    }
    let data_bytes = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
    let mut length = 48 + usize::from(bytes[4]) * 4 + data_bytes.next_multiple_of(4);
    length += if digests.header { 4 } else { 0 };
    length += if digests.data && data_bytes > 0 { 4 } else { 0 };
    (opcode, length)
}
