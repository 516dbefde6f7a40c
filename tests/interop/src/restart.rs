//! Data after a clean stop and after a kill, both digests, CHAP both ways: what one initiator can show.

use initiator::chap::Credentials;
use initiator::pdu::Digests;
use initiator::scsi::{self, status};
use initiator::{Auth, Command, LoginOutcome, Session, Wire};

use crate::failure::{Context, Outcome, ensure, fail};
use crate::options::Options;
use crate::report::Report;
use crate::server::{Kind, Offer, Server, Unit};

/// Runs the suite.
pub fn run(report: &mut Report, options: &Options) {
    report.check("data_survives_a_clean_stop", || survives(options, Server::stop));
    report.check("data_survives_a_kill", || survives(options, Server::kill));
    for (name, header, data) in
        [("none", false, false), ("header", true, false), ("data", false, true), ("both", true, true)]
    {
        report.check(&format!("digest_{name}"), || digests(options, Digests { header, data }));
    }
    report.check("write_shapes", || write_shapes(options));
    report.check("chap_both_ways", || chap(options));
    report.check("discovery_names_target_and_portal", || discovery(options));
}

fn survives(options: &Options, end: fn(&mut Server) -> Outcome) -> Outcome {
    let mut server = Server::start(options, Offer::of(&[Unit::file(64), Unit::file(64).with_4k_blocks()]))?;
    for index in 0..2 {
        let mut session = server.session(1)?;
        write_marks(&mut session, server.lun(index))?;
        session.logout()?;
    }
    end(&mut server)?;
    server.start_again()?;
    for index in 0..2 {
        let mut session = server.session(1)?;
        check_marks(&mut session, server.lun(index)).context("after the restart")?;
        session.logout()?;
    }
    server.stop()
}

const MARK_BYTES: u32 = 64 * 1024;

fn mark(position: u64) -> Vec<u8> {
    (0..u64::from(MARK_BYTES) / 8).flat_map(|word| (position << 32 | word).to_be_bytes()).collect()
}

/// First, middle and last 64 KiB of the unit.
fn marks(session: &mut Session, lun: u64) -> Outcome<(u32, [u64; 3])> {
    let capacity = session.settle(lun)?;
    let blocks = MARK_BYTES / capacity.block_bytes;
    Ok((blocks, [0, capacity.blocks / 2, capacity.blocks - u64::from(blocks)]))
}

fn write_marks(session: &mut Session, lun: u64) -> Outcome {
    let (blocks, positions) = marks(session, lun)?;
    for lba in positions {
        good(session, Command::write(lun, scsi::write_16(lba, blocks), mark(lba)))?;
    }
    good(session, Command::bare(lun, scsi::synchronize_cache_16()))?;
    check_marks(session, lun)
}

fn check_marks(session: &mut Session, lun: u64) -> Outcome {
    let (blocks, positions) = marks(session, lun)?;
    for lba in positions {
        let data = good(session, Command::read(lun, scsi::read_16(lba, blocks), MARK_BYTES))?;
        ensure(data == mark(lba), || format!("LUN {lun}, LBA {lba}: other data than was written"))?;
    }
    Ok(())
}

/// Executes `command` and fails unless it ends with GOOD.
pub fn good(session: &mut Session, command: Command) -> Outcome<Vec<u8>> {
    let completion = session.execute(command)?;
    ensure(completion.status == status::GOOD, || format!("not GOOD: {completion:?}"))?;
    Ok(completion.data)
}

fn digests(options: &Options, digests: Digests) -> Outcome {
    let server = Server::start(options, Offer::of(&[Unit::memory(64)]))?;
    let mut login = server.login(1);
    login.digests = digests;
    let mut session = login.session(server.portal)?;
    ensure(session.wire.digests == digests, || format!("agreed on {:?}", session.wire.digests))?;
    write_marks(&mut session, server.lun(0))?;
    session.ping(b"ping with a length that is no multiple of four")?;
    Ok(session.logout()?)
}

/// Immediate, unsolicited and solicited data in every combination, at lengths around each limit.
fn write_shapes(options: &Options) -> Outcome {
    let server = Server::start(options, Offer::of(&[Unit::memory(64)]))?;
    for (qualifier, (initial_r2t, immediate_data)) in
        [(true, true), (true, false), (false, true), (false, false)].into_iter().enumerate()
    {
        let mut login = server.login(qualifier as u16 + 1);
        (login.initial_r2t, login.immediate_data) = (initial_r2t, immediate_data);
        let mut session = login.session(server.portal)?;
        let lun = server.lun(0);
        session.settle(lun)?;
        for kib in [1u32, 8, 63, 64, 65, 128, 512, 1024, 1025, 2048] {
            let blocks = kib * 2;
            let data: Vec<u8> = (0..kib * 256).flat_map(|word| (word ^ kib << 20).to_be_bytes()).collect();
            good(&mut session, Command::write(lun, scsi::write_16(7, blocks), data.clone()))
                .context(&format!("{kib} KiB, InitialR2T={initial_r2t}, ImmediateData={immediate_data}"))?;
            let back = good(&mut session, Command::read(lun, scsi::read_16(7, blocks), kib * 1024))?;
            ensure(back == data, || format!("{kib} KiB read back wrong"))?;
        }
        session.logout()?;
    }
    Ok(())
}

fn chap(options: &Options) -> Outcome {
    let credentials = Credentials { name: "front".into(), secret: "initiator-secret-1".into() };
    let mutual = Credentials { name: "back".into(), secret: "the-target-secret-2".into() };
    let mut offer = Offer { chap: Some(credentials.clone()), ..Offer::of(&[Unit::memory(64)]) };
    if options.kind == Kind::Vega {
        offer.mutual = Some(mutual.clone());
    }
    let server = Server::start(options, offer)?;
    server.session(1)?.logout()?;
    let refused = |what: &str, auth: Auth| -> Outcome {
        let mut login = server.login(2);
        login.auth = auth;
        match login.run(Wire::connect(server.portal)?) {
            Ok(LoginOutcome::Refused(2, 1)) => Ok(()),
            Ok(LoginOutcome::Refused(class, detail)) => {
                fail(format!("{what}: refused as {class:02x}{detail:02x}"))
            }
            Ok(LoginOutcome::Session(_)) => fail(format!("{what}: admitted")),
            Err(error) => fail(format!("{what}: {error} instead of a refusal")),
        }
    };
    let chap_as = |name: &str, secret: &str| Auth::Chap {
        credentials: Credentials { name: name.into(), secret: secret.into() },
        mutual: None,
    };
    refused("no authentication", Auth::None)?;
    refused("wrong secret", chap_as("front", "another-secret-123"))?;
    refused("wrong name", chap_as("frond", &credentials.secret))?;
    refused("the target's own name", chap_as(&mutual.name, &mutual.secret))?;
    server.session(3)?.logout()?;
    Ok(())
}

fn discovery(options: &Options) -> Outcome {
    let server = Server::start(options, Offer::of(&[Unit::memory(64)]))?;
    let mut session = initiator::Login::discovery(crate::server::INITIATOR_NAME).session(server.portal)?;
    let answer = session.send_targets("All")?;
    let name = ("TargetName".to_owned(), crate::server::TARGET_NAME.to_owned());
    ensure(answer.contains(&name), || format!("the target is not in {answer:?}"))?;
    let address = format!("{},1", server.portal);
    ensure(answer.iter().any(|(key, value)| key == "TargetAddress" && *value == address), || {
        format!("no TargetAddress={address} in {answer:?}")
    })?;
    Ok(session.logout()?)
}
