//! The clients of one data plane: open-loop, each invocation at its time, independent of the earlier ones.

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
    event::{ClientResponse, Event},
    event_log::EventLog,
    host::Host,
    http::{HttpError, send_request},
    probe::label,
    scenario::{Call, QUEUE_DEADLINE_MS, Scenario, TIMEOUT_MS},
};

/// Longest time until a response: a wait until the deadline, a run until the time-out (the last attempt may begin just
/// before the deadline), and a margin for a slow network and a lost connection attempt.
pub(crate) const RESPONSE_TIMEOUT_MS: u64 = QUEUE_DEADLINE_MS + TIMEOUT_MS + 2_000;

/// Sends every call of `scenario` for this data plane, and records the responses.
pub(crate) async fn run(scenario: Arc<Scenario>, data_plane: usize, event_log: EventLog) -> turmoil::Result {
    let began = Instant::now();
    let mut calls = JoinSet::new();
    for call in scenario.calls.iter().filter(|call| call.data_plane == data_plane).cloned() {
        sleep_until(began + Duration::from_millis(call.at_ms)).await;
        let (function, event_log) = (scenario.function_name(&call), event_log.clone());
        calls.spawn(async move { event_log.record(invoke(call, function, &event_log).await) });
    }
    while let Some(ended) = calls.join_next().await {
        ended?;
    }
    event_log.client_done();
    Ok(())
}

/// Sends one invocation and waits for its end.
async fn invoke(call: Call, function: String, event_log: &EventLog) -> Event {
    let (id, to) = (call.id, Host::DataPlane(call.data_plane));
    let request = request(&call, &function);
    event_log.record(Event::Sent { call: id, function, to });
    let client_timeout_ms = call.abandon_after_ms.unwrap_or(RESPONSE_TIMEOUT_MS);
    let response = tokio::select! {
        biased;
        response = send_request(to, INVOKE_PORT, request) => response,
        () = sleep(Duration::from_millis(client_timeout_ms)) => {
            return if call.abandon_after_ms.is_some() { Event::Abandoned { call: id } } else { Event::TimedOut { call: id } };
        }
    };
    match response {
        Ok(response) => Event::Responded { call: id, response: read(&response) },
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

fn read(response: &Response<Bytes>) -> ClientResponse {
    let text = |name: &str| header(response.headers(), name);
    let body: Value = serde_json::from_slice(response.body()).unwrap_or_default();
    ClientResponse {
        status: response.status().as_u16(),
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
