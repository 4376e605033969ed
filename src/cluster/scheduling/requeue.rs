//! Requests to reconcile an object without a change from a watch.

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::lifecycle::ObjectKey;

/// The object to reconcile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// A town.
    Town(ObjectKey),
    /// An agent.
    Agent(ObjectKey),
    /// The record of a destruction.
    Tombstone(ObjectKey),
    /// The pod and the claim of this name, without an owner in the watches.
    Child(ObjectKey),
}

/// The sender of requests.
#[derive(Clone, Debug)]
pub struct Looks(UnboundedSender<Look>);

/// The sender and the receiver of requests.
pub fn looks() -> (Looks, UnboundedReceiver<Look>) {
    let (sender, receiver) = unbounded_channel();
    (Looks(sender), receiver)
}

impl Looks {
    /// Enqueues a request.
    pub(crate) fn ask(&self, look: Look) {
        // The receiver is dropped only at the end of the process.
        let _ = self.0.send(look);
    }
}
