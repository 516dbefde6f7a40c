//! Logging in, on the first connection of a session and on those that join it.

use initiator::login::{FULL_FEATURE, OPERATIONAL, SECURITY, value};
use initiator::pdu::{Digests, FINAL, IMMEDIATE, Pdu, opcode, parse_text, text_segment};

use super::session::{Link, Session, Stage};
use super::wire::Wire;
use super::{Ctx, Host};
use crate::Violation;
use crate::limits::REQUEST_PATIENCE;
use crate::world::{TARGET, portal};

/// How a step of a login went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LoginStep {
    /// It goes on.
    Going,
    /// Full feature phase.
    Done,
    /// The target refused: class and detail.
    Refused(u8, u8),
}

impl Host {
    /// A new connection that has asked to log in, or nothing when nobody listens.
    pub(super) fn connect(&mut self, ctx: &Ctx<'_>, cid: u16, tsih: u16, cmd_sn: u32) -> Option<Link> {
        let end = ctx.world.connect(portal()).ok()?;
        let stage = if self.chance(500) { Stage::Security } else { Stage::Operational };
        let mut link = Link {
            wire: Wire::new(end),
            cid,
            stage,
            stat_sn: None,
            send_bytes_max: 8192,
            bursts: Vec::new(),
            deadline: ctx.world.now().after(REQUEST_PATIENCE),
        };
        let mut pairs = vec![
            ("InitiatorName".to_owned(), self.name.clone()),
            ("SessionType".to_owned(), "Normal".to_owned()),
            ("TargetName".to_owned(), TARGET.to_owned()),
        ];
        if stage == Stage::Security {
            pairs.push(("AuthMethod".to_owned(), "None".to_owned()));
        } else {
            pairs.extend(self.operational_keys(ctx, tsih == 0));
        }
        self.send_login(&mut link, tsih, cmd_sn, text_segment(&pairs));
        Some(link)
    }

    fn send_login(&self, link: &mut Link, tsih: u16, cmd_sn: u32, data: Vec<u8>) {
        let (current, next) = match link.stage {
            Stage::Security => (SECURITY, OPERATIONAL),
            Stage::Operational | Stage::Full => (OPERATIONAL, FULL_FEATURE),
        };
        let mut pdu = Pdu::new(opcode::LOGIN | IMMEDIATE, FINAL | current << 2 | next).with_data(data);
        pdu.bhs[8..14].copy_from_slice(&self.isid);
        pdu.bhs[14..16].copy_from_slice(&tsih.to_be_bytes());
        pdu.bhs[20..22].copy_from_slice(&link.cid.to_be_bytes());
        pdu.set_itt(0x10_0000).set_word(24, cmd_sn).set_word(28, link.stat_sn.unwrap_or(0));
        link.wire.send(&pdu);
    }

    fn operational_keys(&self, ctx: &Ctx<'_>, leading: bool) -> Vec<(String, String)> {
        let options = ctx.options;
        let yes_no = |yes| if yes { "Yes" } else { "No" }.to_owned();
        let digest = |on| if on { "CRC32C,None" } else { "None" }.to_owned();
        let (receive, burst, first_burst) = options.lengths;
        let mut pairs = vec![
            ("HeaderDigest", digest(options.digests.0)),
            ("DataDigest", digest(options.digests.1)),
            ("MaxRecvDataSegmentLength", receive.to_string()),
        ];
        if leading {
            pairs.extend([
                ("InitialR2T", yes_no(options.initial_r2t)),
                ("ImmediateData", yes_no(options.immediate_data)),
                ("MaxBurstLength", burst.to_string()),
                ("FirstBurstLength", first_burst.to_string()),
                ("MaxOutstandingR2T", "4".to_owned()),
                ("MaxConnections", options.connections.to_string()),
                ("DataPDUInOrder", "Yes".to_owned()),
                ("DataSequenceInOrder", "Yes".to_owned()),
                ("ErrorRecoveryLevel", "0".to_owned()),
                ("DefaultTime2Wait", "0".to_owned()),
                ("DefaultTime2Retain", "0".to_owned()),
            ]);
        }
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    /// A login response has come on connection `at` of `session`.
    pub(super) fn on_login(
        &mut self,
        ctx: &Ctx<'_>,
        session: &mut Session,
        at: usize,
        pdu: &Pdu,
    ) -> Result<LoginStep, Violation> {
        let (tsih, cmd_sn) = (session.tsih, session.cmd_sn);
        let link = &mut session.links[at];
        if pdu.opcode() != opcode::LOGIN_RESPONSE || link.stage == Stage::Full {
            return Err(Violation::new(
                "a login is answered with a login response",
                format!("{:02x?}", pdu.bhs),
            ));
        }
        if pdu.bhs[36] != 0 {
            return Ok(LoginStep::Refused(pdu.bhs[36], pdu.bhs[37]));
        }
        let stat_sn = pdu.word(24);
        if link.stat_sn.is_some_and(|expected| expected != stat_sn) {
            return Err(Violation::new("StatSN is contiguous", format!("{stat_sn} in a login")));
        }
        link.stat_sn = Some(stat_sn.wrapping_add(1));
        let keys = parse_text(&pdu.data);
        let number = |key: &str| value(&keys, key).and_then(|text| text.parse::<usize>().ok());
        let yes = |key: &str| value(&keys, key).map(|text| text == "Yes");
        link.send_bytes_max = number("MaxRecvDataSegmentLength").unwrap_or(link.send_bytes_max);
        let agreed = &mut session.agreed;
        if tsih == 0 && link.stage == Stage::Operational {
            agreed.initial_r2t = yes("InitialR2T").unwrap_or(agreed.initial_r2t);
            agreed.immediate_data = yes("ImmediateData").unwrap_or(agreed.immediate_data);
            agreed.burst = number("MaxBurstLength").unwrap_or(agreed.burst);
            agreed.first_burst = number("FirstBurstLength").unwrap_or(agreed.first_burst);
            agreed.outstanding_r2t = number("MaxOutstandingR2T").unwrap_or(agreed.outstanding_r2t);
            agreed.connections = number("MaxConnections").unwrap_or(agreed.connections);
        }
        let header = value(&keys, "HeaderDigest") == Some("CRC32C");
        let data = value(&keys, "DataDigest") == Some("CRC32C");
        let transit = pdu.bhs[1] & FINAL != 0;
        match link.stage {
            Stage::Security if transit => {
                link.stage = Stage::Operational;
                let pairs = self.operational_keys(ctx, tsih == 0);
                self.send_login(&mut session.links[at], tsih, cmd_sn, text_segment(&pairs));
                Ok(LoginStep::Going)
            }
            Stage::Operational if transit && pdu.bhs[1] & 3 == FULL_FEATURE => {
                link.stage = Stage::Full;
                link.wire.digests = Digests { header, data };
                if tsih == 0 {
                    (session.exp_cmd_sn, session.max_cmd_sn) = (pdu.word(28), pdu.word(32));
                    session.tsih = u16::from_be_bytes([pdu.bhs[14], pdu.bhs[15]]);
                }
                Ok(LoginStep::Done)
            }
            _ => Err(Violation::new("a complete login request is followed", format!("{:02x?}", pdu.bhs))),
        }
    }
}
