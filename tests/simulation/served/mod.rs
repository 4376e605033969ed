//! Tests of the simulated server through kube's client. The conformance suite compares the server with a real one.

mod life;
mod living;
mod watching;
mod wires;

use std::sync::{Arc, Mutex, MutexGuard};

use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

use crate::server::wire::client;
use crate::server::world::World;

/// A world in January 2030, and a client of it.
pub struct Stage {
    pub world: Arc<Mutex<World>>,
    pub client: Client,
}

impl Stage {
    pub fn new() -> Self {
        let world = Arc::new(Mutex::new(World::new(Timestamp::from_second(1_893_456_000).unwrap(), 1)));
        Self { client: client(&world), world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

/// A town with an empty spec.
pub fn town(name: &str) -> Town {
    serde_json::from_value(object("Town", name, json!({}))).unwrap()
}

pub fn agent(name: &str, spec: Value) -> Agent {
    serde_json::from_value(object("Agent", name, spec)).unwrap()
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "gastown.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// The code and the reason of an error of the server.
#[track_caller]
pub fn refused<T>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        Err(error) => panic!("not an answer: {error}"),
        Ok(_) => panic!("not refused"),
    }
}
