//! What `docs/failures.md` says is tested is tested: each test that it names is there, and names the failure in its
//! own name or in the comment above it.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Those that must have a row: a letter, and the numbers with it.
const NUMBERED: [(&str, &[u32]); 3] = [
    ("A", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    ("B", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    ("K", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 17, 23, 24, 25, 26, 27, 29, 32, 37]),
];

/// How many failures of Kubernetes itself have a row.
const OF_KUBERNETES: usize = 19;

/// The failures that each test names, by the test's name.
type Tests = BTreeMap<String, BTreeSet<String>>;

#[test]
fn every_failure_has_a_test_that_names_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = Tests::new();
    for directory in ["src", "tests"] {
        read(&root.join(directory), &mut tests);
    }
    let table = fs::read_to_string(root.join("docs/failures.md")).unwrap();
    let faults = faults(&table, &tests);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let rows: BTreeSet<String> = rows(&table).into_iter().map(|(id, _)| id).collect();
    for (letter, numbers) in NUMBERED {
        for number in numbers {
            let id = format!("{letter}{number}");
            assert!(rows.contains(&id), "docs/failures.md has no row {id}");
        }
    }
    assert_eq!(rows.iter().filter(|id| id.starts_with("I-")).count(), OF_KUBERNETES, "{rows:?}");
}

/// What is wrong with a table.
fn faults(table: &str, tests: &Tests) -> Vec<String> {
    let mut faults = Vec::new();
    for (id, named) in rows(table) {
        faults.extend(
            named.iter().filter(|test| !tests.contains_key(*test)).map(|test| format!("{id}: no {test}")),
        );
        if !named.iter().any(|test| tests.get(test).is_some_and(|ids| ids.contains(&id))) {
            faults.push(format!("{id}: none of {named:?} names it"));
        }
    }
    faults
}

/// Each row of the table: the failure, and the tests in its last column.
fn rows(table: &str) -> Vec<(String, Vec<String>)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let (id, tests) = (*cells.first()?, cells.last()?);
        let is_id = id.starts_with("I-") || id.get(1..).is_some_and(|number| number.parse::<u32>().is_ok());
        let tests = tests.split(", ").map(|test| test.trim_matches('`').to_owned()).collect();
        is_id.then(|| (id.to_owned(), tests))
    };
    table.lines().filter_map(row).collect()
}

/// Reads what the functions below this directory are called, and which failures they name.
fn read(directory: &Path, tests: &mut Tests) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            named(&fs::read_to_string(&path).unwrap(), tests);
        }
    }
}

fn named(source: &str, tests: &mut Tests) {
    let mut above = String::new();
    for line in source.lines().map(str::trim) {
        if line.starts_with("//") || line.starts_with("#[") {
            above.push_str(line);
            above.push(' ');
            continue;
        }
        let declared = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn "));
        if let Some((name, _)) = declared.and_then(|rest| rest.split_once('(')) {
            let words = above.split(|c: char| !c.is_ascii_alphanumeric() && c != '-').map(ToOwned::to_owned);
            let own = name.split('_').map(str::to_uppercase);
            tests.entry(name.to_owned()).or_default().extend(words.chain(own));
        }
        above.clear();
    }
}

#[test]
fn a_row_without_its_test_is_found() {
    let mut tests = Tests::new();
    named("// A2, I-late.\n#[test]\nfn it_waits() {}\n\nasync fn a1_it_goes(story: Story) {\n", &mut tests);
    let faults = |row: &str| faults(row, &tests);
    assert_eq!(
        faults("| A1 | x | y | `a1_it_goes` |\n| I-late | x | y | `a1_it_goes`, `it_waits` |"),
        [""; 0]
    );
    assert_eq!(faults("| A1 | x | y | `a1_it_went` |").len(), 2, "there is no such test");
    assert_eq!(faults("| A3 | x | y | `it_waits` |").len(), 1, "it names another");
    assert_eq!(rows("| id | x |\n|---|---|\n| text | `test` |"), []);
}
