//! The templates of a system: every text of its table may contain placeholders.

use serde_json::Value;

use crate::{definition::template::places, system::System};

impl System {
    /// Returns true if functions are registered with it, so that it must have an image for each of their workloads.
    #[must_use]
    pub fn takes_functions(&self) -> bool {
        self.templates().iter().any(|text| places(text).any(|place| place == "functions"))
    }

    /// Every text of its table.
    #[must_use]
    pub fn templates(&self) -> Vec<String> {
        let mut texts = Vec::new();
        list_texts(serde_json::to_value(self).expect("a system is made of tables of plain values"), &mut texts);
        texts
    }
}

/// Recursion is bounded by the types of a system.
fn list_texts(value: Value, texts: &mut Vec<String>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.into_iter().for_each(|value| list_texts(value, texts)),
        Value::Object(fields) => fields.into_iter().for_each(|(_, value)| list_texts(value, texts)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
