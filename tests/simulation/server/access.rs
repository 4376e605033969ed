//! Access rules: the requests that each user may send.

use std::collections::BTreeMap;

use super::call::Call;
use super::kinds::Kind;
use super::refusal::Refusal;

/// A permission of a user.
#[derive(Clone, Debug)]
pub struct Grant {
    /// Verbs; `*`: all.
    pub verbs: Vec<String>,
    /// API groups; `*`: all. The core group is empty.
    pub groups: Vec<String>,
    /// Resources, with their subresource (`towns/status`); `*`: all.
    pub resources: Vec<String>,
    /// The namespace in which the grant is valid; `None`: all.
    pub namespace: Option<String>,
}

impl Grant {
    /// A grant that is valid in all namespaces.
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

/// The rules. A user without a rule may do everything.
#[derive(Clone, Debug, Default)]
pub struct Access(BTreeMap<String, Vec<Grant>>);

impl Access {
    /// Limits the user to these grants.
    pub fn restrict(&mut self, user: &str, grants: Vec<Grant>) {
        self.0.insert(user.to_owned(), grants);
    }

    /// Removes the limits of the user.
    pub fn free(&mut self, user: &str) {
        self.0.remove(user);
    }

    /// Refuses a request that no grant covers.
    pub fn check(&self, call: &Call, kind: &Kind) -> Result<(), Refusal> {
        if self.0.get(&call.user).is_none_or(|grants| grants.iter().any(|grant| grant.covers(call))) {
            return Ok(());
        }
        let place = if call.resource == "namespaces" && !call.name.is_empty() {
            // The real server counts a namespace as an object in itself.
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
