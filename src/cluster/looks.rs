//! Asking for a look at an object that no watch has reported a change of.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::lifecycle::ObjectKey;

/// What is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A town.
    Town(ObjectKey),
    /// An agent.
    Agent(ObjectKey),
    /// The record of a destruction.
    Tombstone(ObjectKey),
    /// The pod and the claim of this name, of which the watches show no owner.
    Child(ObjectKey),
}

/// Where looks are asked for.
#[derive(Clone, Debug)]
pub struct Looks(UnboundedSender<Look>);

/// Where looks are asked for, and where they come out.
pub fn looks() -> (Looks, UnboundedReceiver<Look>) {
    let (sender, receiver) = unbounded_channel();
    (Looks(sender), receiver)
}

impl Looks {
    /// Asks for a look.
    pub(super) fn ask(&self, look: Look) {
        // The other end is gone only while the process ends.
        let _ = self.0.send(look);
    }
}
