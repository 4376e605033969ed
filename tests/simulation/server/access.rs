//! Who may do what.

use std::collections::BTreeMap;

use super::call::Call;
use super::kinds::Kind;
use super::refusal::Refusal;

/// What a user may do.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Verbs; `*`: all.
    pub verbs: Vec<String>,
    /// API groups; `*`: all.
    pub groups: Vec<String>,
    /// Resources, with their subresource (`towns/status`); `*`: all.
    pub resources: Vec<String>,
    /// The namespace in which it holds; `None`: everywhere.
    pub namespace: Option<String>,
}

impl Grant {
    /// One that holds everywhere.
    pub fn everywhere(verbs: &[&str], groups: &[&str], resources: &[&str]) -> Self {
        let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
        Self { verbs: owned(verbs), groups: owned(groups), resources: owned(resources), namespace: None }
    }

    fn covers(&self, call: &Call) -> bool {
        let has = |texts: &[String], one: &str| texts.iter().any(|text| text == "*" || text == one);
        has(&self.verbs, call.verb.as_str())
            && has(&self.groups, &call.group)
            && has(&self.resources, &resource(call))
            && self.namespace.as_ref().is_none_or(|namespace| *namespace == call.namespace)
    }
}

/// The rules. A user of whom nothing is said may do everything.
#[derive(Clone, Debug, Default)]
pub struct Access(BTreeMap<String, Vec<Grant>>);

impl Access {
    /// From now on the user may do this and nothing else.
    pub fn restrict(&mut self, user: &str, grants: Vec<Grant>) {
        self.0.insert(user.to_owned(), grants);
    }

    /// From now on the user may do everything.
    pub fn free(&mut self, user: &str) {
        self.0.remove(user);
    }

    /// Refuses what the user may not do.
    pub fn check(&self, call: &Call, kind: &Kind) -> Result<(), Refusal> {
        if self.0.get(&call.user).is_none_or(|grants| grants.iter().any(|grant| grant.covers(call))) {
            return Ok(());
        }
        let place = if call.resource == "namespaces" && !call.name.is_empty() {
            // A namespace lies in itself.
            format!("in the namespace \"{}\"", call.name)
        } else if call.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", call.namespace)
        };
        let why = format!(
            "User \"{}\" cannot {} resource \"{}\" in API group \"{}\" {place}",
            call.user,
            call.verb.as_str(),
            resource(call),
            call.group
        );
        Err(Refusal::forbidden(kind, &call.name, &why))
    }
}

fn resource(call: &Call) -> String {
    if call.subresource.is_empty() {
        call.resource.clone()
    } else {
        format!("{}/{}", call.resource, call.subresource)
    }
}
