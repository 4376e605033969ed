//! Creates the children of an owner, after the proof that the owner is alive.

use k8s_openapi::jiff::Timestamp;

use crate::api::names;
use crate::cluster::act::live_owner::{LiveOwner, closed};
use crate::cluster::act::subject::{Outcome, Subject};
use crate::cluster::cache::children::claim_of;
use crate::cluster::context::Cluster;
use crate::cluster::error::Error;
use crate::cluster::read::secrets::all_there;
use crate::lifecycle::{self, ObjectKey, OwnerRef, Uid, label, mode};
use crate::resources;
use crate::resources::{claim_facts, pod_facts};

/// The child to create.
#[derive(Clone, Copy)]
pub(crate) enum Child {
    Claim,
    Service,
    Token,
    Pod,
}

/// Creates a child of the owner from the current spec.
pub(crate) async fn create(
    cluster: &Cluster,
    subject: Subject<'_>,
    owner: &OwnerRef,
    child: Child,
    now: Timestamp,
    outcome: &mut Outcome,
) -> Result<(), Error> {
    let (town, agent) = match subject {
        Subject::Town(_) => (owner.clone(), None),
        Subject::Agent(agent) => match label(&agent.metadata, names::TOWN_UID) {
            Some(uid) => (subject.town_ref(&Uid::new(uid)), Some(owner)),
            None => return Err(Error::NotLive { why: format!("agent {} is not bound", owner.key) }),
        },
    };
    let mut gates = Vec::new();
    for uid in [Some(&town.uid), agent.map(|agent| &agent.uid)].into_iter().flatten() {
        gates.push(cluster.gates.shared(uid).await.ok_or_else(|| closed(uid))?);
    }
    let live = LiveOwner::prove(cluster, &gates, &town, agent).await?;
    let claim = outcome
        .claim
        .clone()
        .or_else(|| claim_of(&cluster.caches, &cluster.install, live.town(), live.agent()));
    let claim = claim.as_ref().map(|claim| claim.child.key.name.as_str());
    let (town, agent, install) = (live.town(), live.agent(), &cluster.install);
    match child {
        Child::Claim => {
            let claim = match agent {
                Some(agent) => resources::agent_claim(agent, install),
                None => resources::town_claim(town, install),
            };
            outcome.claim = claim_facts(&live.create(cluster, claim, now).await?);
        }
        Child::Service => {
            live.create(cluster, resources::town_service(town, install), now).await?;
        }
        Child::Token => {
            let secret = match agent {
                Some(agent) => resources::agent_token(agent, install, &token()),
                None => resources::town_token(town, install, &token()),
            };
            let made = live.create(cluster, secret, now).await?;
            cluster.probes.token_made(&ObjectKey::of(&made.metadata));
        }
        Child::Pod => {
            live.awake(&install.0)?;
            let group = cluster.limits.volume_group;
            let (pod, needed) = match agent {
                Some(agent) => {
                    lifecycle::may_begin(agent).map_err(|why| Error::Conflict {
                        what: format!("create the pod of agent {}: {why}", owner.key),
                    })?;
                    (
                        resources::agent_pod(agent, mode(agent), town, claim, install, group),
                        resources::needed_secrets_of_agent(agent, town),
                    )
                }
                None => (
                    resources::town_pod(town, claim, install, group),
                    resources::needed_secrets_of_town(town),
                ),
            };
            all_there(&cluster.client, &owner.key.namespace, &needed).await?;
            outcome.pod = pod_facts(&live.create(cluster, pod, now).await?);
        }
    }
    Ok(())
}

/// A random token of 256 bits, in hexadecimal digits.
fn token() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_has_64_hex_digits_and_is_never_repeated() {
        let (one, other) = (token(), token());
        assert!(one.len() == 64 && one.chars().all(|c| c.is_ascii_hexdigit()), "{one}");
        assert_ne!(one, other);
        assert_ne!(one[..32], one[32..]);
    }
}
