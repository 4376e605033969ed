//! The tests that `docs/failures.md` names exist, and every required failure has a row.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The failures that need a row: a letter, and its numbers.
const NUMBERED: [(&str, &[u32]); 3] = [
    ("A", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]),
    ("B", &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]),
    (
        "K",
        &[
            1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26,
            27, 29, 31, 32, 33, 34, 35, 36, 37,
        ],
    ),
];

/// The number of failures of Kubernetes itself that have a row.
const OF_KUBERNETES: usize = 19;

#[test]
fn failure_table_covers_every_failure_and_names_existing_tests() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeSet::new();
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

/// Duplicate rows, rows without a test, and tests that do not exist.
fn faults(table: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let (mut faults, mut seen) = (Vec::new(), BTreeSet::new());
    for (id, named) in rows(table) {
        let missing = named.iter().filter(|test| !tests.contains(*test));
        faults.extend(missing.map(|test| format!("{id}: there is no test `{test}`")));
        if !seen.insert(id.clone()) {
            faults.push(format!("{id} has two rows"));
        }
    }
    faults
}

/// Each row of the table: the failure, and the tests in its last column.
fn rows(table: &str) -> Vec<(String, Vec<String>)> {
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ").collect();
        let (id, tests) = (*cells.first()?, cells.last()?);
        let is_id = ["I-", "L-"].iter().any(|letter| id.starts_with(letter))
            || id.get(1..).is_some_and(|number| number.parse::<u32>().is_ok());
        let tests = tests.split(", ").map(|test| test.trim_matches('`').to_owned()).collect();
        is_id.then(|| (id.to_owned(), tests))
    };
    table.lines().filter_map(row).collect()
}

/// Adds the names of the functions below this directory.
fn read(directory: &Path, tests: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            read(&path, tests);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            tests.extend(named(&fs::read_to_string(&path).unwrap()));
        }
    }
}

/// The names of functions that can be a test or a story: functions without parameters, or with a story or a scene.
fn named(source: &str) -> impl Iterator<Item = String> {
    source.lines().filter_map(|line| {
        let declared = line.trim();
        let declared = declared.strip_prefix("async fn ").or_else(|| declared.strip_prefix("fn "))?;
        let (name, parameters) = declared.split_once('(')?;
        let is_test = [")", "story: Story)", "mut story: Story)", "scene: Scene)", "mut scene: Scene)"]
            .iter()
            .any(|start| parameters.starts_with(start));
        is_test.then(|| name.to_owned())
    })
}

#[test]
fn row_without_its_test_is_a_fault() {
    let source = "#[test]\nfn it_waits() {}\n\nasync fn it_goes(story: Story) {\nfn it_looks(at: usize) {\n";
    let tests: BTreeSet<String> = named(source).collect();
    let faults = |row: &str| faults(row, &tests);
    assert_eq!(faults("| A1 | x | y | `it_goes` |\n| I-late | x | y | `it_goes`, `it_waits` |"), [""; 0]);
    assert_eq!(faults("| A1 | x | y | `it_went` |"), ["A1: there is no test `it_went`"]);
    assert_eq!(faults("| A1 | x | y | `it_looks` |").len(), 1, "a function with other parameters is no test");
    assert_eq!(faults("| A1 | x | y |  |").len(), 1, "a row without a test");
    assert_eq!(faults("| A1 | x | y | `it_goes` |\n| A1 | x | y | `it_goes` |"), ["A1 has two rows"]);
    assert_eq!(rows("| id | x |\n|---|---|\n| text | `test` |"), []);
}
