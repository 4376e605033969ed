//! Each safety check is necessary: without it the explorer finds a violation, and the test prints the plan with the
//! fewest moves.

use town_operator::lifecycle::Guard;

use super::explore::{Explorer, Found};
use super::invariants::Invariant;
use super::scenario::Scenario;
use super::scenarios;
use super::tests::say;

/// Runs a story with every fault, without this check. The result is the violation with the fewest moves.
fn without(guard: Guard, scenario: &Scenario) -> Option<Box<Found>> {
    guard.without(|| {
        let mut explorer = Explorer::of(scenario).thorough();
        explorer.every_crash_point();
        explorer.every_interruption();
        explorer.every_stale_view();
        explorer.every_hand_over();
        explorer.found().err()
    })
}

#[track_caller]
fn is_needed(guard: Guard, stories: &[Scenario], protects: Invariant) {
    let found =
        stories.iter().filter_map(|scenario| without(guard, scenario)).min_by_key(|found| found.moves);
    let found = found.unwrap_or_else(|| panic!("without {guard:?} nothing is broken: it is not needed"));
    say(&format!("without {guard:?}: {found}"));
    assert_eq!(found.violation.invariant, protects, "without {guard:?}");
}

#[test]
fn without_the_tombstone_first_something_is_deleted_before_it() {
    is_needed(Guard::TombstoneFirst, &[scenarios::deleted_when_idle()], Invariant::TombstoneFirst);
}

#[test]
fn without_proof_of_life_the_dead_get_new_pods() {
    is_needed(Guard::ProofOfLife, &[scenarios::deleted_while_it_starts()], Invariant::NoResurrection);
}

#[test]
fn without_their_uid_deletes_hit_others() {
    is_needed(Guard::UidOfDeletes, &[scenarios::names_taken_at_any_moment()], Invariant::OnlyOurs);
}

#[test]
fn without_proof_of_absence_pods_outlive_their_town() {
    is_needed(Guard::Absence, &[scenarios::deleted_without_storage()], Invariant::NoLeak);
}

#[test]
fn without_failing_closed_what_could_not_be_listed_is_left() {
    is_needed(Guard::FailClosed, &[scenarios::deleted_without_storage()], Invariant::NoLeak);
}

#[test]
fn without_waiting_for_creates_what_comes_late_is_left() {
    is_needed(Guard::LateCreates, &[scenarios::deleted_while_it_starts()], Invariant::NoLeak);
}

#[test]
fn without_the_fence_one_that_was_paused_goes_on_and_creates() {
    is_needed(Guard::Fence, &[scenarios::deleted_at_any_moment()], Invariant::NoResurrection);
}

#[test]
fn limit_of_a_rig_is_exceeded_when_own_begins_are_not_counted() {
    is_needed(Guard::OwnBegins, &[scenarios::places_are_limited()], Invariant::Places);
}
