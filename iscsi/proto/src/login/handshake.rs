//! The text side of a login: names, security, parameters. Knows no PDU but the stage bits.

use core::mem::take;

use super::policy::{Access, Admission, Establish, LoginIdentity, LoginPolicy};
use super::security::{Security, SecurityKeys};
use super::stage::StageRequest;
use crate::error::LoginError;
use crate::limits::{LOGIN_DATA_SEGMENT_BYTES_MAX, LOGIN_TEXT_BYTES_MAX, NAME_BYTES_MAX};
use crate::params::{Negotiated, Negotiator, Offers, ParamError, SessionType, Stage};
use crate::text::{TextAccumulator, TextError, TextPairs, TextWriter};

/// What one request led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A response went out; the next request is awaited.
    Next,
    /// The response waits for the policy.
    Wait(StageRequest),
    /// The last response went out; this is the session.
    Done(u16),
}

/// One response, as far as the text side determines it.
pub(super) struct Reply {
    pub text: Vec<u8>,
    pub continued: bool,
    pub transit: Option<Stage>,
    /// Set in the last response.
    pub tsih: Option<u16>,
}

/// What is known once the first text is complete.
struct Admitted {
    identity: LoginIdentity,
    access: Access,
    negotiator: Negotiator,
}

pub(super) struct Handshake {
    offers: Offers,
    stage: Option<Stage>,
    request_text: TextAccumulator,
    request_bytes: usize,
    reply_text: Vec<u8>,
    reply_taken: usize,
    admitted: Option<Admitted>,
    security: Security,
    declared: bool,
    redirect: Option<String>,
}

impl Handshake {
    pub fn new(offers: Offers) -> Self {
        Self {
            offers,
            stage: None,
            request_text: TextAccumulator::new(LOGIN_TEXT_BYTES_MAX),
            request_bytes: 0,
            reply_text: Vec::new(),
            reply_taken: 0,
            admitted: None,
            security: Security::Open,
            declared: false,
            redirect: None,
        }
    }

    pub fn identity(&self) -> Option<&LoginIdentity> {
        self.admitted.as_ref().map(|admitted| &admitted.identity)
    }

    /// CSG of a failure response.
    pub fn stage_flags(&self) -> u8 {
        self.stage.map_or(0, |stage| stage.to_wire() << 2)
    }

    /// TargetAddress, after a redirection.
    pub fn redirect_text(&self) -> Vec<u8> {
        let mut out = TextWriter::new();
        if let Some(address) = &self.redirect {
            out.pair("TargetAddress", address);
        }
        out.into_bytes()
    }

    /// Takes the text of one request. `connection` is ISID, TSIH, CID.
    pub fn on_text(
        &mut self,
        connection: ([u8; 6], u16, u16),
        request: StageRequest,
        data: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
        policy: &mut dyn LoginPolicy,
    ) -> Result<(), LoginError> {
        if *self.stage.get_or_insert(request.current) != request.current {
            return Err(LoginError::BadStage);
        }
        if self.reply_taken < self.reply_text.len() {
            // Our text goes on: the initiator may only ask for the rest of it.
            let empty = data.is_empty() && !request.continued;
            return if empty { Ok(()) } else { Err(LoginError::UnexpectedText) };
        }
        self.request_bytes += data.len();
        if self.request_bytes > LOGIN_TEXT_BYTES_MAX {
            return Err(TextError::TextTooLong.into());
        }
        self.request_text.push(data)?;
        if request.continued {
            return Ok(());
        }
        let text = self.request_text.take();
        let mut out = TextWriter::new();
        let first = self.admitted.is_none();
        if first {
            self.admit(connection, &text, policy, &mut out)?;
        }
        self.on_pairs(first, request.current, &text, random, policy, &mut out)?;
        if request.next.is_some() && self.is_unauthenticated() {
            return Err(LoginError::NoAuthMethod);
        }
        self.reply_text = out.into_bytes();
        self.reply_taken = 0;
        Ok(())
    }

    fn admit(
        &mut self,
        connection: ([u8; 6], u16, u16),
        text: &[u8],
        policy: &mut dyn LoginPolicy,
        out: &mut TextWriter,
    ) -> Result<(), LoginError> {
        let identity = identify(connection, text)?;
        let access = match policy.admit(&identity) {
            Admission::Admit(access) => access,
            Admission::Redirect { address, permanent } => {
                self.redirect = Some(address);
                return Err(LoginError::Redirected { permanent });
            }
            Admission::Refuse(status) => return Err(refused(status)),
        };
        if identity.session_type == SessionType::Normal {
            out.number("TargetPortalGroupTag", access.portal_group_tag.into());
            if let Some(alias) = &access.target_alias {
                out.pair("TargetAlias", alias);
            }
        }
        let negotiator = Negotiator::new(
            self.offers.clone(),
            access.header_digest,
            access.data_digest,
            identity.session_type,
            identity.is_leading(),
        );
        self.admitted = Some(Admitted { identity, access, negotiator });
        Ok(())
    }

    fn on_pairs(
        &mut self,
        first: bool,
        stage: Stage,
        text: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
        policy: &dyn LoginPolicy,
        out: &mut TextWriter,
    ) -> Result<(), LoginError> {
        let admitted = self.admitted.as_mut().expect("admitted with the first text");
        let authentication = &admitted.access.authentication;
        let mut security_keys = SecurityKeys::default();
        for pair in TextPairs::new(text) {
            let (key, value) = pair?;
            if is_identity_key(key) {
                // The first text has been read for them; later ones may only say the same.
                if !first && !repeats_identity(&admitted.identity, key, value) {
                    return Err(ParamError::Repeated.into());
                }
            } else if !security_keys.take(key, value)? {
                admitted.negotiator.offer(stage, key, value, out)?;
            }
            if out.len() > LOGIN_TEXT_BYTES_MAX {
                return Err(TextError::TextTooLong.into());
            }
        }
        admitted.negotiator.finish_text(out)?;
        if stage == Stage::Security {
            let security = take(&mut self.security);
            self.security =
                security.step(&security_keys, &admitted.identity, authentication, policy, random, out)?;
            return Ok(());
        }
        // Skipping the security stage proves nothing.
        if !self.security.is_complete(authentication) {
            return Err(LoginError::NoAuthMethod);
        }
        if !security_keys.is_empty() {
            return Err(LoginError::UnexpectedSecurityKey);
        }
        if !self.declared {
            self.declared = true;
            admitted.negotiator.declare(out);
        }
        Ok(())
    }

    /// The response to a request; nothing while the policy says `Wait`. Then it is asked for again.
    pub fn reply(
        &mut self,
        request: StageRequest,
        policy: &mut dyn LoginPolicy,
    ) -> Result<Option<Reply>, LoginError> {
        let left = self.reply_text.len() - self.reply_taken;
        let length_bytes = left.min(LOGIN_DATA_SEGMENT_BYTES_MAX);
        let continued = left > length_bytes;
        let transit = request.next.filter(|_| !continued && self.may_leave(request.current));
        let mut tsih = None;
        if transit == Some(Stage::FullFeature) {
            match self.establish(policy)? {
                Some(session) => tsih = Some(session),
                None => return Ok(None),
            }
        }
        let end = self.reply_taken + length_bytes;
        let text = self.reply_text[self.reply_taken..end].to_vec();
        self.reply_taken = end;
        if let Some(next) = transit {
            self.stage = Some(next);
        }
        Ok(Some(Reply { text, continued, transit, tsih }))
    }

    /// True when a method is required and the initiator has not even named one.
    fn is_unauthenticated(&self) -> bool {
        matches!(self.security, Security::Open)
            && self.admitted.as_ref().is_some_and(|known| !known.access.authentication.none_allowed)
    }

    fn may_leave(&self, stage: Stage) -> bool {
        let Some(admitted) = &self.admitted else { return false };
        stage != Stage::Security || self.security.is_complete(&admitted.access.authentication)
    }

    fn establish(&mut self, policy: &mut dyn LoginPolicy) -> Result<Option<u16>, LoginError> {
        let admitted = self.admitted.as_ref().expect("no stage is left before the first text");
        assert!(
            self.security.is_complete(&admitted.access.authentication),
            "nobody enters the full feature phase without the authentication that the target requires"
        );
        admitted.negotiator.check_complete()?;
        let identity = &admitted.identity;
        match policy.establish(identity, admitted.negotiator.values()) {
            Establish::Session(tsih) => {
                assert!(tsih != 0, "a session has a TSIH other than 0");
                assert!(
                    identity.tsih == 0 || identity.tsih == tsih,
                    "a connection joins the session it named"
                );
                Ok(Some(tsih))
            }
            Establish::Wait => Ok(None),
            Establish::Refuse(status) => Err(refused(status)),
        }
    }

    pub fn finish(&mut self) -> (LoginIdentity, Option<String>, Negotiated) {
        let admitted = self.admitted.take().expect("a login that is done was admitted");
        let user = take(&mut self.security).into_user();
        (admitted.identity, user, admitted.negotiator.values().clone())
    }
}

fn refused(status: crate::pdu::LoginStatus) -> LoginError {
    assert!(!status.is_success(), "a refusal has a status other than success");
    LoginError::Refused(status)
}

fn is_identity_key(key: &str) -> bool {
    matches!(key, "InitiatorName" | "InitiatorAlias" | "TargetName" | "SessionType")
}

/// Some initiators declare their names again when they change the stage. That is harmless as long as nothing changes.
fn repeats_identity(known: &LoginIdentity, key: &str, value: &str) -> bool {
    match key {
        "InitiatorName" => value.eq_ignore_ascii_case(&known.initiator_name),
        "InitiatorAlias" => known.initiator_alias.as_deref() == Some(value),
        "TargetName" => match &known.target_name {
            Some(target) => value.eq_ignore_ascii_case(target),
            None => true,
        },
        "SessionType" => match known.session_type {
            SessionType::Normal => value == "Normal",
            SessionType::Discovery => value == "Discovery",
        },
        _ => false,
    }
}

/// Reads the declarations of the first text.
fn identify((isid, tsih, cid): ([u8; 6], u16, u16), text: &[u8]) -> Result<LoginIdentity, LoginError> {
    let (mut initiator, mut alias, mut target, mut kind) = (None, None, None, None);
    for pair in TextPairs::new(text) {
        let (key, value) = pair?;
        let slot = match key {
            "InitiatorName" => &mut initiator,
            "InitiatorAlias" => &mut alias,
            "TargetName" => &mut target,
            "SessionType" => &mut kind,
            _ => continue,
        };
        if slot.replace(value).is_some() {
            return Err(ParamError::Repeated.into());
        }
    }
    let session_type = match kind {
        None | Some("Normal") => SessionType::Normal,
        Some("Discovery") => SessionType::Discovery,
        Some(_) => return Err(LoginError::SessionTypeNotSupported),
    };
    let initiator_name = name(initiator.ok_or(LoginError::MissingParameter)?)?;
    let target_name = match session_type {
        SessionType::Normal => Some(name(target.ok_or(LoginError::MissingParameter)?)?),
        SessionType::Discovery => None,
    };
    if alias.is_some_and(|alias| alias.chars().any(char::is_control)) {
        return Err(LoginError::BadName);
    }
    Ok(LoginIdentity {
        initiator_name,
        initiator_alias: alias.map(str::to_owned),
        target_name,
        session_type,
        isid,
        tsih,
        cid,
    })
}

/// An iSCSI name in the lower case that names are compared in (section 4.2.7.2).
pub(super) fn name(value: &str) -> Result<String, LoginError> {
    let printable = !value.chars().any(|c| c.is_control() || c.is_whitespace());
    if value.is_empty() || value.len() > NAME_BYTES_MAX || !printable {
        return Err(LoginError::BadName);
    }
    Ok(value.to_ascii_lowercase())
}
