//! The expiry of a town: sleep or destruction, never by accident, and with an announcement.

use super::build::{Read, TownBuilder, minute, pod, polecat, running_town, second, town};
use crate::api::ExpiryPolicy::{Destroy, Sleep};
use crate::api::condition::{ASLEEP, DEGRADED, READY, STALLED, reason};
use crate::api::{AsleepReason, ExpiryPolicy, TownStatus};
use crate::lifecycle::plan::Plan;
use crate::lifecycle::starting;

/// A town with work that expires at minute 20.
fn busy(policy: ExpiryPolicy) -> TownBuilder {
    let at_work = polecat("toast").hook("b1").attempt("b1", 1, minute(0)).running();
    running_town().with(at_work).settled(minute(1)).expires(minute(20), policy)
}

#[test]
fn expired_town_sleeps_even_with_work() {
    assert_eq!(busy(Sleep).decide(second(1199)).phase(), "Running");
    let plan = busy(Sleep).decide(minute(20));
    assert_eq!(plan.phase(), "Draining");
    assert_eq!(plan.status.as_ref().unwrap().asleep_reason, Some(AsleepReason::Expired));
    let asleep = town().expires(minute(20), Sleep).draining(AsleepReason::Expired, minute(20));
    let asleep = asleep.with(polecat("toast").hook("b1")).status(|s| s.phase = Some("Draining".into()));
    let plan = asleep.decide(minute(23));
    assert_eq!((plan.phase(), plan.reason(ASLEEP)), ("Asleep", reason::EXPIRED));
    let plan = asleep.after(&plan).decide(minute(600));
    assert_eq!((plan.phase(), plan.look_again), ("Asleep", None), "no work wakes it");
}

#[test]
fn expired_town_with_policy_destroy_only_deletes_itself() {
    assert_eq!(busy(Destroy).decide(second(1199)).phase(), "Running");
    for (case, town) in [
        ("awake", busy(Destroy)),
        ("falling asleep", busy(Destroy).draining(AsleepReason::Idle, minute(19))),
        ("asleep", town().asleep(AsleepReason::Idle).settled(minute(5)).expires(minute(20), Destroy)),
        ("suspended", busy(Destroy).suspended()),
        ("always on", busy(Destroy).always_on()),
    ] {
        let plan = town.decide(minute(20));
        assert_eq!((plan.does().as_str(), plan.status.is_none()), ("delete itself", true), "{case}");
    }
    let going = busy(Destroy).deleting(minute(20)).decide(minute(21));
    assert!(!going.does().contains("delete itself"), "once: {}", going.does());
}

#[test]
fn tombstoned_paused_or_foreign_town_is_not_destroyed_by_its_expiry() {
    assert!(!busy(Destroy).tombstone("x").decide(minute(30)).does().contains("itself"));
    assert_eq!(busy(Destroy).paused().decide(minute(30)).does(), "");
    assert_eq!(busy(Destroy).foreign().decide(minute(30)).does(), "");
}

// L7: spec.deletionProtection has no effect without the policies.
#[test]
fn protected_town_is_degraded_when_no_policy_refuses_its_deletion() {
    let unguarded = |builder: TownBuilder| {
        let mut builder = builder;
        builder.0.admission_policies = false;
        builder
    };
    for town in [town().protected(), busy(Sleep).protected(), town().asleep(AsleepReason::Idle).protected()] {
        let plan = unguarded(town.clone()).decide(minute(1));
        assert_eq!((plan.is(DEGRADED), plan.reason(DEGRADED)), (true, reason::DELETION_UNPROTECTED));
        assert!(plan.message(DEGRADED).contains("--admission-policies"), "{}", plan.message(DEGRADED));
        assert_ne!(town.decide(minute(1)).reason(DEGRADED), reason::DELETION_UNPROTECTED);
    }
    assert!(!unguarded(busy(Sleep)).decide(minute(1)).is(DEGRADED), "the town asks for no protection");
    let expired = unguarded(busy(Destroy).protected()).decide(minute(30));
    assert_eq!(expired.reason(DEGRADED), reason::DELETION_PROTECTED, "the other fault has precedence");
}

#[test]
fn protected_town_sleeps_and_is_degraded_when_its_expiry_would_destroy_it() {
    let says_so = |plan: &Plan<TownStatus>| {
        assert_eq!((plan.is(DEGRADED), plan.reason(DEGRADED)), (true, reason::DELETION_PROTECTED));
        assert!(plan.message(DEGRADED).contains("set spec.deletionProtection to false"));
    };
    assert_eq!(busy(Destroy).protected().decide(second(1199)).phase(), "Running");
    let falls = busy(Destroy).protected().decide(minute(20));
    assert_eq!((falls.phase(), falls.does().as_str()), ("Draining", ""));
    says_so(&falls);
    let expires = |why, policy| town().asleep(why).expires(minute(20), policy).protected();
    for (case, town) in [
        ("expired", expires(AsleepReason::Expired, Destroy)),
        ("idle", expires(AsleepReason::Idle, Destroy)),
        ("suspended", expires(AsleepReason::Suspended, Destroy).suspended()),
    ] {
        let settled = town.settled(minute(25));
        let plan = settled.decide(minute(30));
        assert_eq!((plan.phase(), plan.does().as_str(), plan.look_again), ("Asleep", "", None), "{case}");
        assert!(plan.is(READY), "{case}: it is what its spec asks for");
        says_so(&plan);
        let lifted = settled.clone().edit(|t| t.spec.deletion_protection = false).decide(minute(30));
        assert_eq!(lifted.does(), "delete itself", "{case}: once nothing protects it");
        let moved = settled.expires(minute(600), Destroy).decide(minute(30));
        assert!(!moved.is(DEGRADED), "{case}: the time is to come again");
    }
    let meant = expires(AsleepReason::Expired, Sleep).settled(minute(25)).decide(minute(30));
    assert!(!meant.is(DEGRADED), "nobody asked for more than sleep");
}

#[test]
fn town_is_blocked_when_its_expiry_was_past_at_its_creation() {
    for policy in [Sleep, Destroy] {
        for at in [minute(-600), minute(-1), minute(0)] {
            let town = town().expires(at, policy);
            let plan = town.decide(minute(1));
            assert_eq!((plan.phase(), plan.does().as_str()), ("Blocked", ""), "{policy:?} {at}");
            assert_eq!((plan.is(STALLED), plan.reason(STALLED)), (true, reason::EXPIRY_IN_PAST));
            assert!(plan.message(READY).contains("spec.expiry.time"), "{}", plan.message(READY));
            assert_eq!(plan.look_again, None);
            assert!(!starting(&town.0, minute(1)), "it takes nobody's turn");
            let settled = town.after(&plan);
            let again = settled.decide(minute(600));
            assert_eq!(
                (again.does().as_str(), again.status),
                ("", settled.0.town.status.clone()),
                "for good"
            );
            let agent = polecat("toast").hook("b1").of(&settled).decide(minute(2));
            assert_eq!(agent.does(), "", "and nothing of its agents");
            for (case, mended) in [
                ("removed", settled.clone().edit(|t| t.spec.expiry = None)),
                ("moved", settled.clone().expires(minute(700), policy)),
            ] {
                let plan = mended.decide(minute(600));
                assert_eq!((plan.phase(), plan.is(STALLED)), ("Starting", false), "{case}");
                let plan = mended.after(&plan).decide(minute(600));
                assert_eq!(plan.does(), "create pod", "{case}");
            }
        }
    }
    let later = town().expires(second(1), Destroy).decide(minute(1));
    assert_eq!(later.does(), "delete itself", "a second after its creation is meant");
}

#[test]
fn expiry_acts_immediately_when_it_is_moved_into_the_past() {
    for at in [minute(-600), minute(0), minute(5)] {
        assert_eq!(busy(Destroy).expires(at, Destroy).decide(minute(10)).does(), "delete itself", "{at}");
        assert_eq!(busy(Sleep).expires(at, Sleep).decide(minute(10)).phase(), "Draining", "{at}");
    }
}

#[test]
fn expired_town_wakes_when_its_expiry_is_moved_or_removed() {
    let slept = || town().asleep(AsleepReason::Expired).expires(minute(20), Sleep).settled(minute(25));
    assert_eq!(slept().decide(minute(30)).phase(), "Asleep");
    for (case, town) in
        [("moved", slept().expires(minute(100), Sleep)), ("removed", slept().edit(|t| t.spec.expiry = None))]
    {
        let plan = town.decide(minute(30));
        assert_eq!(plan.phase(), "Starting", "{case}");
        assert!(plan.note.as_ref().is_some_and(|n| n.contains("spec.expiry")), "{case}: {:?}", plan.note);
    }
    let suspended = slept().suspended().edit(|t| t.spec.expiry = None).decide(minute(30));
    assert_eq!(suspended.phase(), "Asleep", "another decree holds it");
}

#[test]
fn draining_town_stays_awake_when_its_expiry_is_moved() {
    let falling = busy(Sleep).draining(AsleepReason::Expired, minute(20));
    assert_eq!(falling.decide(minute(21)).phase(), "Draining");
    assert_eq!(falling.expires(minute(99), Sleep).decide(minute(21)).phase(), "Running");
}

#[test]
fn sleeping_town_does_not_wake_to_expire_and_is_requeued_in_time() {
    let asleep = town().asleep(AsleepReason::Idle).settled(minute(5)).expires(minute(60), Destroy);
    let plan = asleep.decide(minute(10));
    assert_eq!((plan.phase(), plan.does().as_str(), plan.look_again), ("Asleep", "", Some(minute(55))));
    let plan = asleep.expires(minute(60), Sleep).decide(minute(60));
    assert_eq!(plan.status.unwrap().asleep_reason, Some(AsleepReason::Expired), "so that moving it wakes");
}

#[test]
fn expiry_is_announced_five_minutes_before() {
    for (policy, said, what) in [
        (Sleep, reason::EXPIRES_SOON, "sleeps, even if it has work,"),
        (Destroy, reason::DESTROYS_SOON, "is destroyed"),
    ] {
        let town = busy(policy).always_on();
        let early = town.decide(minute(14));
        assert!(early.notices.is_empty() && early.look_again.is_some_and(|at| at <= minute(15)));
        let plan = town.decide(minute(15));
        let notice = &plan.notices[0];
        assert_eq!((notice.reason, notice.at), (said, minute(20)), "{policy:?}");
        assert_eq!(notice.note, format!("the town {what} within 5 minutes (spec.expiry)"));
        let moved = town.expires(minute(18), policy).decide(minute(15));
        assert_eq!((moved.notices[0].at, &moved.notices[0].note), (minute(18), &notice.note), "{policy:?}");
        assert!(plan.look_again.is_some_and(|at| at <= minute(20)));
    }
    let protected = busy(Destroy).always_on().protected().decide(minute(15));
    assert!(protected.notices[0].note.contains("sleeps, even if"), "{}", protected.notices[0].note);
    let asleep = town().asleep(AsleepReason::Idle).settled(minute(5)).expires(minute(60), Destroy);
    assert_eq!(asleep.decide(minute(56)).notices.len(), 1, "also of a town that sleeps");
}

#[test]
fn starting_town_drains_when_it_expires() {
    let town = town().awake().expires(minute(20), Sleep).status(|s| s.phase = Some("Starting".into()));
    let plan = town.clone().pod(pod("gas")).decide(minute(20));
    assert_eq!((plan.phase(), plan.does().as_str()), ("Draining", ""));
    assert!(!starting(&town.0, minute(20)));
}
