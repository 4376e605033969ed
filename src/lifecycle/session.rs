//! An agent of mode Session: its pod lives while the town is awake.

use k8s_openapi::jiff::Timestamp;

use super::clock::stamp;
use super::conditions::Conditions;
use super::facts::{AgentSnapshot, TownFacts};
use super::needs::{agent_claim, has_template, no_template, unusable_claim};
use super::plan::{Action, Plan};
use super::pods::{STARTING_TEXT, end_pod, pod_conditions, show_back_off};
use super::restart::{self, Next};
use super::status::{agent_status, finish_agent, show_pod};
use crate::api::condition::{self, reason};
use crate::api::{AgentStatus, WorkStatus};

/// What should happen to a bound Session agent of a live town.
pub(super) fn decide(s: &AgentSnapshot, town: &TownFacts, now: Timestamp) -> Plan<AgentStatus> {
    let mut status = agent_status(s);
    let mut c = Conditions::of_agent();
    show_hook(s, &mut c, &status);
    show_pod(s, &mut c);
    if !has_template(s, town) {
        return no_template(s, status, c, now);
    }
    if !town.awake {
        // Its pod is the town's to delete.
        if s.pod.is_some() {
            return Plan::nothing();
        }
        status.pod = restart::gone(status.pod.as_ref());
        status.restarts = None;
        c.ready(reason::ASLEEP, "the town is asleep");
        return finish_agent(s, status, c, "Asleep", now);
    }
    let mut actions = Vec::new();
    match agent_claim(s, &mut status) {
        Ok(action) => actions.extend(action),
        Err(text) => return unusable_claim(s, status, c, text, now),
    }
    match restart::next(s.pod.as_ref(), status.pod.as_ref(), status.restarts.as_ref(), now) {
        Next::Keep => keep(s, status, c, actions, now),
        Next::Wait => {
            c.reconciling(reason::STARTING, "waiting for the old pod to go");
            finish_agent(s, status, c, "Starting", now)
        }
        Next::BackOff(at) => {
            show_back_off(s.pod.as_ref(), at, &mut c);
            finish_agent(s, status, c, "Starting", now).look_again_at(Some(at))
        }
        Next::Delete(restarts) => {
            status.restarts = restarts;
            status.pod = restart::gone(status.pod.as_ref());
            c.reconciling(reason::STARTING, "replacing a pod that ended");
            let end = s.pod.iter().flat_map(end_pod).collect();
            finish_agent(s, status, c, "Starting", now).with_actions(end)
        }
        Next::Create(restarts) => {
            actions.push(Action::CreatePod);
            status.restarts = restarts;
            status.pod = restart::gone(status.pod.as_ref());
            c.reconciling(reason::STARTING, STARTING_TEXT);
            finish_agent(s, status, c, "Starting", now).with_actions(actions)
        }
    }
}

/// The pod is there: it gets the hook it should have, and what it was given is recorded.
fn keep(
    s: &AgentSnapshot,
    mut status: AgentStatus,
    mut c: Conditions,
    mut actions: Vec<Action>,
    now: Timestamp,
) -> Plan<AgentStatus> {
    let Some(pod) = &s.pod else { return Plan::nothing() };
    status.pod = Some(restart::pod_record(pod));
    let (ready, later) = pod_conditions(pod, &mut c, now);
    let hook = s.agent.spec.hook.as_ref();
    if pod.hook.as_ref() != hook {
        actions.push(Action::DeliverHook { pod: pod.key.clone(), uid: pod.uid.clone(), hook: hook.cloned() });
    } else if ready
        && let Some(hook) = hook
        && status.work.as_ref().is_none_or(|w| w.bead != hook.bead)
    {
        let done = status.work.map(|w| w.done).unwrap_or_default();
        status.work = Some(WorkStatus {
            bead: hook.bead.clone(),
            started_at: Some(stamp(now)),
            done,
            ..WorkStatus::default()
        });
        show_hook(s, &mut c, &status);
    }
    let phase = if ready { "Idle" } else { "Starting" };
    finish_agent(s, status, c, phase, now).with_actions(actions).look_again_at(later)
}

fn show_hook(s: &AgentSnapshot, c: &mut Conditions, status: &AgentStatus) {
    if let Some(hook) = &s.agent.spec.hook {
        let delivered = status.work.as_ref().is_some_and(|w| w.bead == hook.bead);
        let text = if delivered { "delivered" } else { "not delivered yet" };
        c.set(condition::FINISHED, false, reason::UNFINISHED, format!("bead {} is {text}", hook.bead));
    }
}
