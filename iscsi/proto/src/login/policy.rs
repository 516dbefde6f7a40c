//! The questions a login asks whoever knows targets, users and sessions.

use crate::chap::{ChapAlgorithm, ChapCredentials};
use crate::params::{DigestPolicy, Negotiated, SessionType};
use crate::pdu::LoginStatus;

/// Who logs in to what; complete once the first request is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginIdentity {
    /// InitiatorName, in lower case.
    pub initiator_name: String,
    /// InitiatorAlias, if given.
    pub initiator_alias: Option<String>,
    /// TargetName, in lower case; nothing for a discovery session.
    pub target_name: Option<String>,
    /// What the session is for.
    pub session_type: SessionType,
    /// Initiator session id.
    pub isid: [u8; 6],
    /// 0 asks for a new session (or replaces the one with the same names and ISID); else the session to join.
    pub tsih: u16,
    /// Connection id.
    pub cid: u16,
}

impl LoginIdentity {
    /// True when this connection starts a session.
    pub const fn is_leading(&self) -> bool {
        self.tsih == 0
    }
}

/// How an initiator must prove who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthPolicy {
    /// AuthMethod=None is accepted, and so is skipping the security stage.
    pub none_allowed: bool,
    /// Algorithms accepted for AuthMethod=CHAP, the preferred one first; empty means that CHAP is not offered.
    pub chap_algorithms: Vec<ChapAlgorithm>,
    /// An initiator that uses CHAP must ask us to authenticate as well.
    pub mutual_required: bool,
}

impl AuthPolicy {
    /// No authentication.
    pub const fn open() -> Self {
        Self { none_allowed: true, chap_algorithms: Vec::new(), mutual_required: false }
    }

    /// CHAP with any algorithm, nothing less.
    pub fn chap() -> Self {
        Self {
            none_allowed: false,
            chap_algorithms: ChapAlgorithm::PREFERENCE.to_vec(),
            mutual_required: false,
        }
    }
}

/// What an admitted initiator finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// How it must authenticate.
    pub authentication: AuthPolicy,
    /// TargetPortalGroupTag of the portal it came through.
    pub portal_group_tag: u16,
    /// TargetAlias to tell it, if any.
    pub target_alias: Option<String>,
    /// Header digests accepted.
    pub header_digest: DigestPolicy,
    /// Data digests accepted.
    pub data_digest: DigestPolicy,
}

impl Access {
    /// Any digest, no alias.
    pub const fn new(authentication: AuthPolicy, portal_group_tag: u16) -> Self {
        Self {
            authentication,
            portal_group_tag,
            target_alias: None,
            header_digest: DigestPolicy::Any,
            data_digest: DigestPolicy::Any,
        }
    }
}

/// First answer: may it try?
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may, under these terms.
    Admit(Access),
    /// The target is elsewhere: status 0101 or 0102 with TargetAddress.
    Redirect {
        /// `host:port`, optionally `,portal-group-tag`.
        address: String,
        /// For good.
        permanent: bool,
    },
    /// It may not: NOT_FOUND, AUTHORIZATION_FAILURE, TARGET_REMOVED, SESSION_DOES_NOT_EXIST, …
    Refuse(LoginStatus),
}

/// Last answer: the session takes the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Establish {
    /// TSIH of the session, never 0; of a connection that joins, the one it asked for.
    Session(u16),
    /// Not yet: tasks of a session that this one replaces still end. Ask again by calling `handle`.
    Wait,
    /// No: TOO_MANY_CONNECTIONS, CANNOT_INCLUDE_IN_SESSION, OUT_OF_RESOURCES, …
    Refuse(LoginStatus),
}

/// The target layer, as a login sees it. All calls of one login come in this order:
/// `admit`, then possibly `may_answer` and `credentials`, then `establish` until it does not say `Wait`.
pub trait LoginPolicy {
    /// Looks the target up, checks the allow list and, for a TSIH other than 0, that the session exists and
    /// belongs to this initiator.
    fn admit(&mut self, login: &LoginIdentity) -> Admission;

    /// False while no answer to a challenge is looked at, because too many were wrong: the initiator is told that the service is
    /// unavailable, so that it tries again later.
    fn may_answer(&self, login: &LoginIdentity) -> bool {
        let _ = login;
        true
    }

    /// Secrets of the user that CHAP_N names, if it may use this target.
    fn credentials(&self, login: &LoginIdentity, user: &str) -> Option<ChapCredentials<'_>>;

    /// Authentication and negotiation are done. Reinstates: a session with the same names, ISID and portal
    /// group (TSIH 0), or a connection with the same CID, ends before this answers with a session.
    fn establish(&mut self, login: &LoginIdentity, negotiated: &Negotiated) -> Establish;

    /// ExpCmdSN and MaxCmdSN of the session with that TSIH, for responses to a connection that joins it.
    /// Without an answer the response keeps the command window closed until the first response after login.
    fn command_window(&self, login: &LoginIdentity) -> Option<(u32, u32)> {
        let _ = login;
        None
    }
}
