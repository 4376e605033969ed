//! The safety checks by name, so that a test can show that each is needed.
//!
//! A check is always made. Only in a build with the feature `mutations`, which no release has, can a thread switch
//! one off.

/// A safety check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nothing is deleted by destruction before the tombstone is durable.
    TombstoneFirst,
    /// Nothing is created except for an owner that a read past every cache has shown alive.
    ProofOfLife,
    /// A delete names the UID of what is to be deleted.
    UidOfDeletes,
    /// What is still going is not gone.
    Absence,
    /// A list that failed is not an empty one.
    FailClosed,
    /// A create without an answer may still take effect.
    LateCreates,
    /// A write is sent only while this process leads, with a margin.
    Fence,
}

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` switches safety checks off: it is for tests only");

#[cfg(not(feature = "mutations"))]
impl Guard {
    /// Whether the check is made: always.
    pub const fn holds(self) -> bool {
        true
    }
}

#[cfg(feature = "mutations")]
thread_local! {
    static OFF: std::cell::Cell<Option<Guard>> = const { std::cell::Cell::new(None) };
}

#[cfg(feature = "mutations")]
impl Guard {
    /// Whether the check is made.
    pub fn holds(self) -> bool {
        OFF.get() != Some(self)
    }

    /// Does something without the check.
    pub fn without<T>(self, act: impl FnOnce() -> T) -> T {
        OFF.set(Some(self));
        let done = act();
        OFF.set(None);
        done
    }
}
