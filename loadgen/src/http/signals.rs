//! What a response says about its invocation: headers, body, and the outcome that follows from them.

use record::Outcome;
use serde::Deserialize;

use crate::http::target::Kind;

/// What the headers of a response say; a system says what it can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Signals {
    /// Wait for a slot, in microseconds.
    pub(crate) queue_us: Option<u64>,
    /// Wait for a new sandbox, in microseconds.
    pub(crate) cold_us: Option<u64>,
    /// Time in the sandbox, in microseconds.
    pub(crate) exec_us: Option<u64>,
    /// 1 cold, 0 not.
    pub(crate) cold: Option<u8>,
    /// The sandbox that served it.
    pub(crate) sandbox: Option<Box<str>>,
    /// Attempts the system made.
    pub(crate) attempts: Option<u32>,
    /// The kind of error the system names.
    pub(crate) error: Option<Box<str>>,
}

impl Signals {
    /// Notes a header, if it is one by which a system of this `kind` says something; malformed values are as good as
    /// absent. The first of a name counts: the system's own come before whatever a function adds to them. Knative has no
    /// such header: what comes through it under these names is its function's, and no measurement.
    pub(crate) fn note_header(&mut self, kind: Kind, name: &str, value: &[u8]) {
        if kind != Kind::Dirigent {
            return;
        }
        if name.eq_ignore_ascii_case("server-timing") {
            self.note_timing(str::from_utf8(value).unwrap_or(""));
            return;
        }
        let Some((prefix, name)) = name.split_at_checked(PREFIX.len()) else { return };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return;
        }
        let Ok(text) = str::from_utf8(value) else { return };
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("cold") {
            self.cold = self.cold.or(match text {
                "1" => Some(1),
                "0" => Some(0),
                _ => None,
            });
        } else if is("sandbox") {
            self.sandbox.get_or_insert_with(|| text.into());
        } else if is("attempts") {
            self.attempts = self.attempts.or(text.parse().ok());
        } else if is("error") {
            self.error.get_or_insert_with(|| text.into());
        }
    }

    /// Notes what only the body says: in Kubernetes the name of the machine is that of the pod, and the system itself
    /// names no sandbox.
    pub(crate) fn note_body(&mut self, kind: Kind, body: &[u8]) {
        if kind == Kind::Knative && self.sandbox.is_none() {
            self.sandbox = serde_json::from_slice::<Machine<'_>>(body).ok().map(|machine| machine.name.as_ref().into());
        }
    }

    /// Reads `queue;dur=0.2, cold;dur=104, exec;dur=8.75` (milliseconds).
    fn note_timing(&mut self, value: &str) {
        for metric in value.split(',') {
            let mut parts = metric.split(';').map(str::trim);
            let slot = match parts.next() {
                Some("queue") => &mut self.queue_us,
                Some("cold") => &mut self.cold_us,
                Some("exec") => &mut self.exec_us,
                _ => continue,
            };
            *slot = slot.or_else(|| parts.find_map(|part| part.strip_prefix("dur=")).and_then(micros));
        }
    }
}

const PREFIX: &str = "x-dirigent-";

/// Milliseconds as text to whole microseconds.
fn micros(text: &str) -> Option<u64> {
    let ms: f64 = text.trim_matches('"').parse().ok()?;
    micros_whole(ms * 1000.0)
}

/// The part of the function program's response that names its machine.
#[derive(Debug, Deserialize)]
struct Machine<'a> {
    #[serde(rename = "MachineName", borrow)]
    name: std::borrow::Cow<'a, str>,
}

/// The function program's response.
#[derive(Debug, Deserialize)]
struct Report<'a> {
    #[serde(rename = "Function", borrow)]
    function: std::borrow::Cow<'a, str>,
    #[serde(rename = "ExecutionTime")]
    execution_us: f64,
}

/// What status and body amount to.
#[derive(Debug, PartialEq)]
pub(crate) struct InvocationResult {
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// Execution time the function reports, in microseconds.
    pub(crate) executed_us: Option<u64>,
    /// What is wrong, unless all is well.
    pub(crate) error: Option<Box<str>>,
}

impl InvocationResult {
    /// Judges a response to an invocation of `function`.
    pub(crate) fn of(status: u16, body: &[u8], function: &str) -> Self {
        let because = |outcome, error: String| Self { outcome, executed_us: None, error: Some(error.into()) };
        match status {
            200..=299 => match serde_json::from_slice::<Report<'_>>(body) {
                Ok(report) if report.function != function => {
                    let other: String = report.function.chars().take(SHOWN_CHARS).collect();
                    because(Outcome::Invalid, format!("response of function {other:?}"))
                }
                Ok(report) => match micros_whole(report.execution_us) {
                    Some(us) => Self { outcome: Outcome::Ok, executed_us: Some(us), error: None },
                    None => because(Outcome::Invalid, "ExecutionTime is negative".to_owned()),
                },
                Err(error) => because(Outcome::Invalid, format!("not a function's response: {error}")),
            },
            429 | 503 => because(Outcome::Refused, format!("status {status}")),
            504 => because(Outcome::Timeout, format!("status {status}")),
            _ => because(Outcome::Error, format!("status {status}")),
        }
    }
}

/// A foreign name is quoted in a row no longer than this.
const SHOWN_CHARS: usize = 64;

/// A time that was told, however long: one that cannot be true is for the row to show and for the run to answer for.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; the greatest saturate")]
fn micros_whole(us: f64) -> Option<u64> {
    (us.is_finite() && us >= 0.0).then(|| us.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_system_are_noted_and_others_are_not() {
        let mut signals = Signals::default();
        for (name, value) in [
            ("Server-Timing", "queue;dur=0.25, cold;desc=\"x\";dur=104, exec;dur=8.7506, db;dur=3"),
            ("X-Dirigent-Cold", "1"),
            ("x-dirigent-sandbox", "3-17"),
            ("X-Dirigent-Attempts", "2"),
            ("X-Dirigent-Error", "queue-full"),
            ("X-Other", "1"),
        ] {
            signals.note_header(Kind::Dirigent, name, value.as_bytes());
        }
        let expected = Signals {
            queue_us: Some(250),
            cold_us: Some(104_000),
            exec_us: Some(8751),
            cold: Some(1),
            sandbox: Some("3-17".into()),
            attempts: Some(2),
            error: Some("queue-full".into()),
        };
        assert_eq!(signals, expected);
    }

    #[test]
    fn what_a_function_adds_after_the_system_is_not_taken_for_its_word() {
        let mut signals = Signals::default();
        for (name, value) in [
            ("server-timing", "queue;dur=1, cold;dur=0, exec;dur=2, exec;dur=99999"),
            ("server-timing", "exec;dur=99999, queue;dur=88888, cold;dur=77777"),
            ("x-dirigent-cold", "0"),
            ("x-dirigent-cold", "1"),
            ("x-dirigent-sandbox", "1-2"),
            ("x-dirigent-sandbox", "9-9"),
            ("x-dirigent-attempts", "1"),
            ("x-dirigent-attempts", "7"),
        ] {
            signals.note_header(Kind::Dirigent, name, value.as_bytes());
        }
        let expected = Signals {
            queue_us: Some(1000),
            cold_us: Some(0),
            exec_us: Some(2000),
            cold: Some(0),
            sandbox: Some("1-2".into()),
            attempts: Some(1),
            error: None,
        };
        assert_eq!(signals, expected);
    }

    #[test]
    fn a_pod_is_named_by_the_answer_of_its_function() {
        let body = br#"{"Status":"OK","Function":"f","MachineName":"f-00001-deployment-x","ExecutionTime":1}"#;
        let sandbox = |kind, body: &[u8]| {
            let mut signals = Signals::default();
            signals.note_body(kind, body);
            signals.sandbox
        };
        assert_eq!(sandbox(Kind::Knative, body).as_deref(), Some("f-00001-deployment-x"));
        assert_eq!(sandbox(Kind::Knative, b"no JSON"), None);
        assert_eq!(sandbox(Kind::Dirigent, body), None, "ours names its sandbox in a header");
    }

    #[test]
    fn malformed_headers_are_as_good_as_absent() {
        let mut signals = Signals::default();
        for (name, value) in [
            ("server-timing", "queue;dur=-1, cold;dur=x, exec, ;;,"),
            ("x-dirigent-cold", "yes"),
            ("x-dirigent-attempts", "-1"),
            ("x-dirigent-\u{e9}", "1"),
        ] {
            signals.note_header(Kind::Dirigent, name, value.as_bytes());
        }
        signals.note_header(Kind::Dirigent, "x-dirigent-sandbox", &[0xff]);
        assert_eq!(signals, Signals::default());
    }

    #[test]
    fn times_that_cannot_be_true_are_told_as_they_are() {
        let mut signals = Signals::default();
        signals.note_header(Kind::Dirigent, "server-timing", b"queue;dur=9.3e18, cold;dur=1e300, exec;dur=inf");
        assert_eq!((signals.queue_us, signals.cold_us, signals.exec_us), (Some(u64::MAX), Some(u64::MAX), None));
        for report in ["9223372036854775808", "1e300"] {
            let body = format!(r#"{{"Status":"OK","Function":"f","MachineName":"m","ExecutionTime":{report}}}"#);
            let result = InvocationResult::of(200, body.as_bytes(), "f");
            let least_us = 1 << 63;
            assert!(result.outcome == Outcome::Ok && result.executed_us >= Some(least_us), "{result:?}");
        }
    }

    #[test]
    fn status_and_body_give_the_outcome() {
        let good = br#"{"Status":"OK","Function":"f","MachineName":"m","ExecutionTime":1500}"#;
        assert_eq!(
            InvocationResult::of(200, good, "f"),
            InvocationResult { outcome: Outcome::Ok, executed_us: Some(1500), error: None }
        );
        for (status, body, outcome) in [
            (200, good.as_slice(), Outcome::Invalid),
            (200, b"", Outcome::Invalid),
            (201, br#"{"Function":"g","ExecutionTime":-1}"#, Outcome::Invalid),
            (503, b"", Outcome::Refused),
            (429, b"", Outcome::Refused),
            (504, b"", Outcome::Timeout),
            (502, b"", Outcome::Error),
            (404, b"", Outcome::Error),
            (302, b"", Outcome::Error),
        ] {
            let result = InvocationResult::of(status, body, "g");
            assert_eq!(result.outcome, outcome, "status {status}, body {body:?}");
            assert!(result.error.is_some(), "a failure says why: status {status}");
        }
    }
}
