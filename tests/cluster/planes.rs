//! The control planes of single stories. A story gets the control plane of an ended story if its objects are the same as
//! those of a new one: the start of a control plane costs several seconds of a processor.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bed::Options;

use crate::common::cluster::Cluster;
use crate::common::handover::Inventory;
use crate::common::suite::record;

/// The number of control planes without a story beside those of the stories with a seat.
const SPARE: usize = 1;

/// The flags of the API server and of the controller manager.
pub type Flags = (Vec<String>, Vec<String>);

#[derive(Default)]
struct State {
    /// The control planes without a story.
    spare: Vec<Plane>,
    /// The flags of the stories that wait for a control plane.
    wanted: Vec<Flags>,
}

/// The control planes that stories hand on.
#[derive(Default)]
pub struct Planes(Mutex<State>);

/// A control plane, with its objects before a story.
pub struct Plane {
    flags: Flags,
    pub cluster: Arc<Cluster>,
    objects: Inventory,
}

impl Planes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Announces a story with these flags, so that it can get the control plane of an earlier story.
    pub fn announce(&self, flags: Flags) {
        self.state().wanted.push(flags);
    }

    /// A control plane for an announced story: one without a story, or else a new one.
    pub async fn take(&self, flags: Flags) -> Plane {
        let (found, surplus) = {
            let mut state = self.state();
            if let Some(at) = state.wanted.iter().position(|wanted| *wanted == flags) {
                state.wanted.swap_remove(at);
            }
            let found = state.spare.iter().position(|spare| spare.flags == flags);
            let found = found.map(|at| state.spare.swap_remove(at));
            // The limit of control planes also holds for those without a story.
            let is_full = found.is_none() && state.spare.len() >= SPARE;
            (found, is_full.then(|| state.spare.swap_remove(0)))
        };
        if let Some(plane) = found {
            return plane;
        }
        // The surplus control plane ends before the new one starts.
        drop(surplus);
        let (api_server_args, controller_manager_args) = flags.clone();
        let options = Options { name: "own".into(), api_server_args, controller_manager_args };
        let cluster = Arc::new(Cluster::start(options).await);
        let objects = Inventory::of(&cluster.client()).await.unwrap_or_else(|why| panic!("{why}"));
        Plane { flags, cluster, objects }
    }

    /// Takes back a control plane, and prepares it for a waiting story.
    pub async fn give_back(&self, mut plane: Plane, story: &str) {
        if !self.state().wanted.contains(&plane.flags) || plane.cluster.plane().is_disturbed() {
            return;
        }
        match plane.objects.restore(&plane.cluster.client()).await {
            Ok(objects) => {
                plane.objects = objects;
                plane.cluster.begin_audit_log();
                self.state().spare.push(plane);
                record("hands on its cluster", story);
            }
            Err(why) => record(&format!("keeps its cluster: {why}"), story),
        }
    }
}
