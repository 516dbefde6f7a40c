//! Stages and the changes between them that a request may ask for (section 11.12.3).

use crate::error::LoginError;
use crate::params::Stage;
use crate::pdu::LoginRequest;

impl Stage {
    pub(super) const fn from_wire(stage: u8) -> Option<Self> {
        match stage {
            0 => Some(Self::Security),
            1 => Some(Self::Operational),
            3 => Some(Self::FullFeature),
            _ => None,
        }
    }

    pub(super) const fn to_wire(self) -> u8 {
        match self {
            Self::Security => 0,
            Self::Operational => 1,
            Self::FullFeature => 3,
        }
    }
}

/// What the flags of one request ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct StageRequest {
    /// CSG: never the full feature phase.
    pub current: Stage,
    /// NSG, with T.
    pub next: Option<Stage>,
    /// C: the text goes on.
    pub continued: bool,
}

impl StageRequest {
    /// Of the sixteen stage pairs three may be asked for with T, and never together with C. Without T, NSG is
    /// reserved and ignored.
    pub fn parse(request: &LoginRequest) -> Result<Self, LoginError> {
        let current = match Stage::from_wire(request.csg()) {
            Some(stage @ (Stage::Security | Stage::Operational)) => stage,
            _ => return Err(LoginError::BadStage),
        };
        let continued = request.is_continued();
        if !request.is_transit() {
            return Ok(Self { current, next: None, continued });
        }
        match Stage::from_wire(request.nsg()) {
            Some(next) if next > current && !continued => Ok(Self { current, next: Some(next), continued }),
            _ => Err(LoginError::BadStage),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_stages_with_all_flags() {
        for flags in 0..=255u8 {
            let request = LoginRequest { flags, ..LoginRequest::default() };
            let (transit, continued) = (flags & 0x80 != 0, flags & 0x40 != 0);
            let expected = match (transit, continued, request.csg(), request.nsg()) {
                (false, _, 0, _) => Some((Stage::Security, None)),
                (false, _, 1, _) => Some((Stage::Operational, None)),
                (true, false, 0, 1) => Some((Stage::Security, Some(Stage::Operational))),
                (true, false, 0, 3) => Some((Stage::Security, Some(Stage::FullFeature))),
                (true, false, 1, 3) => Some((Stage::Operational, Some(Stage::FullFeature))),
                _ => None,
            };
            let expected = expected
                .map(|(current, next)| StageRequest { current, next, continued })
                .ok_or(LoginError::BadStage);
            assert_eq!(StageRequest::parse(&request), expected, "flags {flags:#04x}");
        }
    }
}
