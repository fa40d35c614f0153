//! A watch of everything in etcd, through its HTTP gateway: which object changed when, and how many bytes were stored.

use std::{
    io::{BufRead, BufReader},
    sync::mpsc::{Receiver, channel},
    thread,
};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use record::Action;
use serde::Deserialize;
use serde_json::json;

use super::Functions;
use crate::topology::ETCD_PORT;

/// Prefix of the API server's objects.
const FROM: &str = "/registry/";
const TO: &str = "/registry0";

/// Changes as they happen, until etcd ends.
pub struct Changes(Receiver<Change>);

/// One change.
struct Change {
    at_ns: i64,
    key: String,
    is_delete: bool,
    bytes: u64,
}

#[derive(Deserialize)]
struct Message {
    result: Batch,
}

#[derive(Deserialize)]
struct Batch {
    #[serde(default)]
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default, rename = "type")]
    kind: String,
    kv: Pair,
}

#[derive(Deserialize)]
struct Pair {
    key: String,
    #[serde(default)]
    value: String,
}

impl Changes {
    /// Begins to follow the store.
    ///
    /// # Errors
    /// If etcd does not answer.
    pub fn follow() -> anyhow::Result<Self> {
        let body = json!({ "create_request": { "key": STANDARD.encode(FROM), "range_end": STANDARD.encode(TO) } });
        let address = format!("http://127.0.0.1:{ETCD_PORT}/v3/watch");
        let agent: ureq::Agent = ureq::Agent::config_builder().proxy(None).build().into();
        let answer = agent.post(&address).send(body.to_string()).context("watching the store")?;
        let lines = BufReader::new(answer.into_body().into_reader()).lines();
        let (sender, receiver) = channel();
        thread::spawn(move || {
            // It ends with etcd, whose connection breaks.
            for line in lines.map_while(Result::ok) {
                let at_ns = i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
                let Ok(message) = serde_json::from_str::<Message>(&line) else {
                    terminal::note!("the store says what nobody understands: {line}");
                    return;
                };
                for event in message.result.events {
                    if sender.send(change(&event, at_ns)).is_err() {
                        return;
                    }
                }
            }
        });
        Ok(Self(receiver))
    }

    /// Everything that changed, once etcd has ended.
    pub(super) fn finish(self, functions: &Functions) -> anyhow::Result<Vec<Action>> {
        Ok(self.0.into_iter().filter_map(|change| action(&change, functions)).collect())
    }
}

fn change(event: &Event, at_ns: i64) -> Change {
    let key = STANDARD.decode(&event.kv.key).map(|key| String::from_utf8_lossy(&key).into_owned()).unwrap_or_default();
    let padding = event.kv.value.bytes().rev().take_while(|byte| *byte == b'=').count();
    let bytes = (event.kv.value.len() / 4 * 3).saturating_sub(padding) as u64;
    Change { at_ns, key, is_delete: event.kind == "DELETE", bytes }
}

/// A change as an action; leases are left out, as they are of requests. Keys are `/registry/KIND/NAMESPACE/NAME`, with
/// the group before the kind where an object's kind was defined by somebody else.
fn action(change: &Change, functions: &Functions) -> Option<Action> {
    let mut parts = change.key.strip_prefix(FROM)?.split('/');
    let mut kind = parts.next()?;
    if kind == "leases" {
        return None;
    }
    if kind.contains('.') {
        kind = parts.next()?;
    }
    // Two kinds are kept under names that they had long ago.
    let kind = match (kind, change.key.contains("/services/endpoints/")) {
        ("services", true) => "endpoints",
        ("minions", _) => "nodes",
        (kind, _) => kind,
    };
    Some(Action {
        function: functions.of(change.key.rsplit('/').next()?).unwrap_or_default().to_owned(),
        actor: "store".to_owned(),
        action: if change.is_delete { "delete" } else { "put" }.to_owned(),
        object: kind.to_owned(),
        at_ns: change.at_ns,
        took_us: None,
        bytes: Some(change.bytes),
        status: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_what_changed_and_of_which_function() {
        let functions = Functions::new(["f".to_owned()]);
        let seen = |key: &str, value: &str| {
            let event =
                Event { kind: String::new(), kv: Pair { key: STANDARD.encode(key), value: STANDARD.encode(value) } };
            action(&change(&event, 5), &functions).map(|found| (found.object, found.function, found.bytes.unwrap()))
        };
        let expected = |object: &str, function: &str, bytes| Some((object.to_owned(), function.to_owned(), bytes));
        assert_eq!(seen("/registry/pods/default/f-00001-x", "12345"), expected("pods", "f", 5));
        assert_eq!(seen("/registry/serving.knative.dev/revisions/default/f-00001", ""), expected("revisions", "f", 0));
        assert_eq!(seen("/registry/services/endpoints/default/f-00001-private", "1234"), expected("endpoints", "f", 4));
        assert_eq!(seen("/registry/services/specs/default/f", "123456"), expected("services", "f", 6));
        assert_eq!(seen("/registry/minions/hollow-1", "1"), expected("nodes", "", 1));
        assert_eq!(seen("/registry/leases/kube-system/x", "1"), None);
    }
}
