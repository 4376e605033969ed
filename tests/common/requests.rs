//! What the operator asks of the API server, as the audit log has it; Events and the Lease apart.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::account::{NAME, NAMESPACE};
use super::story::Story;

/// Waits until the operator has asked nothing for a few seconds; agents' counts may follow a minute later.
pub async fn settle(story: &Story) {
    let deadline = Instant::now() + Duration::from_secs(90);
    let mut seen = Requests::until_now(story);
    let mut quiet = Instant::now();
    while quiet.elapsed() < Duration::from_secs(5) {
        assert!(Instant::now() < deadline, "the operator does not come to rest");
        tokio::time::sleep(Duration::from_millis(250)).await;
        let now = Requests::until_now(story);
        if now != seen {
            (seen, quiet) = (now, Instant::now());
        }
    }
}

/// Requests of the operator.
#[derive(Clone)]
pub struct Requests(pub Vec<Value>);

impl Requests {
    /// How many there were until now.
    pub fn until_now(story: &Story) -> usize {
        Self::all(story).len()
    }

    /// Those since then.
    pub fn since(story: &Story, start: usize) -> Self {
        Self(Self::all(story).split_off(start))
    }

    fn all(story: &Story) -> Vec<Value> {
        let log = std::fs::read_to_string(story.cluster.plane().audit_log()).unwrap();
        let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
        let counted = |request: &Value| {
            let resource = request["objectRef"]["resource"].as_str().unwrap_or_default();
            request["user"]["username"] == user.as_str() && !matches!(resource, "events" | "leases")
        };
        log.lines().filter_map(|line| serde_json::from_str(line).ok()).filter(counted).collect()
    }

    /// The writes among them, each in words.
    pub fn writes(&self) -> Vec<String> {
        let writes = |request: &&Value| {
            matches!(
                request["verb"].as_str(),
                Some("create" | "update" | "patch" | "delete" | "deletecollection")
            )
        };
        self.0.iter().filter(writes).map(in_words).collect()
    }

    /// Those in this namespace.
    pub fn within(&self, namespace: &str) -> Self {
        let within = self.0.iter().filter(|request| request["objectRef"]["namespace"] == namespace);
        Self(within.cloned().collect())
    }

    /// Every write on a line of its own, and the number of reads.
    pub fn named(&self) -> String {
        let mut text = String::new();
        for (number, write) in self.writes().iter().enumerate() {
            let _ = writeln!(text, "  {:>2}. {write}", number + 1);
        }
        let mut reads: BTreeMap<String, usize> = BTreeMap::new();
        for request in
            self.0.iter().filter(|request| matches!(request["verb"].as_str(), Some("get" | "list")))
        {
            let what =
                format!("{} {}", text_of(&request["verb"]), text_of(&request["objectRef"]["resource"]));
            *reads.entry(what).or_default() += 1;
        }
        let _ = write!(text, "  and reads: {reads:?}");
        text
    }
}

/// One request in words: `patch towns/status gas -> 200`.
pub fn in_words(request: &Value) -> String {
    let object = &request["objectRef"];
    let subresource = match text_of(&object["subresource"]) {
        "" => String::new(),
        name => format!("/{name}"),
    };
    let (verb, resource, name) =
        (text_of(&request["verb"]), text_of(&object["resource"]), text_of(&object["name"]));
    format!("{verb} {resource}{subresource} {name} -> {}", request["responseStatus"]["code"])
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
