//! Label and field selectors.

use serde_json::Value;

use super::call::Call;
use super::kinds::Kind;
use super::object;
use super::refusal::Refusal;

/// The selector of a list, a watch or a collective delete.
#[derive(Clone, Debug, Default)]
pub struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<Requirement>,
}

#[derive(Clone, Debug, PartialEq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Missing,
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        match (&self.test, value) {
            (Test::In(values), Some(value)) => values.iter().any(|one| one == value),
            (Test::NotIn(values), Some(value)) => !values.iter().any(|one| one == value),
            (Test::Exists, value) => value.is_some(),
            (Test::Missing, value) => value.is_none(),
            (Test::In(_), None) => false,
            (Test::NotIn(_), None) => true,
        }
    }
}

impl Selector {
    /// Parses the selectors of a request.
    pub fn read(call: &Call, kind: &Kind) -> Result<Self, Refusal> {
        let labels = labels(call.parameter("labelSelector").unwrap_or_default())?;
        let fields = fields(call.parameter("fieldSelector").unwrap_or_default())?;
        for field in &fields {
            let of_all = matches!(field.key.as_str(), "metadata.name" | "metadata.namespace");
            if !of_all && !kind.selectable.contains(&field.key) {
                return Err(Refusal::bad_request(format!("field label not supported: {}", field.key)));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Adds the requirement of this name.
    pub fn only(mut self, name: &str) -> Self {
        let test = Test::In(vec![name.to_owned()]);
        self.fields.push(Requirement { key: "metadata.name".into(), test });
        self
    }

    /// Whether the selector matches every object.
    pub fn is_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the selector matches the object.
    pub fn takes(&self, object: &Value) -> bool {
        let labels = |need: &Requirement| need.holds(object::label(object, &need.key));
        let fields = |need: &Requirement| {
            let found = need.key.split('.').try_fold(object, |at, part| at.get(part));
            // The real server treats a missing field as an empty one.
            match found {
                Some(Value::String(text)) => need.holds(Some(text)),
                None | Some(Value::Null) => need.holds(Some("")),
                Some(other) => need.holds(Some(&other.to_string())),
            }
        };
        self.labels.iter().all(labels) && self.fields.iter().all(fields)
    }
}

fn labels(text: &str) -> Result<Vec<Requirement>, Refusal> {
    let mut requirements = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        // A comma inside of brackets separates values, not requirements.
        let end = match (rest.find(','), rest.find('(')) {
            (Some(comma), Some(bracket)) if bracket < comma => {
                rest.find(')').map_or(rest.len(), |close| close + 1)
            }
            (None, _) => rest.len(),
            (Some(comma), _) => comma,
        };
        requirements.push(label(rest[..end].trim(), text)?);
        rest = rest[end..].trim_start_matches(|c: char| c == ',' || c.is_whitespace());
    }
    Ok(requirements)
}

fn label(text: &str, whole: &str) -> Result<Requirement, Refusal> {
    let key = |key: &str| key.trim().to_owned();
    let values = |list: &str| -> Vec<String> {
        list.trim()
            .trim_start_matches('(')
            .trim_end_matches(')')
            .split(',')
            .map(|v| v.trim().to_owned())
            .collect()
    };
    let requirement = if let Some(name) = text.strip_prefix('!') {
        Requirement { key: key(name), test: Test::Missing }
    } else if let Some((name, value)) = text.split_once("!=") {
        Requirement { key: key(name), test: Test::NotIn(vec![key(value)]) }
    } else if let Some((name, value)) = text.split_once("==").or_else(|| text.split_once('=')) {
        Requirement { key: key(name), test: Test::In(vec![key(value)]) }
    } else if let Some((name, list)) = text.split_once(" notin ") {
        Requirement { key: key(name), test: Test::NotIn(values(list)) }
    } else if let Some((name, list)) = text.split_once(" in ") {
        Requirement { key: key(name), test: Test::In(values(list)) }
    } else {
        Requirement { key: key(text), test: Test::Exists }
    };
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if requirement.key.is_empty() || !requirement.key.chars().all(fits) {
        return Err(Refusal::bad_request(format!("unable to parse requirement: {whole}")));
    }
    Ok(requirement)
}

fn fields(text: &str) -> Result<Vec<Requirement>, Refusal> {
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let read = |part: &str| {
        let (key, value, equal) = if let Some((key, value)) = part.split_once("!=") {
            (key, value, false)
        } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
            (key, value, true)
        } else {
            return Err(Refusal::bad_request(format!(
                "invalid selector: '{text}'; can't understand '{part}'"
            )));
        };
        let values = vec![value.to_owned()];
        let condition = if equal { Test::In(values) } else { Test::NotIn(values) };
        Ok(Requirement { key: key.to_owned(), test: condition })
    };
    parts.map(read).collect()
}
