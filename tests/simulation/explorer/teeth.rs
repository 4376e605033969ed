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
fn children_are_deleted_before_the_tombstone_without_the_tombstone_guard() {
    is_needed(Guard::TombstoneFirst, &[scenarios::deleted_when_idle()], Invariant::TombstoneFirst);
}

#[test]
fn deleted_towns_get_new_pods_without_the_proof_of_life() {
    is_needed(Guard::ProofOfLife, &[scenarios::deleted_while_it_starts()], Invariant::NoResurrection);
}

#[test]
fn deletes_hit_foreign_objects_without_the_uid_precondition() {
    is_needed(Guard::UidOfDeletes, &[scenarios::names_taken_at_any_moment()], Invariant::OnlyOurs);
}

#[test]
fn pods_outlive_their_town_without_the_proof_of_absence() {
    is_needed(Guard::Absence, &[scenarios::deleted_without_storage()], Invariant::NoLeak);
}

#[test]
fn unlisted_children_are_left_when_a_failed_list_counts_as_empty() {
    is_needed(Guard::FailClosed, &[scenarios::deleted_without_storage()], Invariant::NoLeak);
}

#[test]
fn late_creates_are_left_without_the_wait_for_creates() {
    is_needed(Guard::LateCreates, &[scenarios::deleted_while_it_starts()], Invariant::NoLeak);
}

#[test]
fn paused_leader_creates_objects_without_the_fence() {
    is_needed(Guard::Fence, &[scenarios::deleted_at_any_moment()], Invariant::NoResurrection);
}

#[test]
fn limit_of_a_rig_is_exceeded_when_own_begins_are_not_counted() {
    is_needed(Guard::OwnBegins, &[scenarios::places_are_limited()], Invariant::Places);
}
