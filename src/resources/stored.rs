//! The stored form of our own objects. Only this form stays in memory.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::digest;
use crate::api::{Agent, PodTemplate, Town, names};
use crate::lifecycle::cut;

/// The length of an annotation value that is kept, in bytes.
const ANNOTATION: usize = 1024;

/// The stored form of a Town: without the templates, and without unused metadata.
pub fn kept_town(mut town: Town) -> Town {
    keep_metadata(&mut town.metadata);
    keep_digest(&mut town.spec.template);
    keep_digest(&mut town.spec.agent_template);
    town
}

/// The stored form of an Agent: without the template, and without unused metadata.
pub fn kept_agent(mut agent: Agent) -> Agent {
    keep_metadata(&mut agent.metadata);
    keep_digest(&mut agent.spec.template);
    agent
}

fn keep_digest(template: &mut Option<PodTemplate>) {
    if let Some(template) = template {
        *template = PodTemplate::Digest(digest(template));
    }
}

fn keep_metadata(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.owner_references = None;
    let ours = |key: &String| key.starts_with(names::PREFIX);
    if let Some(labels) = &mut meta.labels {
        labels.retain(|key, _| ours(key));
    }
    if let Some(annotations) = &mut meta.annotations {
        annotations.retain(|key, _| ours(key));
        for value in annotations.values_mut() {
            if value.len() > ANNOTATION {
                *value = cut(value, ANNOTATION).to_owned();
            }
        }
    }
}
