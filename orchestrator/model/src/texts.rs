//! Deserializes texts by name, each name once. A derived deserializer takes the last of several, and which was meant is
//! unknown.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt,
};

use serde::{
    Deserializer,
    de::{Error, MapAccess, Visitor},
};

/// Reads an object of texts.
pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    deserializer.deserialize_map(Texts)
}

struct Texts;

impl<'de> Visitor<'de> for Texts {
    type Value = BTreeMap<String, String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object of texts")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Self::Value, A::Error> {
        let mut texts = BTreeMap::new();
        while let Some(name) = fields.next_key::<String>()? {
            match texts.entry(name) {
                // Worded like serde's derived error, which is translated into a user's terms elsewhere.
                Entry::Occupied(there) => return Err(A::Error::custom(format!("duplicate field `{}`", there.key()))),
                Entry::Vacant(free) => free.insert(fields.next_value()?),
            };
        }
        Ok(texts)
    }
}
