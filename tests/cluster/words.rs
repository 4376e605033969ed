//! What stories say of towns and agents.

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use serde_json::{Value, json};
use town_operator::api::{Agent, Town};

/// A town or an agent, as its status tells of it.
pub trait Told: ResourceExt {
    /// Its phase; empty before the first decision.
    fn phase(&self) -> &str;

    /// Its conditions.
    fn conditions(&self) -> &[Condition];

    /// The UID of its pod, as far as the status says.
    fn pod_uid(&self) -> Option<&str>;

    /// Whether a condition is True.
    fn is(&self, kind: &str) -> bool {
        self.conditions().iter().any(|c| c.type_ == kind && c.status == "True")
    }

    /// The reason of a condition; empty if there is no such condition.
    fn reason(&self, kind: &str) -> &str {
        self.conditions().iter().find(|c| c.type_ == kind).map_or("", |c| &c.reason)
    }

    /// The message of a condition; empty if there is no such condition.
    fn message(&self, kind: &str) -> &str {
        self.conditions().iter().find(|c| c.type_ == kind).map_or("", |c| &c.message)
    }

    /// Whether its status speaks of the spec that it has now.
    fn is_current(&self) -> bool;

    /// Its UID.
    fn id(&self) -> String {
        self.uid().expect("an object of the API server")
    }

    /// The name that its pod and its claim have.
    fn child(&self) -> String {
        let name = self.name_any().replace('.', "-");
        let prefix: String = name.chars().take(40).collect();
        format!("{}-{}", prefix.trim_end_matches('-'), &self.id()[..8])
    }
}

impl Told for Town {
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn pod_uid(&self) -> Option<&str> {
        self.status.as_ref()?.pod.as_ref()?.uid.as_deref()
    }

    fn is_current(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.observed_generation == self.metadata.generation)
    }
}

impl Told for Agent {
    fn phase(&self) -> &str {
        self.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or_default()
    }

    fn conditions(&self) -> &[Condition] {
        self.status.as_ref().map_or(&[], |status| &status.conditions)
    }

    fn pod_uid(&self) -> Option<&str> {
        self.status.as_ref()?.pod.as_ref()?.uid.as_deref()
    }

    fn is_current(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.observed_generation == self.metadata.generation)
    }
}

/// Whether a town is awake and has no work.
pub fn idle(town: &Town) -> bool {
    town.phase() == "Idle" && town.is("Ready")
}

/// Whether a town sleeps.
pub fn asleep(town: &Town) -> bool {
    town.phase() == "Asleep" && town.is("Asleep") && town.is("Ready")
}

/// Whether an agent does its bead.
pub fn works(agent: &Agent) -> bool {
    agent.phase() == "Working"
}

/// The beads that an agent has done.
pub fn done(agent: &Agent) -> &[String] {
    agent.status.as_ref().and_then(|status| status.work.as_ref()).map_or(&[], |work| &work.done)
}

/// The attempts at the bead that an agent was last given.
pub fn attempts(agent: &Agent) -> i32 {
    agent.status.as_ref().and_then(|status| status.work.as_ref()).map_or(0, |work| work.attempts)
}

/// Seconds from one time to another.
pub fn seconds(from: &Time, to: &Time) -> i64 {
    to.0.as_second() - from.0.as_second()
}

/// A polecat, which is of mode Task, with this bead on its hook.
pub fn polecat(bead: &str) -> Value {
    json!({"role": "Polecat", "rig": "core", "hook": {"bead": bead}})
}

/// A town with a pod of its own, a template for agents and a rig for polecats, that sleeps only after long.
pub fn workshop() -> Value {
    let template = crate::common::story::template();
    json!({"template": template, "agentTemplate": template, "rigs": [{"name": "core"}], "drain": {"timeout": "0s"}})
}

/// The same with more, or something else, in its spec.
pub fn workshop_with(more: Value) -> Value {
    let mut spec = workshop();
    json_patch::merge(&mut spec, &more);
    spec
}

/// A pod template with this image.
pub fn template_of(image: &str) -> Value {
    let mut template = crate::common::story::template();
    template["spec"]["containers"][0]["image"] = image.into();
    template
}

/// The image of a pod's first container.
pub fn image(pod: &Pod) -> &str {
    pod.spec.as_ref().and_then(|spec| spec.containers[0].image.as_deref()).unwrap_or_default()
}
