//! The dependencies between the layers of `src/`: `bin -> operator -> cluster -> resources -> lifecycle -> api`, and
//! `telemetry` between `api` and the layers that run. A layer never depends on a higher one, decisions are pure, and
//! only one layer uses the API server. The modules of a directory form no cycle.
//!
//! The check reads every path in the sources, with `use` groups expanded and `super` resolved. The rules do not apply
//! to modules under `#[cfg(test)]`.

// `allow-unwrap-in-tests` knows only functions that carry `#[test]`.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs;
use std::path::{Path, PathBuf};

/// The layers on which a layer may depend.
const KNOWS: [(&str, &[&str]); 7] = [
    ("bin", &["operator"]),
    ("operator", &["cluster", "resources", "lifecycle", "api", "telemetry"]),
    ("cluster", &["resources", "lifecycle", "api", "telemetry"]),
    ("resources", &["lifecycle", "api"]),
    ("lifecycle", &["api"]),
    ("api", &[]),
    ("telemetry", &["api"]),
];

/// The paths outside of the crate that `api` may use. From kube it may use the items that the derives need, but no
/// client.
const API_USES: [&str; 9] = [
    "std",
    "serde",
    "serde_json",
    "serde_saphyr",
    "schemars",
    "thiserror",
    "k8s_openapi",
    "kube::core",
    // The derives.
    "kube::CustomResource|kube::KubeSchema",
];

/// The items that decisions must not use: clients, clocks, random numbers, threads.
const IMPURE: [&str; 14] = [
    "tokio",
    "tokio_util",
    "futures",
    "tower",
    "axum",
    "http",
    "rand",
    "tracing",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::thread",
    "std::env",
    "std::fs",
    "std::net",
];

/// The functions that read a clock, under any path.
const CLOCKS: [&str; 4] = ["SystemTime::now", "Instant::now", "Timestamp::now", "Zoned::now"];

/// The types for access to the API server.
const CLIENT: [&str; 5] = ["kube::Client", "kube::Api", "kube::client", "kube::runtime", "kube::api::Api"];

/// The functions that create a client. A client from elsewhere would bypass the fence.
const CONNECTS: [&str; 5] = [
    "ClientBuilder::try_from",
    "ClientBuilder::new",
    "Client::try_from",
    "Client::try_default",
    "Client::new",
];

/// The function that creates a client without a fence. Only the code for the Lease, which opens the fence, may use it.
const UNFENCED: &str = "connect_unfenced";

#[test]
fn source_modules_follow_the_architecture_rules() {
    let faults = faults(&sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The violations in these sources.
fn faults(sources: &Sources) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rooms: BTreeMap<String, usize> = BTreeMap::new();
    for (module, Source { file: shown, tokens }) in sources {
        let Some(room) = module.first().cloned() else { continue };
        *rooms.entry(room.clone()).or_default() += 1;
        let Some((_, may_know)) = KNOWS.iter().find(|(name, _)| *name == room) else {
            faults.push(format!("{shown}: the house has no room '{room}'"));
            continue;
        };
        let paths = paths(tokens, module);
        let mut say =
            |path: &[String], why: &str| faults.push(format!("{shown}: {}: {why}", path.join("::")));
        for path in &paths {
            let into = room_of(path);
            if into.is_some_and(|into| into != room && !may_know.contains(&into)) {
                say(path, &format!("'{room}' may know only {may_know:?}"));
            }
            if matches!(room.as_str(), "lifecycle" | "resources") && IMPURE.iter().any(|p| within(path, p)) {
                say(path, &format!("'{room}' is made of pure functions"));
            }
            if matches!(room.as_str(), "lifecycle" | "resources") && CLOCKS.iter().any(|p| ends(path, p)) {
                say(path, &format!("'{room}' is told the time, it does not ask"));
            }
            let uses_client = CLIENT.iter().any(|p| within(path, p));
            if uses_client && !matches!(room.as_str(), "cluster" | "operator") {
                say(path, "only 'cluster' talks to the API server, and 'operator' wires its watches");
            }
            // A file of tests replaces the API server.
            let plays = module.last().is_some_and(|name| name == "tests");
            let connects =
                shown != "cluster/client/connect.rs" && !plays && CONNECTS.iter().any(|p| ends(path, p));
            let unfenced = path.iter().any(|part| part == UNFENCED)
                && !(shown == "cluster/client/connect.rs" || shown.starts_with("cluster/leader/"));
            if connects || unfenced {
                say(path, "writes go through the fence of the one client");
            }
            // A single name is an attribute, such as that of the derive.
            if room == "api" && path.len() > 1 && !fits_into_api(path) {
                say(path, "'api' is types, their schemas and nothing else");
            }
        }
        // The wiring uses an `Api` only for watches.
        let mentions = |name: &str| paths.iter().any(|path| path.iter().any(|part| part == name));
        let asks = paths.iter().any(|path| within(path, "kube::Api") || within(path, "kube::api::Api"));
        if room == "operator" && asks && !mentions("watcher") && !mentions("Controller") {
            faults.push(format!(
                "{shown}: 'operator' uses an Api where it watches nothing; that is 'cluster' work"
            ));
        }
    }
    for (room, _) in KNOWS {
        if !rooms.contains_key(room) {
            faults.push(format!("the room '{room}' is empty: has it moved?"));
        }
    }
    faults.extend(cycles(sources.clone()));
    faults
}

/// A file and its tokens.
#[derive(Clone)]
struct Source {
    file: String,
    tokens: Vec<String>,
}

/// The sources by module.
type Sources = BTreeMap<Vec<String>, Source>;

/// The sources below this directory.
fn sources(src: &Path) -> Sources {
    let relative = |file: &Path| file.strip_prefix(src).unwrap().display().to_string();
    let read = |file: &PathBuf| source(&relative(file), &fs::read_to_string(file).unwrap());
    rust_files(src).iter().map(read).collect()
}

/// The source of a file, with its module.
fn source(file: &str, text: &str) -> (Vec<String>, Source) {
    (module_of(Path::new(file)), Source { file: file.to_owned(), tokens: tokens(text) })
}

/// The cycles of modules, one for each set of modules that depend on each other. The nodes are the files and
/// directories of one directory. A file that gives a directory its name, such as `mod.rs`, is a node for the items that
/// it defines. An import through a re-export counts as an import of the module that defines the item.
fn cycles(mut sources: Sources) -> Vec<String> {
    let tests: Vec<Vec<String>> =
        sources.iter().flat_map(|(module, source)| test_modules(&source.tokens, module)).collect();
    sources.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));

    let mut uses = BTreeMap::new();
    let mut exports = Exports::new();
    for (module, Source { tokens, .. }) in &sources {
        let (own, exported) = without_reexports(&without_tests(tokens));
        uses.insert(module, own);
        for path in paths_of(&exported).into_iter().map(|path| in_crate(path, module, &sources)) {
            if let Some(name) = path.last() {
                let alias = [module.as_slice(), std::slice::from_ref(name)].concat();
                exports.insert(alias, path);
            }
        }
    }

    // The dependencies between the modules of each directory, with an import as the reason.
    let mut graphs: BTreeMap<Vec<String>, Graph> = BTreeMap::new();
    for (module, tokens) in uses {
        for path in paths_of(&tokens) {
            let shown = path.join("::");
            let path = in_crate(path, module, &sources);
            let Some(target) = defining_module(&path, &sources, &exports) else { continue };
            let common = module.iter().zip(&target).take_while(|(one, other)| one == other).count();
            let node = |of: &[String]| of.get(common).cloned().unwrap_or_else(|| "mod.rs".to_owned());
            let (from, to) = (node(module), node(&target));
            if common > 0 && from != to {
                let graph = graphs.entry(module[..common].to_vec()).or_default();
                graph.entry(from).or_default().entry(to).or_insert(shown);
            }
        }
    }
    let mut faults = Vec::new();
    for (directory, graph) in &graphs {
        let mut reported = BTreeSet::new();
        let cycles = graph.keys().filter_map(|start| shortest_cycle(graph, start));
        let mut cycles: Vec<_> = cycles.collect();
        cycles.sort_by_key(Vec::len);
        for cycle in cycles {
            if !cycle.iter().any(|node| reported.contains(*node)) {
                let next = cycle.iter().cycle().skip(1);
                let steps = cycle.iter().zip(next);
                let steps = steps.map(|(from, to)| format!("{from} -> {to} ({})", graph[*from][*to]));
                let steps = steps.collect::<Vec<_>>().join(", ");
                faults.push(format!("{}: these modules form a cycle: {steps}", directory.join("/")));
            }
            reported.extend(cycle);
        }
    }
    faults
}

/// The re-exported names, with the paths of the items.
type Exports = BTreeMap<Vec<String>, Vec<String>>;

/// The dependencies of each module, and one import for each of them.
type Graph = BTreeMap<String, BTreeMap<String, String>>;

/// The shortest cycle through this node, without its repetition at the end.
fn shortest_cycle<'a>(graph: &'a Graph, start: &'a str) -> Option<Vec<&'a str>> {
    let mut reached: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut queue = VecDeque::from([vec![start]]);
    while let Some(way) = queue.pop_front() {
        for next in graph.get(*way.last()?).into_iter().flat_map(BTreeMap::keys) {
            if next == start {
                return Some(way);
            }
            if !reached.contains_key(next.as_str()) {
                let longer = [way.as_slice(), &[next.as_str()]].concat();
                reached.insert(next, longer.clone());
                queue.push_back(longer);
            }
        }
    }
    None
}

/// The path from the root of the crate. A path that begins with the name of a child module is relative.
fn in_crate(path: Vec<String>, module: &[String], sources: &Sources) -> Vec<String> {
    let child = [module, &path[..1]].concat();
    if path[0] != "super" && path[0] != "self" && sources.contains_key(&child) {
        return [module, &path].concat();
    }
    let path = absolute(path, module);
    if path[0] == "crate" || path[0] == "town_operator" { path[1..].to_vec() } else { Vec::new() }
}

/// The module that defines the item of a path in the crate. `None`: the path is not in the crate.
fn defining_module(path: &[String], sources: &Sources, exports: &Exports) -> Option<Vec<String>> {
    let (mut module, mut rest) = (Vec::new(), VecDeque::from(path.to_vec()));
    // The bound ends a re-export that refers to itself.
    for _ in 0..32 {
        let Some(name) = rest.pop_front() else { break };
        let next = [module.as_slice(), &[name]].concat();
        let is_module =
            sources.range(next.clone()..).next().is_some_and(|(first, _)| first.starts_with(&next));
        if is_module {
            module = next;
        } else if let Some(origin) = exports.get(&next) {
            module = Vec::new();
            rest = origin.iter().cloned().chain(rest).collect();
        } else {
            break;
        }
    }
    (!module.is_empty()).then_some(module)
}

/// The modules of a file that exist only in tests and have a file of their own.
fn test_modules(tokens: &[String], module: &[String]) -> Vec<Vec<String>> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let marked = tokens.windows(mark.len() + 1).filter(|tokens| tokens.iter().zip(mark).all(|(a, b)| a == b));
    marked.map(|tokens| [module, &tokens[mark.len()..]].concat()).collect()
}

/// The tokens without re-exports, visibilities and declarations of modules, and the tokens of the re-exports.
fn without_reexports(tokens: &[String]) -> (Vec<String>, Vec<String>) {
    let (mut own, mut exported) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < tokens.len() {
        let visibility = match (&tokens[at], tokens.get(at + 1).map(String::as_str)) {
            (public, Some("(")) if public == "pub" => {
                tokens[at..].iter().position(|token| token == ")").map_or(0, |end| end + 1)
            }
            (public, _) => usize::from(public == "pub"),
        };
        if visibility > 0 && tokens.get(at + visibility).is_some_and(|token| token == "use") {
            let length = tokens[at..].iter().take_while(|token| *token != ";").count();
            exported.extend_from_slice(&tokens[at + visibility + 1..at + length]);
            exported.push(";".to_owned());
            at += length;
        } else if visibility > 0 {
            at += visibility;
        } else if tokens[at] == "mod" {
            at += 2;
        } else {
            own.push(tokens[at].clone());
            at += 1;
        }
    }
    (own, exported)
}

/// Whether a path in the layer `api` is from our crate, or is one of the permitted others.
fn fits_into_api(path: &[String]) -> bool {
    let outside = dependencies().iter().any(|name| *name == path[0]) || path[0] == "std";
    !outside || API_USES.iter().flat_map(|uses| uses.split('|')).any(|uses| within(path, uses))
}

/// The dependencies of the crate, with their names in code.
fn dependencies() -> Vec<String> {
    let manifest = include_str!("../Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).and_then(|rest| rest.split("\n[").next()).unwrap();
    let name = |line: &str| line.split_once(" =").map(|(name, _)| name.trim().replace('-', "_"));
    section.lines().filter_map(name).collect()
}

/// The layer of a path in our crate.
fn room_of(path: &[String]) -> Option<&str> {
    let [krate, room, ..] = path else { return None };
    let ours = krate == "crate" || krate == "town_operator";
    KNOWS.iter().map(|(name, _)| *name).find(|name| ours && name == room)
}

fn within(path: &[String], prefix: &str) -> bool {
    let prefix: Vec<&str> = prefix.split("::").collect();
    path.len() >= prefix.len() && path.iter().zip(&prefix).all(|(one, other)| one == other)
}

fn ends(path: &[String], suffix: &str) -> bool {
    let suffix: Vec<&str> = suffix.split("::").collect();
    path.len() >= suffix.len() && path[path.len() - suffix.len()..].iter().zip(&suffix).all(|(a, b)| a == b)
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// The module of a file: `lifecycle/sleep.rs` is `[lifecycle, sleep]`, and `lib.rs` is the crate itself.
fn module_of(file: &Path) -> Vec<String> {
    let module = file.with_extension("");
    let parts = module.iter().map(|part| part.to_string_lossy().into_owned());
    parts.filter(|part| part != "mod" && part != "lib").collect()
}

/// The paths in a source, with expanded `use` groups. A path of our crate begins with `crate`.
fn paths(tokens: &[String], module: &[String]) -> Vec<Vec<String>> {
    paths_of(&without_tests(tokens)).into_iter().map(|path| absolute(path, module)).collect()
}

/// The paths in the tokens, as they are written.
fn paths_of(tokens: &[String]) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // The scan skips the rest of a path that it has read.
        if is_name(&tokens[at]) && (at == 0 || tokens[at - 1] != "::") {
            at = read_path(tokens, at, &Vec::new(), &mut found);
        } else {
            at += 1;
        }
    }
    found
}

/// Reads one path, or one branch of a `use` group, and returns the position of its end.
fn read_path(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    if tokens[at] == "," {
                        at += 1;
                    } else if is_name(&tokens[at]) || tokens[at] == "{" {
                        at = read_path(tokens, at, &path, found);
                    } else {
                        at += 1;
                    }
                }
                return at + 1;
            }
            Some(name) if is_name(name) => path.push(name.to_owned()),
            // A glob, or generics: the path ends before it.
            _ => break,
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            break;
        }
        at += 1;
    }
    found.push(path);
    at
}

fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let supers = path.iter().take_while(|part| *part == "super").count();
    let skip = usize::from(path[0] == "self");
    if supers + skip == 0 {
        return path;
    }
    let mut resolved = vec!["crate".to_owned()];
    resolved.extend_from_slice(&module[..module.len().saturating_sub(supers)]);
    resolved.extend_from_slice(&path[supers + skip..]);
    resolved
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// The tokens: names, `::` and single characters, without comments and literals.
fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        let rest = &chars[at..];
        match rest {
            ['/', '/', ..] => at += rest.iter().take_while(|c| **c != '\n').count(),
            ['/', '*', ..] => {
                at += rest.windows(2).position(|pair| pair == ['*', '/']).map_or(rest.len(), |n| n + 2);
            }
            ['r', '"' | '#', ..] if is_raw_string(rest) => at += raw_string(rest),
            ['"', ..] => at += string(rest),
            ['\'', '\\', _, ..] => at += rest.iter().skip(3).take_while(|c| **c != '\'').count() + 4,
            ['\'', _, '\'', ..] => at += 3,
            [':', ':', ..] => {
                tokens.push("::".to_owned());
                at += 2;
            }
            [c, ..] if c.is_alphanumeric() || *c == '_' => {
                let name: String = rest.iter().take_while(|c| c.is_alphanumeric() || **c == '_').collect();
                at += name.chars().count();
                tokens.push(name);
            }
            [c, ..] => {
                if !c.is_whitespace() {
                    tokens.push(c.to_string());
                }
                at += 1;
            }
            [] => {}
        }
    }
    tokens
}

fn is_raw_string(rest: &[char]) -> bool {
    rest.iter().skip(1).find(|c| **c != '#') == Some(&'"')
}

fn raw_string(rest: &[char]) -> usize {
    let hashes = rest.iter().skip(1).take_while(|c| **c == '#').count();
    let end: String = format!("\"{}", "#".repeat(hashes));
    let text: String = rest.iter().skip(hashes + 2).collect();
    let length = text.find(&end).map_or(text.len(), |n| n + end.len());
    hashes + 2 + text[..length].chars().count()
}

fn string(rest: &[char]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != '"' {
        at += if rest[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The tokens without the modules for tests.
fn without_tests(tokens: &[String]) -> Vec<String> {
    let mark = ["#", "[", "cfg", "(", "test", ")", "]", "mod"];
    let mut kept = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at..].iter().zip(mark).all(|(one, other)| one == other) && at + mark.len() < tokens.len() {
            at += mark.len();
            let mut depth = 0;
            while at < tokens.len() {
                match tokens[at].as_str() {
                    "{" => depth += 1,
                    "}" => depth -= 1,
                    _ => {}
                }
                let over = depth == 0 && matches!(tokens[at].as_str(), "}" | ";");
                at += 1;
                if over {
                    break;
                }
            }
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

/// The check finds a violation of each kind. The test proves that the check can fail.
#[test]
fn architecture_check_finds_each_kind_of_violation() {
    let plants = [
        ("lifecycle/x.rs", "use crate::cluster::observe;", "'lifecycle' may know only"),
        ("lifecycle/x.rs", "fn f() { super::super::resources::pod() }", "'lifecycle' may know only"),
        ("lifecycle/x.rs", "use crate::{api, operator::main};", "'lifecycle' may know only"),
        ("api/x.rs", "use crate::lifecycle::plan::Plan;", "'api' may know only"),
        ("telemetry/x.rs", "use crate::lifecycle::Plan;", "'telemetry' may know only"),
        ("resources/x.rs", "fn f() -> crate::cluster::Context { todo() }", "'resources' may know only"),
        ("cluster/x.rs", "use crate::operator;", "'cluster' may know only"),
        ("bin/x.rs", "use town_operator::cluster;", "'bin' may know only"),
        ("lifecycle/x.rs", "use tokio::time::sleep;", "made of pure functions"),
        ("lifecycle/x.rs", "use std::{fmt, time::{Duration, SystemTime}};", "made of pure functions"),
        ("lifecycle/x.rs", "fn f() { k8s_openapi::jiff::Timestamp::now(); }", "does not ask"),
        (
            "lifecycle/x.rs",
            "use k8s_openapi::jiff; fn f() { let t = jiff::Timestamp::now(); }",
            "does not ask",
        ),
        ("lifecycle/x.rs", "use kube::{Client, ResourceExt};", "only 'cluster' talks"),
        ("resources/x.rs", "use kube::{ResourceExt, api::{Api, ObjectMeta}};", "only 'cluster' talks"),
        ("telemetry/x.rs", "use kube::runtime::watcher;", "only 'cluster' talks"),
        ("operator/x.rs", "use kube::Api; fn f(a: Api<Pod>) { a.delete() }", "'cluster' work"),
        ("cluster/x.rs", "async fn f() { kube::Client::try_default().await; }", "through the fence"),
        ("cluster/x.rs", "fn f(c: Config) { ClientBuilder::try_from(c); }", "through the fence"),
        ("cluster/x.rs", "use super::client::connect_unfenced;", "through the fence"),
        ("api/x.rs", "use tracing::info;", "and nothing else"),
        ("api/x.rs", "fn f() { kube::runtime::wait() }", "and nothing else"),
        ("manager/mod.rs", "", "the house has no room 'manager'"),
    ];
    each_is_found(&plants, faults);
}

/// Asserts that the check reports each violation, with its file and this text.
fn each_is_found(plants: &[(&str, &str, &str)], check: fn(&Sources) -> Vec<String>) {
    for (file, text, wanted) in plants {
        let faults = check(&Sources::from([source(file, text)]));
        let about = |fault: &String| fault.starts_with(&format!("{file}: ")) && fault.contains(wanted);
        assert!(faults.iter().any(about), "{file}: {text}: not among {faults:#?}");
    }
}

/// The check finds a cycle of modules, and names its files and imports.
#[test]
fn each_cycle_of_modules_is_found() {
    let exporting = "mod x; mod y; pub use x::{E as D, F};";
    let plants: [(&[(&str, &str)], &str); 6] = [
        (
            &[("resources/x.rs", "use super::y::F;"), ("resources/y.rs", "use super::{pod, x::{self, G}};")],
            "resources: these modules form a cycle: x -> y (super::y::F), y -> x (super::x::self)",
        ),
        (
            &[
                ("lifecycle/x.rs", "fn f() { super::y::g() }"),
                ("lifecycle/y.rs", "use crate::lifecycle::z::H;"),
                ("lifecycle/z.rs", "use super::x;"),
            ],
            "lifecycle: these modules form a cycle: x -> y (super::y::g), y -> z (crate::lifecycle::z::H), z -> x \
             (super::x)",
        ),
        (
            &[
                ("telemetry/x/one.rs", "use crate::telemetry::y::two::F;"),
                ("telemetry/y/two.rs", "use super::super::x::one::G;"),
                ("telemetry/x/mod.rs", "mod one;"),
                ("telemetry/y/mod.rs", "mod two;"),
            ],
            "telemetry: these modules form a cycle: x -> y (crate::telemetry::y::two::F), y -> x \
             (super::super::x::one::G)",
        ),
        (
            &[
                ("operator/x/mod.rs", "mod one; mod two;"),
                ("operator/x/one.rs", "use super::two::F;"),
                ("operator/x/two.rs", "use super::one::G;"),
            ],
            "operator/x: these modules form a cycle: one -> two (super::two::F), two -> one (super::one::G)",
        ),
        (
            &[
                ("lifecycle/mod.rs", exporting),
                ("lifecycle/x.rs", "use super::y::G;"),
                ("lifecycle/y.rs", "use super::F;"),
            ],
            "lifecycle: these modules form a cycle: x -> y (super::y::G), y -> x (super::F)",
        ),
        (
            &[("lifecycle/mod.rs", "mod x; use x::F; fn g() {}"), ("lifecycle/x.rs", "use super::g;")],
            "lifecycle: these modules form a cycle: mod.rs -> x (x::F), x -> mod.rs (super::g)",
        ),
    ];
    for (files, wanted) in plants {
        let faults = cycles(files.iter().map(|(file, text)| source(file, text)).collect());
        assert!(faults.iter().any(|fault| fault == wanted), "{wanted}: not among {faults:#?}");
    }
}

/// A dependency in one direction, an import through a re-export, and an import of tests form no cycle.
#[test]
fn dependencies_without_a_cycle_are_not_reported() {
    let exporting = "mod x; mod y; pub use x::{E as D, F};";
    let tests = "use super::{F, Uid}; #[cfg(test)] mod tests { use super::super::x; } #[cfg(test)] mod more;";
    let files = [
        ("lifecycle/mod.rs", exporting),
        ("lifecycle/x.rs", "use super::Uid;"),
        ("lifecycle/y.rs", tests),
        ("lifecycle/y/more.rs", "use super::super::y; use super::F;"),
    ];
    let faults = cycles(files.iter().map(|(file, text)| source(file, text)).collect());
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Text that only appears to be a violation.
#[test]
fn architecture_check_ignores_comments_literals_and_tests() {
    let innocent = r##"
        // use crate::operator;
        /* tokio::spawn */
        const A: &str = "use crate::cluster";
        const B: &str = r#"tokio::spawn("x")"#;
        const C: [char; 3] = ['"', '\'', '\u{22}'];
        fn f<'a>(x: &'a str) -> &'a str { x }
        #[cfg(test)]
        mod tests { use crate::operator; fn g() { Timestamp::now() } }
        use crate::api::{Agent, names::{self, FINALIZER}};
    "##;
    let module = ["lifecycle".to_owned(), "x".to_owned()];
    let rooms: Vec<String> =
        paths(&tokens(innocent), &module).iter().filter_map(|p| room_of(p).map(str::to_owned)).collect();
    assert_eq!(rooms, ["api", "api", "api"]);
    assert!(
        paths(&tokens(innocent), &module)
            .iter()
            .all(|path| !path.iter().any(|part| part == "tokio" || part == "now"))
    );
}

/// The modules of `cluster` in their order: a module imports only modules before it. The context is the shared state;
/// the steps of a reconcile lie above it, and take it. Only the module file itself, which re-exports, comes later.
const CLUSTER_ORDER: [&str; 18] = [
    "clock",
    "sync",
    "client",
    "error",
    "kinds",
    "leader",
    "metrics_access",
    "read",
    "scheduling",
    "cache",
    "events",
    "probe",
    "context",
    "watch",
    "observe",
    "act",
    "report",
    "cleanup",
];

/// The modules that nothing in `cluster` imports.
const CLUSTER_TOP: [&str; 1] = ["takeover"];

#[test]
fn modules_of_cluster_import_only_modules_before_them() {
    let faults = cluster_faults(&sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")));
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// The imports that violate the order of the modules of `cluster`.
fn cluster_faults(sources: &Sources) -> Vec<String> {
    let rank = |name: &str| CLUSTER_ORDER.iter().chain(&CLUSTER_TOP).position(|known| *known == name);
    let mut faults = Vec::new();
    for (module, Source { file, tokens }) in sources {
        // The module file of `cluster` declares and re-exports all. Files of tests use what they need.
        let [layer, own, ..] = &module[..] else { continue };
        let tests = module.last().is_some_and(|name| name == "tests" || name == "model");
        if layer != "cluster" || tests {
            continue;
        }
        let Some(own_rank) = rank(own) else {
            faults.push(format!("{file}: the order of 'cluster' has no module '{own}'"));
            continue;
        };
        for path in paths(tokens, module) {
            let [krate, layer, name, ..] = &path[..] else { continue };
            // The visibility `pub(super)` reads as a path to the parent, and imports nothing.
            if krate != "crate" || layer != "cluster" || module.starts_with(&path[1..]) {
                continue;
            }
            match rank(name) {
                Some(other) if other > own_rank => {
                    faults.push(format!("{file}: {}: '{name}' comes after '{own}'", path.join("::")));
                }
                // The imports of a file lead to the file that has the item, and not to the module that re-exports.
                None => faults.push(format!("{file}: {}: names no module of 'cluster'", path.join("::"))),
                Some(_) => {}
            }
        }
    }
    faults
}

#[test]
fn imports_against_the_order_of_cluster_are_found() {
    let plants = [
        ("cluster/read/x.rs", "use crate::cluster::context::Cluster;", "'context' comes after 'read'"),
        (
            "cluster/client/x.rs",
            "fn f() { super::super::leader::elector::x() }",
            "'leader' comes after 'client'",
        ),
        ("cluster/observe/x.rs", "use crate::cluster::act::execute::act;", "'act' comes after 'observe'"),
        ("cluster/watch/x.rs", "use crate::cluster::Cluster;", "names no module of 'cluster'"),
        ("cluster/drawer.rs", "", "has no module 'drawer'"),
    ];
    each_is_found(&plants, cluster_faults);
}
