//! Comments, descriptions and documents are plain English: no banned opening of a sentence, no banned idiom, and no
//! comment that opens with a pronoun. `CONTRIBUTING.md` lists the rules for authors.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Openings of a sentence that leave its subject unnamed, or invert the word order.
const OPENINGS: [&str; 9] =
    ["What", "Who", "Whoever", "Nobody", "Nor", "Of", "One who", "That which", "It all"];

/// Idioms that a reader cannot translate word by word, in lower case.
const IDIOMS: [&str; 28] = [
    "a person",
    "a word",
    "are made",
    "at once",
    "became of",
    "becomes of",
    "came of",
    "get on",
    "gets on",
    "is made",
    "let go",
    "lets go",
    "look at",
    "looked at",
    "looks at",
    "makes it go",
    "nobody",
    "of whom",
    "said",
    "see to it",
    "stand for",
    "stands by",
    "stands for",
    "stands in",
    "taken along",
    "takes it along",
    "told",
    "whoever",
];

/// First words of a comment that leave its subject unnamed, in lower case.
const PRONOUNS: [&str; 28] = [
    "all",
    "anybody",
    "anyone",
    "both",
    "either",
    "everybody",
    "everyone",
    "everything",
    "he",
    "it",
    "its",
    "neither",
    "nobody",
    "none",
    "nothing",
    "one",
    "she",
    "somebody",
    "someone",
    "that",
    "there",
    "these",
    "they",
    "this",
    "those",
    "what",
    "who",
    "whoever",
];

/// The files and directories with texts.
const PLACES: [&str; 8] =
    ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs", "deploy", "crds", "src", "tests"];

/// Directories without own texts: a generated copy of `crds`.
const SKIPPED: [&str; 1] = ["deploy/helm/town-operator/files"];

#[test]
fn texts_are_plain_english() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut report = String::new();
    for place in PLACES {
        let files = files(&root.join(place));
        assert!(!files.is_empty(), "{place} has no files; correct PLACES");
        for file in files {
            let path = file.strip_prefix(root).unwrap().display().to_string();
            for Fault { line, text } in faults(&path, &fs::read_to_string(&file).unwrap()) {
                writeln!(report, "{path}:{line}: {text}").unwrap();
            }
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

/// The file itself, or every file with a text below the directory.
fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let has_text = ["rs", "md", "yaml", "json", "sh"].contains(&extension);
        return if has_text { vec![path.to_owned()] } else { Vec::new() };
    }
    if !path.is_dir() || SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
        return Vec::new();
    }
    let mut below: Vec<PathBuf> = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
    below.sort();
    below.iter().flat_map(|path| files(path)).collect()
}

/// A violation of a rule.
#[derive(Debug, PartialEq)]
struct Fault {
    line: usize,
    text: String,
}

fn faults(path: &str, text: &str) -> Vec<Fault> {
    let mut faults = Vec::new();
    for block in blocks(path, text) {
        let words: Vec<String> = block.words.iter().map(|(_, word)| plain(word)).collect();
        let lower: Vec<String> = words.iter().map(|word| word.to_lowercase()).collect();
        for (at, (line, _)) in block.words.iter().enumerate() {
            if at == 0 || ends_a_sentence(&block.words[at - 1].1) {
                for opening in OPENINGS.iter().filter(|opening| starts_with(&words[at..], opening)) {
                    let text = format!("a sentence opens with \"{opening}\"");
                    faults.push(Fault { line: *line, text });
                }
            }
            for idiom in IDIOMS.iter().filter(|idiom| starts_with(&lower[at..], idiom)) {
                faults.push(Fault { line: *line, text: format!("the idiom \"{idiom}\"") });
            }
        }
        if block.is_comment && PRONOUNS.contains(&lower[0].as_str()) {
            let text = format!("a comment opens with \"{}\"", lower[0]);
            faults.push(Fault { line: block.words[0].0, text });
        }
    }
    faults
}

/// Whether these words start with the words of the phrase.
fn starts_with(words: &[String], phrase: &str) -> bool {
    let mut words = words.iter();
    phrase.split(' ').all(|wanted| words.next().is_some_and(|word| word == wanted))
}

/// The word without punctuation; empty for code in backticks.
fn plain(word: &str) -> String {
    let word = word.trim_start_matches(['(', '[', '*', '"', '\'']);
    word.chars().take_while(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

fn ends_a_sentence(word: &str) -> bool {
    word.trim_end_matches([')', '*', '"', '\'', '`']).ends_with(['.', '!', '?'])
}

/// A comment, a description, a paragraph, a list item or a cell of a table, without markup. A block is never empty.
struct Block {
    is_comment: bool,
    /// Each word, with the number of its line.
    words: Vec<(usize, String)>,
}

/// Collects blocks word by word.
struct Blocks {
    are_comments: bool,
    ended: Vec<Block>,
    words: Vec<(usize, String)>,
}

impl Blocks {
    fn new(are_comments: bool) -> Self {
        Self { are_comments, ended: Vec::new(), words: Vec::new() }
    }

    fn add(&mut self, line: usize, text: &str) {
        self.words.extend(text.split_whitespace().map(|word| (line, word.to_owned())));
    }

    fn end(&mut self) {
        let words = std::mem::take(&mut self.words);
        if !words.is_empty() {
            self.ended.push(Block { is_comment: self.are_comments, words });
        }
    }

    fn all(mut self) -> Vec<Block> {
        self.end();
        self.ended
    }
}

fn blocks(path: &str, text: &str) -> Vec<Block> {
    match path.rsplit('.').next() {
        Some("rs") => comments(text, &["///", "//!", "//"]),
        Some("sh") => comments(text, &["#"]),
        Some("yaml") => comments(text, &["#"]).into_iter().chain(descriptions(text)).collect(),
        Some("json") => descriptions(text),
        _ => paragraphs(text),
    }
}

/// Comments that begin with one of the markers and fill their lines. Another marker, an empty comment line or a list
/// item starts a new block.
fn comments(text: &str, markers: &[&str]) -> Vec<Block> {
    let mut blocks = Blocks::new(true);
    let mut last = None;
    let mut in_code = false;
    for (number, line) in numbered(text) {
        let marker = markers.iter().find(|marker| line.trim().starts_with(**marker));
        if marker != last {
            blocks.end();
            in_code = false;
        }
        last = marker;
        let Some(marker) = marker else { continue };
        let text = line.trim()[marker.len()..].trim();
        if text.starts_with("```") {
            in_code = !in_code;
            blocks.end();
        } else if !in_code {
            if text.is_empty() || list_item(text).is_some() {
                blocks.end();
            }
            blocks.add(number, list_item(text).unwrap_or(text));
        }
    }
    blocks.all()
}

/// The values of the key `description`. A value ends before the next line that is not indented deeper than the key.
fn descriptions(text: &str) -> Vec<Block> {
    let mut blocks = Blocks::new(false);
    let mut key_indent = None;
    for (number, line) in numbered(text) {
        let indent = line.len() - line.trim_start().len();
        if !line.trim().is_empty() && key_indent.is_some_and(|key_indent| indent <= key_indent) {
            blocks.end();
            key_indent = None;
        }
        if key_indent.is_some() {
            if line.trim().is_empty() {
                blocks.end();
            }
            blocks.add(number, line);
            continue;
        }
        let key = line.trim_start().trim_start_matches("- ");
        let value = key.strip_prefix("description: ").or_else(|| key.strip_prefix("\"description\": "));
        if let Some(value) = value {
            blocks.end();
            key_indent = Some(line.len() - key.len());
            if !["|", "|-", ">", ">-"].contains(&value) {
                blocks.add(number, value);
            }
        }
    }
    blocks.all()
}

/// The paragraphs, headings, list items and table cells of a Markdown document, without its code blocks.
fn paragraphs(text: &str) -> Vec<Block> {
    let mut blocks = Blocks::new(false);
    let mut in_code = false;
    for (number, line) in numbered(text) {
        let line = line.trim();
        if line.starts_with("```") {
            in_code = !in_code;
            blocks.end();
        }
        if in_code || line.starts_with("```") {
            continue;
        }
        if line.starts_with('|') {
            for cell in line.split('|') {
                blocks.end();
                blocks.add(number, cell);
            }
            blocks.end();
        } else if line.starts_with('#') {
            blocks.end();
            blocks.add(number, line.trim_start_matches('#'));
            blocks.end();
        } else {
            if line.is_empty() || list_item(line).is_some() {
                blocks.end();
            }
            blocks.add(number, list_item(line).unwrap_or(line).trim_start_matches("> "));
        }
    }
    blocks.all()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().map(|(index, line)| (index + 1, line))
}

/// The text of a list item.
fn list_item(line: &str) -> Option<&str> {
    let numbered = line.split_once(". ").filter(|(number, _)| number.parse::<u32>().is_ok());
    line.strip_prefix("- ").or_else(|| line.strip_prefix("* ")).or(numbered.map(|(_, text)| text))
}

#[test]
fn faults_are_found_in_each_kind_of_text() {
    // The rule of a fault is the second word of its text.
    let rule = |fault: &Fault| {
        let words = ["sentence", "idiom", "comment"];
        words.iter().position(|word| fault.text.split(' ').nth(1) == Some(word)).unwrap()
    };
    let found = |path: &str, text: &str| -> Vec<(usize, usize)> {
        faults(path, text).iter().map(|fault| (rule(fault), fault.line)).collect()
    };
    assert_eq!(found("x.rs", "/// A pod.\n/// What it does\nlet x = 1; // What"), [(0, 2)]);
    assert_eq!(found("x.rs", "// A pod that\n// nobody needs."), [(1, 2)]);
    assert_eq!(
        found("x.rs", "//! It waits.\n\n    // Whether it waits.\n    /// who waits"),
        [(2, 1), (2, 4)]
    );
    assert_eq!(found("x.rs", "/// Waits.\n///\n/// ```\n/// // Who waits\n/// ```\n/// - Of two."), [(0, 6)]);
    assert_eq!(found("x.yaml", "# The name.\n# Who has it.\nname: Who\n"), [(0, 2)]);
    assert_eq!(found("x.yaml", "- description: A\n  type: string\n- description: Who"), [(0, 3)]);
    assert_eq!(
        found("x.yaml", "a:\n  description: |-\n    The pod is\n    told.\n\n    Of two.\n  b: Of"),
        [(1, 4), (0, 6)]
    );
    assert_eq!(found("x.json", "\"description\": \"Whoever waits\","), [(0, 1), (1, 1)]);
    assert_eq!(found("x.sh", "#!/bin/sh\necho Who\n# This waits."), [(2, 3)]);
    assert_eq!(
        found("x.md", "# Who\n\nIt waits. Nobody\nwaits.\n\n```\nWho\n```\n\n- Of two.\n1. `Of` two."),
        [(0, 1), (0, 3), (1, 3), (0, 10)]
    );
    assert_eq!(
        found("x.md", "| a | Who waits | They are\ntold |\n| what | (Of two) |"),
        [(0, 1), (1, 2), (0, 3)]
    );
}

#[test]
fn plain_sentences_have_no_faults() {
    for text in [
        "/// Office hours, and what the pod does. Often it waits.",
        "/// A town of whose pods one is deleted; `nobody` is a value.",
        "// The text of `Of`.\nlet who = \"// Nobody\";",
    ] {
        let faults = faults("x.rs", text);
        assert!(faults.is_empty(), "{text}: {faults:?}");
    }
}
