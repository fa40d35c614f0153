//! The clients of one data plane: open-loop, each invocation at its time, whatever became of the ones before.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use serde_json::Value;
use tokio::{
    task::JoinSet,
    time::{Instant, sleep, sleep_until},
};

use super::{
    cluster::INVOKE_PORT,
    event::{Answer, Event},
    host::Host,
    http::{HttpError, ask},
    ledger::Ledger,
    scenario::{Call, QUEUE_DEADLINE_MS, Scenario, TIMEOUT_MS},
    tap::label,
};

/// No answer may take longer: a wait until the deadline, a run until the time-out (the last attempt may begin just
/// before the deadline), and as much again as a slow network and a lost connection attempt need.
pub(crate) const ANSWER_WITHIN_MS: u64 = QUEUE_DEADLINE_MS + TIMEOUT_MS + 2_000;

/// Sends every call of `scenario` that goes to the data plane of this number, and writes down what comes back.
pub(crate) async fn run(scenario: Arc<Scenario>, data_plane: usize, ledger: Ledger) -> turmoil::Result {
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for call in scenario.calls.iter().filter(|call| call.data_plane == data_plane).cloned() {
        sleep_until(began + Duration::from_millis(call.at_ms)).await;
        let (function, ledger) = (scenario.function_name(&call), ledger.clone());
        calls.spawn(async move { ledger.record(invoke(call, function, &ledger).await) });
    }
    while let Some(ended) = calls.join_next().await {
        ended?;
    }
    ledger.client_done();
    Ok(())
}

/// One invocation, from its sending to its end.
async fn invoke(call: Call, function: String, ledger: &Ledger) -> Event {
    let (id, to) = (call.id, Host::DataPlane(call.data_plane));
    let request = request(&call, &function);
    ledger.record(Event::Sent { call: id, function, to });
    let client_timeout_ms = call.abandon_after_ms.unwrap_or(ANSWER_WITHIN_MS);
    let answer = tokio::select! {
        biased;
        answer = ask(to, INVOKE_PORT, request) => answer,
        () = sleep(Duration::from_millis(client_timeout_ms)) => {
            return if call.abandon_after_ms.is_some() { Event::Abandoned { call: id } } else { Event::Unanswered { call: id } };
        }
    };
    match answer {
        Ok(answer) => Event::Answered { call: id, answer: read(&answer) },
        Err(HttpError::Connect(cause)) => Event::Broken { call: id, cause: cause.to_string() },
        Err(HttpError::Broken(cause)) => Event::Broken { call: id, cause: cause.to_string() },
    }
}

fn request(call: &Call, function: &str) -> Request<Bytes> {
    let method = if call.body_bytes.is_some() { "POST" } else { "GET" };
    Request::builder()
        .method(method)
        .uri("/")
        .header("host", function)
        .header("workload", "trace")
        .header("requested_cpu", call.run_ms)
        .header("function", label(function, call.id))
        .body(Bytes::from(vec![b'x'; call.body_bytes.unwrap_or_default()]))
        .expect("names and numbers are valid in a request")
}

fn read(answer: &Response<Bytes>) -> Answer {
    let text = |name: &str| header(answer.headers(), name);
    let body: Value = serde_json::from_slice(answer.body()).unwrap_or_default();
    Answer {
        status: answer.status().as_u16(),
        error: text("x-dirigent-error"),
        sandbox: text("x-dirigent-sandbox"),
        attempts: text("x-dirigent-attempts").and_then(|attempts| attempts.parse().ok()),
        cold: text("x-dirigent-cold").as_deref() == Some("1"),
        ran: body["Function"].as_str().map(str::to_owned),
        ran_ms: body["ExecutionTime"].as_u64().map(|us| us / 1000),
    }
}

fn header(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
