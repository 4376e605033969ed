//! An attached user: input counts as work, for a limited time, and costs few writes.

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use super::build::{Read, TownBuilder, mayor, minute, quiet, running_town, second, sleep_time, typed};
use crate::api::{ActivityReport, TownStatus};
use crate::lifecycle::Plan;

fn attach_time(plan: &Plan<TownStatus>) -> Option<Timestamp> {
    plan.status.as_ref()?.attach_time.as_ref().map(|t| t.0)
}

/// A town in which a user began to type at minute 20.
fn typing() -> TownBuilder {
    running_town().heard(minute(20), typed(minute(20))).settled(minute(20))
}

#[test]
fn input_of_an_attached_user_moves_the_sleep_time() {
    let plan = running_town().heard(minute(21), typed(minute(20))).decide(minute(21));
    assert_eq!((sleep_time(&plan), attach_time(&plan)), (Some(minute(50)), Some(minute(21))));
    let silent = || typing().heard(minute(49), typed(minute(20)));
    assert_eq!(silent().decide(minute(49)).phase(), "Idle");
    assert_eq!(silent().decide(minute(50)).phase(), "Draining", "30 minutes after the last input");
}

#[test]
fn attached_user_without_input_does_not_move_the_sleep_time() {
    let silent = ActivityReport { attached: true, ..quiet() };
    let plan = running_town().heard(minute(21), silent).decide(minute(21));
    assert_eq!((sleep_time(&plan), attach_time(&plan)), (Some(minute(30)), None));
    let gone = ActivityReport { attached: false, ..typed(minute(20)) };
    let plan = running_town().heard(minute(21), gone).decide(minute(21));
    assert_eq!(attach_time(&plan), None);
}

#[test]
fn user_input_causes_at_most_three_status_writes_in_an_hour() {
    let mut town = typing();
    let mut writes = 0;
    for at in 21..=80 {
        town = town.heard(minute(at), typed(minute(at)));
        let plan = town.decide(minute(at));
        assert_eq!(plan.phase(), "Idle", "{at}");
        let shown = sleep_time(&plan).unwrap();
        assert!(shown > minute(at), "{at}: {shown} is past");
        writes += usize::from(plan.status != town.0.town.status);
        town = town.after(&plan);
    }
    assert!(writes <= 3, "{writes} writes in an hour of typing");
}

#[test]
fn user_input_is_not_written_when_it_does_not_move_the_sleep_time() {
    // The town woke at minute 25, so that input before that changes nothing.
    let mut town = running_town().woke(minute(25)).heard(minute(26), typed(minute(20))).settled(minute(26));
    for at in 21..24 {
        town = town.heard(minute(27), typed(minute(at)));
        assert_eq!(town.decide(minute(27)).status, town.0.town.status, "{at}");
    }
}

#[test]
fn longer_sleep_after_is_shown_immediately_while_a_user_is_attached() {
    let longer = typing().sleep_after("60m").decide(minute(21));
    assert_eq!(sleep_time(&longer), Some(minute(80)));
}

#[test]
fn user_input_counts_for_at_most_12_hours_after_it_began() {
    let hold = SignedDuration::from_hours(12);
    let end = minute(20) + hold;
    let mut town = typing();
    for late in [0, 10, 29] {
        let now = end + SignedDuration::from_mins(late);
        town = town.heard(now, typed(now)).settled(now);
        assert_eq!(town.decide(now).phase(), "Idle", "{late}");
    }
    let now = end + SignedDuration::from_mins(30);
    let plan = town.heard(now, typed(now)).decide(now);
    assert_eq!(plan.phase(), "Draining", "however much is put in");
}

#[test]
fn attach_max_hold_limits_how_long_user_input_counts() {
    let mut town = typing();
    town.0.attach_max_hold = SignedDuration::from_mins(10);
    let town = town.heard(minute(59), typed(minute(59)));
    assert_eq!(town.decide(minute(59)).phase(), "Idle", "minute 30 counts still");
    let late = town.heard(minute(60), typed(minute(60)));
    assert_eq!(late.decide(minute(60)).phase(), "Draining");
}

#[test]
fn attach_time_restarts_when_a_user_detaches_and_returns() {
    let gone = typing().heard(minute(30), quiet());
    let plan = gone.decide(minute(30));
    assert_eq!(attach_time(&plan), None);
    let back = gone.after(&plan).heard(minute(40), typed(minute(40))).decide(minute(40));
    assert_eq!(attach_time(&back), Some(minute(40)));
}

#[test]
fn last_input_counts_after_the_user_detaches() {
    // The status does not have the last input, because it came before the sleep time in the status.
    let typed_on = typing().heard(minute(45), typed(minute(45))).settled(minute(45));
    let left = ActivityReport { attached: false, ..typed(minute(45)) };
    let plan = typed_on.heard(minute(46), left).decide(minute(46));
    assert_eq!(sleep_time(&plan), Some(minute(75)), "30 minutes after the last input");
}

#[test]
fn last_input_counts_when_the_pod_no_longer_reports_it() {
    let typed_on = typing().heard(minute(45), typed(minute(45))).settled(minute(45));
    let plan = typed_on.clone().heard(minute(46), quiet()).decide(minute(46));
    assert_eq!((sleep_time(&plan), attach_time(&plan)), (Some(minute(75)), None));
    // The last report counts, not the latest input time: a clock may have been corrected.
    let set_right = typed_on.heard(minute(46), typed(minute(40))).settled(minute(46));
    let plan = set_right.heard(minute(47), quiet()).decide(minute(47));
    assert_eq!(sleep_time(&plan), Some(minute(70)));
}

#[test]
fn input_time_of_a_clock_that_is_ahead_counts_as_now() {
    let plan = running_town().heard(minute(20), typed(minute(500))).decide(minute(20));
    assert_eq!(sleep_time(&plan), Some(minute(50)));
}

#[test]
fn old_input_does_not_move_the_sleep_time_back() {
    let plan = running_town().last_active(minute(15)).heard(minute(20), typed(minute(2))).decide(minute(20));
    assert_eq!(sleep_time(&plan), Some(minute(45)));
}

#[test]
fn user_input_in_an_agent_pod_moves_the_sleep_time() {
    let mayor = mayor().started().running().heard(minute(20), typed(minute(20)));
    let plan = running_town().with(mayor).decide(minute(20));
    assert_eq!((sleep_time(&plan), attach_time(&plan)), (Some(minute(50)), Some(minute(20))));
}

#[test]
fn attach_time_is_kept_when_one_of_several_probes_fails() {
    let mayor = || mayor().started().running();
    let typing = running_town().heard(minute(20), quiet()).with(mayor().heard(minute(20), typed(minute(20))));
    let hiccup = typing.settled(minute(20)).without_agents().with(mayor().silent(1, minute(21), minute(21)));
    assert_eq!(attach_time(&hiccup.decide(minute(21))), Some(minute(20)));
    let deaf =
        running_town().silent(1, minute(20), minute(20)).with(mayor().heard(minute(20), typed(minute(20))));
    assert_eq!(attach_time(&deaf.decide(minute(20))), Some(minute(20)), "one who says so is enough");
    let mut gone = hiccup;
    gone.0.pods.retain(|pod| pod.agent_uid.is_none());
    assert_eq!(attach_time(&gone.decide(minute(22))), None, "with its pod a person is gone");
}

#[test]
fn attach_time_is_kept_when_a_probe_fails() {
    let unheard = typing().silent(1, second(1230), second(1230));
    let plan = unheard.decide(second(1230));
    assert_eq!(attach_time(&plan), Some(minute(20)));
}
