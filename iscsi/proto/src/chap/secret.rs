//! A CHAP secret: never printed, wiped when dropped.

use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::limits::{SECRET_BYTES_MAX, SECRET_BYTES_MIN};

/// The secret is shorter or longer than allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CHAP secret has 12 to 255 bytes, this one has {length_bytes}; choose another")]
pub struct SecretError {
    /// Its length.
    pub length_bytes: usize,
}

/// A secret of 12 to 255 bytes. Has no `Debug` or `Display` on purpose, so no log can hold it.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes a copy of the bytes; the caller wipes its own.
    pub fn new(bytes: &[u8]) -> Result<Self, SecretError> {
        if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
            return Err(SecretError { length_bytes: bytes.len() });
        }
        Ok(Self(Zeroizing::new(bytes.to_vec())))
    }

    /// What an unknown user's response is compared with: the work is the same, the result is not used.
    pub(super) fn stand_in() -> Self {
        Self(Zeroizing::new(vec![0; SECRET_BYTES_MIN]))
    }

    /// The bytes, for hashing and for storing.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// Compares in a time that does not depend on where they differ.
    pub fn equals(&self, other: &Self) -> bool {
        bool::from(self.0.as_slice().ct_eq(other.0.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_checked_at_its_edges() {
        for length in [12, 13, 254, 255] {
            assert!(Secret::new(&vec![b's'; length]).is_ok());
        }
        for length_bytes in [0, 1, 11, 256, 1000] {
            assert_eq!(Secret::new(&vec![b's'; length_bytes]).err(), Some(SecretError { length_bytes }));
        }
    }

    /// Does not compile when `Secret` can be printed: the method would then be ambiguous.
    #[test]
    fn a_secret_cannot_be_printed() {
        trait NotPrintable<Marker> {
            fn holds() -> bool {
                true
            }
        }
        struct Debugged;
        struct Displayed;
        impl<T: ?Sized> NotPrintable<()> for T {}
        impl<T: ?Sized + core::fmt::Debug> NotPrintable<Debugged> for T {}
        impl<T: ?Sized + core::fmt::Display> NotPrintable<Displayed> for T {}
        assert!(<Secret as NotPrintable<_>>::holds());
    }

    #[test]
    fn equality_is_of_bytes() {
        let secret = |text: &str| Secret::new(text.as_bytes()).expect("long enough");
        assert!(secret("abcdefghijkl").equals(&secret("abcdefghijkl")));
        assert!(!secret("abcdefghijkl").equals(&secret("abcdefghijkm")));
        assert!(!secret("abcdefghijkl").equals(&secret("abcdefghijklm")));
    }
}
