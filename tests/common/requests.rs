//! The requests of the operator in the audit log, without Events and the Lease.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::account::{NAME, NAMESPACE};
use super::operator::Operator;
use super::story::Story;

/// Waits until the operator has sent no request for a few seconds. An update of the agent counts can follow a minute
/// later.
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
    /// The number of requests until now.
    pub fn until_now(story: &Story) -> usize {
        Self::all(story).0.len()
    }

    /// The requests after this number.
    pub fn since(story: &Story, start: usize) -> Self {
        Self(Self::all(story).0.split_off(start))
    }

    fn all(story: &Story) -> Self {
        Self::logged(story, |request| !matches!(resource(request), "events" | "leases"))
    }

    /// The requests of one replica until now, with Events, without the Lease.
    pub fn by(story: &Story, operator: &Operator) -> Self {
        let agent = |request: &Value| text_of(&request["userAgent"]).contains(operator.pod_uid());
        Self::logged(story, |request| agent(request) && resource(request) != "leases")
    }

    /// The requests for the Lease until now.
    pub fn of_the_lease(story: &Story) -> Self {
        Self::logged(story, |request| resource(request) == "leases")
    }

    fn logged(story: &Story, counted: impl Fn(&Value) -> bool) -> Self {
        let log = story.cluster.audit_log();
        let user = format!("system:serviceaccount:{NAMESPACE}:{NAME}");
        let ours = |request: &Value| request["user"]["username"] == user.as_str() && counted(request);
        // Most lines belong to other users. The parse of a line costs more than this search.
        let lines = log.lines().filter(|line| line.contains(&user));
        Self(lines.filter_map(|line| serde_json::from_str(line).ok()).filter(ours).collect())
    }

    /// The arrival times of the writes, in order.
    pub fn write_times(&self) -> Vec<String> {
        let asked = self.clone().in_order_of_arrival();
        asked.0.iter().filter(|request| writes(request)).map(|request| came_at(request).to_owned()).collect()
    }

    /// The writes, each as a text.
    pub fn writes(&self) -> Vec<String> {
        self.0.iter().filter(|request| writes(request)).map(in_words).collect()
    }

    /// The requests in this namespace.
    pub fn within(&self, namespace: &str) -> Self {
        let within = self.0.iter().filter(|request| request["objectRef"]["namespace"] == namespace);
        Self(within.cloned().collect())
    }

    /// The requests for objects with one of these texts in their names.
    pub fn about(&self, parts: &[String]) -> Self {
        let name = |request: &Value| text_of(&request["objectRef"]["name"]).to_owned();
        let about = |request: &&Value| parts.iter().any(|part| name(request).contains(part));
        Self(self.0.iter().filter(about).cloned().collect())
    }

    /// Sorts by arrival; the log has the order of the answers.
    pub fn in_order_of_arrival(mut self) -> Self {
        self.0.sort_by(|one, other| came_at(one).cmp(came_at(other)));
        self
    }

    /// A text with one write on each line, and the number of reads.
    pub fn named(&self) -> String {
        let mut text = String::new();
        for (number, write) in self.writes().iter().enumerate() {
            let _ = writeln!(text, "  {:>2}. {write}", number + 1);
        }
        let reads = self.counted(|request| matches!(text_of(&request["verb"]), "get" | "list"));
        let _ = write!(text, "  and reads: {reads:?}");
        text
    }

    /// The number of writes of each sort: `patch towns/status`.
    pub fn sorts_of_writes(&self) -> BTreeMap<String, usize> {
        self.counted(writes)
    }

    fn counted(&self, which: impl Fn(&Value) -> bool) -> BTreeMap<String, usize> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for request in self.0.iter().filter(|request| which(request)) {
            *counts.entry(sort_of(request)).or_default() += 1;
        }
        counts
    }
}

fn writes(request: &Value) -> bool {
    matches!(text_of(&request["verb"]), "create" | "update" | "patch" | "delete" | "deletecollection")
}

/// The arrival time. The text sorts as the time does.
fn came_at(request: &Value) -> &str {
    text_of(&request["requestReceivedTimestamp"])
}

fn resource(request: &Value) -> &str {
    text_of(&request["objectRef"]["resource"])
}

/// The verb and the resource: `patch towns/status`.
fn sort_of(request: &Value) -> String {
    let subresource = match text_of(&request["objectRef"]["subresource"]) {
        "" => String::new(),
        name => format!("/{name}"),
    };
    format!("{} {}{subresource}", text_of(&request["verb"]), resource(request))
}

/// A request as a text: `patch towns/status gas -> 200`.
pub fn in_words(request: &Value) -> String {
    let (name, code) = (text_of(&request["objectRef"]["name"]), &request["responseStatus"]["code"]);
    format!("{} {name} -> {code}", sort_of(request))
}

fn text_of(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
