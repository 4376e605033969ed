//! The tests of the explorer.
//!
//! Without optimisation the tests run each story once without faults. The other tests need the profile `explore` and
//! the feature `mutations`. `make test` repeats each story with the operator killed before and after each request, and
//! with one error of each class for each request. `make explore` adds all other faults.

use std::io::Write;
use std::time::Duration;

use super::explore::Explorer;
use super::fault::Fault;
use super::scenario::Scenario;
use super::scenarios;

/// The number of seeds of a test. `SEED=...` repeats the run of one seed.
const SEEDS: u64 = 200;

/// Prints to stderr, whether the test succeeds or not.
pub fn say(what: &str) {
    // The macro `eprintln` would write to the captured output of the harness.
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn explore(scenario: &Scenario, what: &str, look: impl FnOnce(&mut Explorer<'_>)) {
    let mut explorer = Explorer::of(scenario);
    look(&mut explorer);
    say(&format!("{}: {what}: {}", scenario.name, explorer.report));
    if let Err(found) = explorer.found() {
        // Print immediately: the harness shows the output of a test only after all tests.
        say(&found.to_string());
        panic!("{}", found.violation.why);
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("SEED").ok() {
        Some(seed) => vec![seed.parse().expect("SEED is a number")],
        None => (0..SEEDS).collect(),
    }
}

macro_rules! stories {
    ($($story:ident),* $(,)?) => { $(
        mod $story {
            use super::{Fault, explore, scenarios, seeds};

            #[test]
            fn invariants_hold_without_faults() {
                explore(&scenarios::$story(), "nothing goes wrong", |explorer| explorer.told(std::env::var("TELL").is_ok()));
            }

            // K5, K13, K24, A13, B7, I-unknown-create.
            #[test]
            #[cfg_attr(not(feature = "mutations"), ignore = "make test runs it, optimised")]
            fn invariants_hold_at_every_crash_point() {
                explore(&scenarios::$story(), "every crash point", |explorer| {
                    explorer.tries(Fault::is_of_its_own_sort);
                    explorer.every_crash_point();
                    explorer.every_interruption();
                });
            }

            #[test]
            #[cfg_attr(not(feature = "mutations"), ignore = "make explore runs it, optimised")]
            fn invariants_hold_with_every_fault() {
                explore(&scenarios::$story(), "every fault", |explorer| {
                    explorer.every_crash_point();
                    explorer.every_interruption();
                });
            }

            // K6, K7, K8, I-missed-delete, I-stale-cache.
            #[test]
            #[cfg_attr(not(feature = "mutations"), ignore = "make explore runs it, optimised")]
            fn invariants_hold_with_every_stale_view() {
                explore(&scenarios::$story(), "stale views", |explorer| explorer.every_stale_view());
            }

            #[test]
            #[cfg_attr(not(feature = "mutations"), ignore = "make explore runs it, optimised")]
            fn invariants_hold_with_every_hand_over() {
                explore(&scenarios::$story(), "hand-overs", |explorer| explorer.every_hand_over());
            }

            // K1, K2.
            #[test]
            #[cfg_attr(not(feature = "mutations"), ignore = "make explore runs it, optimised")]
            fn invariants_hold_in_any_order() {
                explore(&scenarios::$story(), "any order", |explorer| explorer.any_order(seeds(), false));
            }

            #[test]
            #[cfg_attr(not(feature = "mutations"), ignore = "make explore runs it, optimised")]
            fn invariants_hold_in_any_order_with_a_hand_over() {
                explore(&scenarios::$story(), "any order, and a hand-over", |explorer| explorer.any_order(seeds(), true));
            }
        }
    )* };
}

stories! {
    born,
    works_and_finishes,
    fails_and_is_tried_again,
    sleeps,
    wakes_for_a_bead,
    wakes_while_it_falls_asleep,
    suspended_and_resumed,
    deleted_at_birth,
    deleted_while_it_starts,
    deleted_while_it_runs,
    deleted_when_idle,
    deleted_without_storage,
    deleted_while_it_drains,
    deleted_while_it_sleeps,
    deleted_while_blocked,
    deleted_in_the_foreground,
    deleted_with_orphans,
    deleted_and_made_anew,
    namespace_deleted,
    namespace_made_anew,
    rig_removed,
    agent_deleted_alone,
    claim_retained,
    expires,
    deleted_at_any_moment,
    bead_hooked_at_any_moment,
    agent_deleted_at_any_moment,
    namespace_deleted_at_any_moment,
    names_taken_at_any_moment,
    agent_made_anew_at_any_moment,
    hostile_tenant,
    node_reboots,
    agent_cannot_start,
    sidecar_injected,
    evicted_twice,
    backup_restored,
    pruned_at_any_moment,
    places_are_limited,
}

/// Two faults at the same time, within a time limit: `make explore`.
#[test]
#[ignore = "make explore runs it, for as long as it is told to"]
fn invariants_hold_with_every_pair_of_faults() {
    let minutes = std::env::var("MINUTES").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let stories = scenarios::all();
    let each = Duration::from_secs(60 * minutes * 2) / u32::try_from(stories.len()).expect("a few");
    let next = std::sync::atomic::AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let work = || {
            while let Some(story) = stories.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                let mut explorer = Explorer::of(story).within(each);
                explorer.every_pair();
                say(&format!("{}: pairs of faults: {}", story.name, explorer.report));
                if let Err(found) = explorer.found() {
                    panic!("{found}");
                }
            }
        };
        scope.spawn(work);
        scope.spawn(work);
    });
}
