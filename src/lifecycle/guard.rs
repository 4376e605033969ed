//! The safety checks by name. For each check a test shows that the check is necessary.
//!
//! Invariant kept here: every check is always active. Only a build with the feature `mutations` can disable a check,
//! for one thread. No release has this feature.

/// A safety check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The destruction deletes no object before the tombstone is durable.
    TombstoneFirst,
    /// The operator creates objects only for an owner that an uncached read has proven alive.
    ProofOfLife,
    /// Each delete names the UID of the object.
    UidOfDeletes,
    /// An object that is being deleted is not gone yet.
    Absence,
    /// A failed list is not an empty list.
    FailClosed,
    /// A create without an answer may still take effect.
    LateCreates,
    /// The operator sends a write only while this process is the leader, with a margin.
    Fence,
    /// An agent that began takes its place although the watch does not show its begin yet.
    OwnBegins,
}

#[cfg(all(feature = "mutations", not(debug_assertions)))]
compile_error!("the feature `mutations` switches safety checks off: it is for tests only");

#[cfg(not(feature = "mutations"))]
impl Guard {
    /// Whether the check is active: always.
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
    /// Whether the check is active.
    pub fn holds(self) -> bool {
        OFF.get() != Some(self)
    }

    /// Executes the function without the check.
    pub fn without<T>(self, act: impl FnOnce() -> T) -> T {
        OFF.set(Some(self));
        let done = act();
        OFF.set(None);
        done
    }
}
