//! Durations as users write them: `90s`, `30m`, `1h30m`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::jiff::SignedDuration;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// The schema's pattern: a sequence of numbers with a unit, from milliseconds to hours. It is the
/// subset of Go's duration syntax that CEL's `duration()` reads without surprise.
const PATTERN: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";

/// A span of time as text, for example `90s` or `1h30m`; units are `ms`, `s`, `m` and `h`.
///
/// Bounds belong to the field that uses it and are checked by the API server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Duration(String);

impl Duration {
    /// Wraps text that is known to match the schema's pattern.
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The span. Text that the schema would have refused counts as far as it can be read; the API
    /// server never hands us such text.
    pub fn get(&self) -> SignedDuration {
        parse(&self.0).unwrap_or(SignedDuration::ZERO)
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Duration {
    fn schema_name() -> Cow<'static, str> {
        "Duration".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 32, "pattern": PATTERN})
    }
}

/// Parses `1h30m`-like text; `None` if it does not match [`PATTERN`] or overflows.
fn parse(text: &str) -> Option<SignedDuration> {
    let mut rest = text;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..unit_at].parse().ok()?;
        let tail = &rest[unit_at..];
        let unit_len = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        seconds += number
            * match &tail[..unit_len] {
                "ms" => 0.001,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return None,
            };
        rest = &tail[unit_len..];
    }
    if text.is_empty() { None } else { SignedDuration::try_from_secs_f64(seconds).ok() }
}

/// Reads a command-line value with the same syntax as the API.
impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).map(|_| Self::new(text)).ok_or_else(|| {
            format!("'{text}' is not a duration; write numbers with units ms, s, m or h, like 90s or 1h30m")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_is_parsed_when_the_pattern_allows_the_text() {
        for (text, seconds) in
            [("0s", 0.0), ("90s", 90.0), ("1h30m", 5400.0), ("1.5h", 5400.0), ("250ms", 0.25)]
        {
            assert_eq!(parse(text).map(|d| d.as_secs_f64()), Some(seconds), "{text}");
        }
    }

    #[test]
    fn duration_is_refused_when_the_pattern_refuses_the_text() {
        for text in ["", "5", "1 day", "1d", "-1s", "1s ", "s", "1.2.3s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
