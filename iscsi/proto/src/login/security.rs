//! The security stage: AuthMethod and the CHAP exchange (RFC 7143 sections 9.2 and 12.1).

use super::policy::{AuthPolicy, LoginIdentity, LoginPolicy};
use crate::chap::{Challenge, ChapAlgorithm, ChapAnswer, ChapError};
use crate::error::LoginError;
use crate::text::{TextWriter, parse_list, parse_number};

/// The security keys of one text.
#[derive(Debug, Default)]
pub(super) struct SecurityKeys<'a> {
    auth_method: Option<&'a str>,
    chap_a: Option<&'a str>,
    chap_i: Option<&'a str>,
    chap_c: Option<&'a str>,
    chap_n: Option<&'a str>,
    chap_r: Option<&'a str>,
}

impl<'a> SecurityKeys<'a> {
    /// Keeps a security key; false for any other. A second one of the same name ends the login.
    pub fn take(&mut self, key: &str, value: &'a str) -> Result<bool, LoginError> {
        let slot = match key {
            "AuthMethod" => &mut self.auth_method,
            "CHAP_A" => &mut self.chap_a,
            "CHAP_I" => &mut self.chap_i,
            "CHAP_C" => &mut self.chap_c,
            "CHAP_N" => &mut self.chap_n,
            "CHAP_R" => &mut self.chap_r,
            _ => return Ok(false),
        };
        if slot.replace(value).is_some() {
            return Err(LoginError::UnexpectedSecurityKey);
        }
        Ok(true)
    }

    pub fn is_empty(&self) -> bool {
        self.auth_method.is_none() && !self.has_algorithm() && !self.has_answer()
    }

    fn has_algorithm(&self) -> bool {
        self.chap_a.is_some()
    }

    fn has_answer(&self) -> bool {
        [self.chap_i, self.chap_c, self.chap_n, self.chap_r].iter().any(Option::is_some)
    }
}

/// Where the authentication stands.
#[derive(Default)]
pub(super) enum Security {
    /// No method agreed.
    #[default]
    Open,
    /// AuthMethod=None agreed.
    NoneAgreed,
    /// AuthMethod=CHAP agreed; the initiator lists algorithms next.
    AwaitAlgorithm,
    /// Challenged; the initiator answers next.
    AwaitAnswer(Challenge),
    /// Proven.
    Authenticated { user: String },
}

impl Security {
    /// Whether the stage may be left, or skipped.
    pub fn is_complete(&self, policy: &AuthPolicy) -> bool {
        match self {
            Self::Open => policy.none_allowed,
            Self::NoneAgreed | Self::Authenticated { .. } => true,
            Self::AwaitAlgorithm | Self::AwaitAnswer(_) => false,
        }
    }

    pub fn into_user(self) -> Option<String> {
        match self {
            Self::Authenticated { user } => Some(user),
            _ => None,
        }
    }

    /// One text of the security stage. Whatever fails leaves no state behind: the login ends.
    pub fn step(
        self,
        keys: &SecurityKeys<'_>,
        login: &LoginIdentity,
        authentication: &AuthPolicy,
        policy: &dyn LoginPolicy,
        random: &mut dyn FnMut(&mut [u8]),
        out: &mut TextWriter,
    ) -> Result<Self, LoginError> {
        let only_method = !keys.has_algorithm() && !keys.has_answer();
        let only_algorithm = keys.auth_method.is_none() && !keys.has_answer();
        let only_answer = keys.auth_method.is_none() && !keys.has_algorithm();
        match self {
            Self::Open if only_method => agree_method(keys, authentication, out),
            Self::AwaitAlgorithm if only_algorithm => challenge(keys, authentication, random, out),
            Self::AwaitAnswer(challenge) if only_answer => {
                answer(challenge, keys, login, authentication, policy, out)
            }
            Self::NoneAgreed | Self::Authenticated { .. } if keys.is_empty() => Ok(self),
            _ => Err(LoginError::UnexpectedSecurityKey),
        }
    }
}

/// The first method in the initiator's order that the policy accepts.
fn agree_method(
    keys: &SecurityKeys<'_>,
    authentication: &AuthPolicy,
    out: &mut TextWriter,
) -> Result<Security, LoginError> {
    let Some(methods) = keys.auth_method else {
        return Ok(Security::Open);
    };
    for method in parse_list(methods) {
        match method {
            "CHAP" if !authentication.chap_algorithms.is_empty() => {
                out.pair("AuthMethod", "CHAP");
                return Ok(Security::AwaitAlgorithm);
            }
            "None" if authentication.none_allowed => {
                out.pair("AuthMethod", "None");
                return Ok(Security::NoneAgreed);
            }
            _ => {}
        }
    }
    Err(LoginError::NoAuthMethod)
}

/// Our preference decides among the algorithms both sides accept, so an initiator's order cannot downgrade.
fn challenge(
    keys: &SecurityKeys<'_>,
    authentication: &AuthPolicy,
    random: &mut dyn FnMut(&mut [u8]),
    out: &mut TextWriter,
) -> Result<Security, LoginError> {
    let list = keys.chap_a.ok_or(LoginError::MissingChapKey)?;
    let offered = |algorithm: &&ChapAlgorithm| {
        let number = u32::from(algorithm.number());
        parse_list(list).any(|offer| parse_number(offer, 0..=u32::MAX) == Some(number))
    };
    let algorithm =
        *authentication.chap_algorithms.iter().find(offered).ok_or(LoginError::NoChapAlgorithm)?;
    let challenge = Challenge::new(algorithm, random);
    out.number("CHAP_A", algorithm.number().into());
    out.number("CHAP_I", challenge.identifier().into());
    out.binary("CHAP_C", challenge.as_bytes());
    Ok(Security::AwaitAnswer(challenge))
}

fn answer(
    challenge: Challenge,
    keys: &SecurityKeys<'_>,
    login: &LoginIdentity,
    authentication: &AuthPolicy,
    policy: &dyn LoginPolicy,
    out: &mut TextWriter,
) -> Result<Security, LoginError> {
    let (Some(user), Some(response)) = (keys.chap_n, keys.chap_r) else {
        return Err(LoginError::MissingChapKey);
    };
    let mutual = match (keys.chap_i, keys.chap_c) {
        (Some(identifier), Some(challenge)) => Some((identifier, challenge)),
        (None, None) if authentication.mutual_required => {
            return Err(ChapError::MutualRequired.into());
        }
        (None, None) => None,
        _ => return Err(LoginError::MissingChapKey),
    };
    if !policy.may_answer(login) {
        return Err(LoginError::TooManyFailures);
    }
    let credentials = policy.credentials(login, user);
    let own = challenge.verify(ChapAnswer { response, mutual }, credentials)?;
    if let (Some(own), Some((own_name, _))) = (own, credentials.and_then(|known| known.mutual)) {
        out.pair("CHAP_N", own_name);
        out.binary("CHAP_R", own.as_bytes());
    }
    Ok(Security::Authenticated { user: user.to_owned() })
}
