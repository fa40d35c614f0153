//! Deserializes enums from text alone. A derived deserializer also accepts an object with one field, whose value it may
//! leave unread, and reports anything else as a syntax error of the document rather than as wrong data.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, IntoDeserializer, Visitor, value::StrDeserializer},
};

/// Reads one of several names.
pub(crate) fn deserialize<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_str(Choice(PhantomData))
}

struct Choice<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Choice<T> {
    type Value = T;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a text")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        let text: StrDeserializer<'_, E> = text.into_deserializer();
        T::deserialize(text)
    }
}
