//! Every row of the table of endings, for the pod of a Town, of a Session agent and of a Task agent.

use super::build::{PodBuilder, failures, mayor, minute, pod, polecat, second, town};
use crate::api::Outcome;
use crate::lifecycle::{Ending, PodPhase, TABLE};

/// A pod that was created at minute 90, ran, and ended in this way at minute 100.
fn ended(owner: &str, ending: Ending) -> PodBuilder {
    let created = || pod(owner).created(minute(90));
    let failed = |reason: &str| {
        let mut pod = created().exited(137, minute(100));
        pod.0.reason = Some(reason.into());
        pod
    };
    let without_containers = || {
        let mut pod = created();
        pod.0.phase = PodPhase::Failed;
        pod.0.not_ready_since = Some(minute(100));
        pod
    };
    match ending {
        Ending::Completed => created().exited(0, minute(100)),
        Ending::ContainerFailed => created().exited(3, minute(100)),
        Ending::OutOfMemory => {
            let mut pod = created().exited(137, minute(100));
            pod.0.termination.as_mut().unwrap().out_of_memory = true;
            pod
        }
        Ending::OwnLimit => failed("Evicted"),
        Ending::DeadlineExceeded => failed("DeadlineExceeded"),
        Ending::Disrupted => {
            // A container that exits with 0 on SIGTERM leaves the pod Succeeded.
            let mut pod = created().exited(0, minute(100));
            pod.0.disrupted = true;
            pod
        }
        Ending::Rejected => {
            let mut pod = without_containers();
            pod.0.rejected = true;
            pod
        }
        Ending::NeverRan => without_containers(),
        Ending::Deleted => created().exited(143, minute(100)).told_to_stop(minute(99)),
        Ending::ContainersLost => {
            let mut pod = created().exited(255, minute(100));
            pod.0.termination.as_mut().unwrap().lost = true;
            pod
        }
    }
}

// decisions 1.2; code:A6, code:A8, code:A18; reports:P1, reports:P5, reports:P31
#[test]
fn task_attempt_outcome_follows_the_table_of_endings() {
    for row in TABLE {
        let case = row.ending;
        let agent = polecat("toast").hook("b1").attempt("b1", 2, minute(90)).pod(|_| {
            let pod = ended("toast", case);
            if pod.0.hook.is_some() { pod } else { pod.bead("b1") }
        });
        assert_eq!(agent.0.pod.as_ref().unwrap().ending(), Some(case));
        let plan = agent.decide(minute(100));
        let work = plan.status.unwrap().work.unwrap();
        assert_eq!(work.outcome, Some(row.outcome), "{case:?}");
        assert_eq!(work.done.len(), usize::from(row.outcome == Outcome::Done), "{case:?}");
        let attempts = if row.outcome == Outcome::Interrupted { 1 } else { 2 };
        assert_eq!((work.attempts, row.counts), (attempts, row.outcome == Outcome::Failed), "{case:?}");
    }
}

#[test]
fn failed_starts_of_town_and_session_pods_follow_the_table_of_endings() {
    for row in TABLE {
        let case = row.ending;
        // The pods must run while the town is awake: exit code 0 is also a failed start.
        let counts = row.counts || case == Ending::Completed;
        let of_town = town().awake().always_on().recorded_pod(minute(90)).pod(ended("gas", case));
        let plan = of_town.decide(minute(111));
        let restarts = plan.status.unwrap().restarts.unwrap();
        assert_eq!((restarts.count, restarts.disruptions > 0), (i32::from(counts), !counts), "{case:?}");
        let of_mayor = mayor().recorded_pod(minute(90)).pod(|_| ended("mayor", case));
        let restarts = of_mayor.decide(minute(111)).status.unwrap().restarts.unwrap();
        assert_eq!((restarts.count, restarts.disruptions > 0), (i32::from(counts), !counts), "{case:?}");
    }
}

#[test]
fn pause_before_the_next_start_grows_after_every_ending_except_a_deletion() {
    for row in TABLE.into_iter().filter(|row| row.ending != Ending::Deleted) {
        for (before, wait) in [(0, 30), (1, 60), (2, 120), (3, 300)] {
            let case = format!("{:?} after {before}", row.ending);
            let mayor = mayor().recorded_pod(minute(90)).pod(|_| ended("mayor", row.ending)).status(|s| {
                s.restarts =
                    Some(crate::api::RestartsStatus { disruptions: before, ..failures(before, minute(80)) });
            });
            let mut young = mayor.clone();
            young.0.pod.as_mut().unwrap().started = Some(minute(99));
            assert_eq!(young.decide(minute(100)).look_again, Some(second(6000 + wait)), "{case}");
        }
    }
}

#[test]
fn ending_table_returns_the_row_of_each_ending() {
    for row in TABLE {
        assert_eq!(row.ending.row(), row);
    }
}
