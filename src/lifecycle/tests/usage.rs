//! The run time of pods, which the operator counts by month.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{TownBuilder, mayor, minute, pod, running_town, town, uid};
use crate::api::{AsleepReason, UsageStatus};
use crate::lifecycle::{Plan, Run};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// Minute 0 is the first second of this month.
const MONTH: &str = "2030-01";

fn usage(plan: &Plan<crate::api::TownStatus>) -> UsageStatus {
    plan.status.clone().unwrap().usage.unwrap()
}

fn counted(town: TownBuilder, seconds: i64, since: Timestamp) -> TownBuilder {
    town.status(|s| {
        s.usage = Some(UsageStatus { month: MONTH.into(), pod_seconds: seconds, count_time: Time(since) });
    })
}

#[test]
fn pod_time_is_counted_from_the_start_or_the_last_count() {
    let first = usage(&running_town().decide(minute(10)));
    assert_eq!((first.month.as_str(), first.pod_seconds, first.count_time.0), (MONTH, 600, minute(10)));
    let next = usage(&counted(running_town(), 600, minute(10)).decide(minute(15)));
    assert_eq!((next.pod_seconds, next.count_time.0), (900, minute(15)));
    let two =
        usage(&counted(running_town(), 600, minute(10)).with(mayor().started().running()).decide(minute(15)));
    assert_eq!(two.pod_seconds, 600 + 2 * 300, "each pod for itself");
    let younger = town().awake().pod(pod("gas").created(minute(14)).ready());
    assert_eq!(usage(&counted(younger, 600, minute(10)).decide(minute(15))).pod_seconds, 660);
}

#[test]
fn pod_time_is_counted_until_the_end_and_never_without_a_start() {
    let ended = counted(town().awake().pod(pod("gas").exited(1, minute(12))), 600, minute(10));
    assert_eq!(usage(&ended.decide(minute(15))).pod_seconds, 720);
    let long_ended = counted(town().awake().pod(pod("gas").exited(1, minute(5))), 600, minute(10));
    assert_eq!(usage(&long_ended.decide(minute(15))).pod_seconds, 600);
    let pending = counted(town().awake().pod(pod("gas")), 600, minute(10));
    assert_eq!(usage(&pending.decide(minute(15))).pod_seconds, 600);
    let asleep = counted(town().draining(AsleepReason::Idle, minute(10)), 600, minute(10));
    assert_eq!(usage(&asleep.decide(minute(15))).pod_seconds, 600);
}

// code.md A30: the operator wrote the town's status at minute 10, and writes it next at minute 15.
#[test]
fn pod_that_came_and_went_between_two_writes_is_counted_once() {
    let run =
        |name: &str, started, ended| Run { pod: uid(name), started: minute(started), ended: minute(ended) };
    let mut town = counted(running_town(), 600, minute(10));
    town.0.gone_pods =
        vec![run("short", 11, 13), run("older", 5, 12), run("counted", 1, 9), run("gas-pod", 0, 14)];
    let now = usage(&town.decide(minute(15)));
    assert_eq!(now.pod_seconds, 600 + 300 + 120 + 120, "the pod that is there counts as that");
    let again = usage(&counted(town, 1140, minute(15)).decide(minute(16)));
    assert_eq!(again.pod_seconds, 1140 + 60);
}

#[test]
fn usage_of_a_new_month_starts_at_its_first_second() {
    let february = minute(31 * 24 * 60);
    let now = february + SignedDuration::from_mins(5);
    let town = counted(running_town(), 9000, february - SignedDuration::from_mins(60)).always_on();
    let usage = usage(&town.decide(now));
    assert_eq!((usage.month.as_str(), usage.pod_seconds), ("2030-02", 300));
}

#[test]
fn usage_count_causes_no_status_write() {
    let town = running_town().always_on().settled(minute(1));
    let plan = town.decide(minute(600));
    assert_eq!(plan.status, town.0.town.status);
}

#[test]
fn usage_is_not_reduced_when_the_clock_steps_back() {
    let town = counted(running_town(), 600, minute(10));
    assert_eq!(usage(&town.decide(minute(5))).pod_seconds, 600);
}
