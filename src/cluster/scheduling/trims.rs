//! The turns to trim the records of a namespace.

use std::collections::HashSet;
use std::sync::Mutex;

use crate::cluster::sync::lock;

/// The namespaces whose records are being trimmed. Only one reconcile at a time trims a namespace.
#[derive(Default)]
pub(crate) struct Trims(Mutex<HashSet<String>>);

/// The right of one reconcile to trim a namespace.
pub(crate) struct Turn<'a>(&'a Trims, &'a str);

impl Trims {
    pub(crate) fn begin<'a>(&'a self, namespace: &'a str) -> Option<Turn<'a>> {
        // `then_some` is wrong here: it would create and drop a turn eagerly, and so end the turn of another
        // reconcile.
        lock(&self.0).insert(namespace.to_owned()).then(|| Turn(self, namespace))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        lock(&self.0.0).remove(self.1);
    }
}
