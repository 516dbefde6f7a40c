//! Bugs made on purpose, to prove that the tests find them. Nothing of this is in a build without the feature `planted`.

/// A bug of a driver.
#[cfg(feature = "planted")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Planted {
    /// Entries of the completion ring are taken although their phase says that they are old.
    StalePhase,
    /// The identifier of a command that is late is used again before the command has ended.
    CidReuse,
    /// The buffers of a command that is late are taken back before the command has ended.
    EarlyReclaim,
    /// The doorbell reaches the controller before the entry that it announces.
    MissingFence,
}

/// Which bug there is, if any.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Bugs {
    #[cfg(feature = "planted")]
    pub(crate) bug: Option<Planted>,
}

macro_rules! asks {
    ($($name:ident: $bug:ident;)*) => {
        impl Bugs {
            $(
                #[inline]
                pub(crate) fn $name(self) -> bool {
                    #[cfg(feature = "planted")]
                    return self.bug == Some(Planted::$bug);
                    #[cfg(not(feature = "planted"))]
                    false
                }
            )*
        }
    };
}

asks! {
    reuses_cid: CidReuse;
    reclaims_early: EarlyReclaim;
}

#[cfg(feature = "planted")]
asks! {
    accepts_stale_phase: StalePhase;
    has_no_fence: MissingFence;
}
