//! Enum values of a status that another version of the operator may have written.
//!
//! Invariant kept here: an object stays readable if this version does not know an enum value of its status.

use serde::de::{DeserializeOwned, Deserializer};
use serde::{Deserialize, de::IntoDeserializer};

/// The value, if this version knows it.
pub(super) fn known<'de, D: Deserializer<'de>, T: DeserializeOwned>(from: D) -> Result<Option<T>, D::Error> {
    let word = Option::<String>::deserialize(from)?;
    Ok(word.and_then(|word| read(&word)))
}

/// The value if this version knows it, otherwise the default.
pub(super) fn known_or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    from: D,
) -> Result<T, D::Error> {
    Ok(read(&String::deserialize(from)?).unwrap_or_default())
}

fn read<T: DeserializeOwned>(word: &str) -> Option<T> {
    let word: serde::de::value::StrDeserializer<'_, serde::de::value::Error> = word.into_deserializer();
    T::deserialize(word).ok()
}
