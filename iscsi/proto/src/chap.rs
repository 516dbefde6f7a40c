//! CHAP, one-way and mutual (RFC 7143 section 12.1, RFC 1994): algorithms, secrets, challenge and response.
//!
//! What is not here: the key=value exchange around it (see `login`), and who may use which secret (the policy).

pub mod secret;

pub use secret::{Secret, SecretError};

use subtle::{Choice, ConstantTimeEq};

use crate::limits::LARGE_BINARY_BYTES_MAX;
use crate::text::{BinaryError, decode_binary};

/// Largest hash of any algorithm, in bytes.
const HASH_BYTES_MAX: usize = 32;

/// Hash algorithm, as CHAP_A numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ChapAlgorithm {
    /// MD5, mandatory to implement.
    Md5 = 5,
    /// SHA-1.
    Sha1 = 6,
    /// SHA-256.
    Sha256 = 7,
    /// SHA3-256.
    Sha3_256 = 8,
}

impl ChapAlgorithm {
    /// All of them, the one we like best first.
    pub const PREFERENCE: [Self; 4] = [Self::Sha3_256, Self::Sha256, Self::Sha1, Self::Md5];

    /// The number on the wire.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Length of its hash in bytes; our challenges have the same length.
    pub const fn hash_bytes(self) -> usize {
        match self {
            Self::Md5 => 16,
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 => 32,
        }
    }
}

/// A hash value of up to 32 bytes.
#[derive(Clone, Copy)]
pub struct ChapResponse {
    bytes: [u8; HASH_BYTES_MAX],
    length_bytes: usize,
}

impl ChapResponse {
    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length_bytes]
    }

    fn of(hash: &[u8]) -> Self {
        let mut bytes = [0; HASH_BYTES_MAX];
        bytes[..hash.len()].copy_from_slice(hash);
        Self { bytes, length_bytes: hash.len() }
    }
}

/// The response to a challenge: hash of identifier, secret, challenge.
pub fn respond(algorithm: ChapAlgorithm, identifier: u8, secret: &Secret, challenge: &[u8]) -> ChapResponse {
    fn hash<D: sha1::Digest>(identifier: u8, secret: &Secret, challenge: &[u8]) -> ChapResponse {
        let mut state = D::new();
        state.update([identifier]);
        state.update(secret.expose());
        state.update(challenge);
        ChapResponse::of(&state.finalize())
    }
    match algorithm {
        ChapAlgorithm::Md5 => hash::<md5::Md5>(identifier, secret, challenge),
        ChapAlgorithm::Sha1 => hash::<sha1::Sha1>(identifier, secret, challenge),
        ChapAlgorithm::Sha256 => hash::<sha2::Sha256>(identifier, secret, challenge),
        ChapAlgorithm::Sha3_256 => hash::<sha3::Sha3_256>(identifier, secret, challenge),
    }
}

/// The secrets of one user.
#[derive(Clone, Copy)]
pub struct ChapCredentials<'a> {
    /// What the initiator proves to know.
    pub secret: &'a Secret,
    /// Our name and what we prove to know, when the initiator asks.
    pub mutual: Option<(&'a str, &'a Secret)>,
}

/// Why an exchange failed. The initiator learns none of it: every one is status 0201.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChapError {
    /// CHAP_I is not a number from 0 to 255.
    #[error("CHAP_I is not a number from 0 to 255")]
    BadIdentifier,
    /// CHAP_C or CHAP_R cannot be decoded.
    #[error("CHAP_C or CHAP_R cannot be decoded: {0}")]
    BadBinary(#[from] BinaryError),
    /// CHAP_R has not the length of the algorithm's hash.
    #[error("CHAP_R has not the length of the hash")]
    BadResponseLength,
    /// No such user, or the response is wrong: deliberately one value.
    #[error("the user is unknown or the response is wrong")]
    WrongResponse,
    /// The initiator sent our own challenge back.
    #[error("the initiator sent our own challenge back")]
    ReflectedChallenge,
    /// The initiator wants us to authenticate and the user has no mutual secret.
    #[error("the initiator asks for mutual CHAP and none is set up for the user")]
    NoMutualSecret,
    /// The user has one secret for both directions.
    #[error("the secrets of both directions are equal")]
    EqualSecrets,
    /// The policy asks for mutual CHAP and the initiator did not ask.
    #[error("mutual CHAP is required and the initiator did not ask for it")]
    MutualRequired,
}

/// Our challenge, waiting for its answer. Made once per login attempt and consumed by the answer.
pub struct Challenge {
    algorithm: ChapAlgorithm,
    identifier: u8,
    bytes: Vec<u8>,
}

/// What the initiator answered.
#[derive(Clone, Copy, Debug)]
pub struct ChapAnswer<'a> {
    /// CHAP_R, still as text.
    pub response: &'a str,
    /// CHAP_I and CHAP_C when it wants us to authenticate, still as text.
    pub mutual: Option<(&'a str, &'a str)>,
}

/// Compares all there is, wherever the first difference stands: how long a wrong answer takes says nothing about it.
#[inline]
fn same<T: ConstantTimeEq>(expected: &[T], answer: &[T]) -> Choice {
    expected.ct_eq(answer)
}

impl Challenge {
    /// A fresh challenge from random bytes.
    pub fn new(algorithm: ChapAlgorithm, random: &mut dyn FnMut(&mut [u8])) -> Self {
        let mut identifier = [0];
        random(&mut identifier);
        let mut bytes = vec![0; algorithm.hash_bytes()];
        random(&mut bytes);
        Self { algorithm, identifier: identifier[0], bytes }
    }

    /// CHAP_A.
    pub const fn algorithm(&self) -> ChapAlgorithm {
        self.algorithm
    }

    /// CHAP_I.
    pub const fn identifier(&self) -> u8 {
        self.identifier
    }

    /// CHAP_C.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Checks the answer against the user's secrets; `None` is an unknown user, who takes as long as a known
    /// one. On success gives our own response, when asked for one.
    pub fn verify(
        self,
        answer: ChapAnswer<'_>,
        credentials: Option<ChapCredentials<'_>>,
    ) -> Result<Option<ChapResponse>, ChapError> {
        let response = decode_binary(answer.response, HASH_BYTES_MAX)?;
        if response.len() != self.algorithm.hash_bytes() {
            return Err(ChapError::BadResponseLength);
        }
        let stand_in = Secret::stand_in();
        let secret = credentials.map_or(&stand_in, |known| known.secret);
        let expected = respond(self.algorithm, self.identifier, secret, &self.bytes);
        let equal = bool::from(same(expected.as_bytes(), &response));
        let credentials = match credentials {
            Some(credentials) if equal => credentials,
            _ => return Err(ChapError::WrongResponse),
        };
        answer.mutual.map(|ask| self.answer_mutual(ask, credentials)).transpose()
    }

    fn answer_mutual(
        &self,
        (identifier, challenge): (&str, &str),
        credentials: ChapCredentials<'_>,
    ) -> Result<ChapResponse, ChapError> {
        let identifier = crate::text::parse_number(identifier, 0..=255)
            .and_then(|number| u8::try_from(number).ok())
            .ok_or(ChapError::BadIdentifier)?;
        let challenge = decode_binary(challenge, LARGE_BINARY_BYTES_MAX)?;
        // Answering our own challenge would hand the initiator, on a second connection, the proof it lacks.
        if challenge == self.bytes {
            return Err(ChapError::ReflectedChallenge);
        }
        let (_, secret) = credentials.mutual.ok_or(ChapError::NoMutualSecret)?;
        if secret.equals(credentials.secret) {
            return Err(ChapError::EqualSecrets);
        }
        Ok(respond(self.algorithm, identifier, secret, &challenge))
    }
}

#[cfg(test)]
mod tests;
