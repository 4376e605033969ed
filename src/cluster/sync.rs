//! Locks.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks the mutex. A panic of a holder leaves the maps in here consistent, so poison is ignored.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
