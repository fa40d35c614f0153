//! One entry of the file: a command as JSON with the version of its form, which a person can read and later versions of
//! the program can extend.

use std::path::Path;

use model::{FunctionSpec, Queue, Scaling};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, DeserializeOwned, Visitor},
    forward_to_deserialize_any,
};
use serde_json::Value;

use crate::store::{Command, StoreError};

/// The newest form of commands that is known here. A program that adds a field or a command keeps it: fields that are not
/// known are ignored, commands that are not known are refused. It is raised when ignoring a new field would be wrong.
const VERSION: u32 = 1;

#[derive(Deserialize)]
struct Entry {
    /// Absent in logs that were begun before there were versions.
    #[serde(default)]
    version: u32,
    #[serde(flatten)]
    command: Command,
}

#[derive(Serialize)]
struct EntryRef<'a> {
    version: u32,
    #[serde(flatten)]
    command: &'a Command,
}

/// The entry of a command.
pub(super) fn encode(command: &Command) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&EntryRef { version: VERSION, command })
}

/// The command of the entry at `index` in the file at `path`.
pub(super) fn decode(path: &Path, index: u64, bytes: &[u8]) -> Result<Command, StoreError> {
    let entry = serde_json::from_slice::<Entry>(bytes).or_else(|source| {
        let again = serde_json::from_slice(bytes).and_then(|value| serde_json::from_value(known_part(value)));
        // The error of the entry as it is stored describes the mistake.
        again.map_err(|_| StoreError::Entry { path: path.display().to_string(), index, source })
    });
    let theirs = entry.as_ref().map_or_else(|_| version_of(bytes), |entry| entry.version);
    if theirs > VERSION {
        return Err(StoreError::Newer { path: path.display().to_string(), index, theirs, ours: VERSION });
    }
    entry.map(|entry| entry.command)
}

/// The version of an entry of unknown form; 0 if it has none.
fn version_of(bytes: &[u8]) -> u32 {
    let entry: Option<Value> = serde_json::from_slice(bytes).ok();
    let version = entry.as_ref().and_then(|entry| entry["version"].as_u64()).unwrap_or(0);
    u32::try_from(version).unwrap_or(u32::MAX)
}

/// The entry without the fields of its specification that are not known: where users write specifications these are
/// mistakes, here they are of a later program.
fn known_part(mut entry: Value) -> Value {
    let spec =
        if entry.get("registered").is_some() { entry.pointer_mut("/registered/spec") } else { entry.get_mut("spec") };
    if let Some(spec) = spec {
        keep_known::<FunctionSpec>(spec);
        spec.get_mut("scale").into_iter().for_each(keep_known::<Scaling>);
        spec.get_mut("queue").into_iter().for_each(keep_known::<Queue>);
    }
    entry
}

fn keep_known<T: DeserializeOwned>(value: &mut Value) {
    let known = fields_of::<T>();
    if let Some(object) = value.as_object_mut() {
        object.retain(|name, _| known.contains(&name.as_str()));
    }
}

/// Names of the fields that a struct is read from.
fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    let mut fields: &[&str] = &[];
    // It contains nothing: only the requested names matter.
    let _ = T::deserialize(Asked(&mut fields));
    fields
}

/// Records the fields that a type requests.
struct Asked<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Asked<'_> {
    type Error = de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(de::Error::custom("there is nothing"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        self.deserialize_any(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use model::{FunctionId, Registered, Revision};
    use serde_json::json;

    use super::*;

    fn put() -> Command {
        let mut spec = FunctionSpec::new("f".parse().unwrap(), "any");
        spec.env.insert("NAME".to_owned(), "value".to_owned());
        Command::PutFunction { spec: Box::new(spec) }
    }

    fn keep() -> Command {
        let spec = FunctionSpec::new("f".parse().unwrap(), "any");
        Command::KeepFunction { registered: Box::new(Registered { id: FunctionId(3), revision: Revision(4), spec }) }
    }

    fn decode_value(entry: &Value) -> Result<Command, StoreError> {
        decode(Path::new("commands.redb"), 7, entry.to_string().as_bytes())
    }

    /// Adds an unknown field to every object except the environment, whose names are a user's.
    fn extend(value: &mut Value) {
        let Some(object) = value.as_object_mut() else { return };
        object.iter_mut().filter(|(name, _)| *name != "env").for_each(|(_, value)| extend(value));
        object.insert("colour".to_owned(), json!({ "of": "later" }));
    }

    #[test]
    fn an_entry_has_a_version_and_those_without_one_are_read_too() {
        for command in [put(), keep(), Command::BeginEpoch { epoch: model::Epoch(3), nonce: u64::MAX }] {
            let mut entry: Value = serde_json::from_slice(&encode(&command).unwrap()).unwrap();
            assert_eq!(entry["version"], VERSION);
            assert_eq!(decode_value(&entry).unwrap(), command);
            entry.as_object_mut().unwrap().remove("version");
            assert_eq!(decode_value(&entry).unwrap(), command);
        }
    }

    #[test]
    fn fields_of_a_later_program_are_ignored_wherever_they_are() {
        for command in [put(), keep(), Command::DrainNode { name: model::NodeName("n".into()), drained: true }] {
            let mut entry = serde_json::from_slice(&encode(&command).unwrap()).unwrap();
            extend(&mut entry);
            assert_eq!(decode_value(&entry).unwrap(), command, "{entry}");
        }
    }

    #[test]
    fn a_newer_version_is_refused_as_such_and_what_is_no_command_with_what_was_expected() {
        let mut entry: Value = serde_json::from_slice(&encode(&put()).unwrap()).unwrap();
        entry["version"] = json!(VERSION + 1);
        for changed in [entry.clone(), json!({ "version": VERSION + 1, "command": "paint" })] {
            let refused = decode_value(&changed).unwrap_err().to_string();
            let expected = "command log commands.redb, entry 7: written by a newer program";
            assert!(refused.starts_with(expected), "{refused}");
        }
        for wrong in [json!({ "command": "paint" }), json!({ "command": "put-function", "spec": { "name": "f" } })] {
            let refused = decode_value(&wrong).unwrap_err();
            assert!(matches!(refused, StoreError::Entry { index: 7, .. }), "{refused}");
        }
    }
}
