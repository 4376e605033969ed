//! What is explored, and what must come of it.

use super::explore::Explorer;
use super::scenarios;

#[test]
fn every_story_comes_to_its_end() {
    for scenario in scenarios::all() {
        let mut explorer = Explorer::of(&scenario);
        explorer.reference();
        explorer.found().unwrap();
    }
}
