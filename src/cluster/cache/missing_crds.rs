//! Our definitions that the API server lacked at the last list of their kind.

use std::collections::BTreeSet;
use std::sync::Mutex;

use crate::cluster::error::Error;
use crate::cluster::sync::lock;

/// The definitions that were absent at the last list of their kind.
#[derive(Default)]
pub(crate) struct Absent(Mutex<BTreeSet<&'static str>>);

impl Absent {
    /// Refuses a create while a definition is missing.
    pub(crate) fn refuse(&self) -> Result<(), Error> {
        match lock(&self.0).first() {
            Some(name) => Err(Error::NoDefinition { name }),
            None => Ok(()),
        }
    }

    /// Records that a definition is missing. Returns whether this was not known before.
    pub(crate) fn insert(&self, name: &'static str) -> bool {
        lock(&self.0).insert(name)
    }

    /// Records that a definition exists. Returns whether it was the last that was missing.
    pub(crate) fn remove(&self, name: &str) -> bool {
        let mut missing = lock(&self.0);
        missing.remove(name) && missing.is_empty()
    }
}
