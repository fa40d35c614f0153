//! The outcome of one invocation, as status and body of its response give it.

use record::Outcome;
use serde::Deserialize;

use crate::target_profile::ResponseBody;

/// The function program's response.
#[derive(Debug, Deserialize)]
struct Report<'a> {
    #[serde(rename = "Function", borrow)]
    function: std::borrow::Cow<'a, str>,
    #[serde(rename = "ExecutionTime")]
    execution_us: f64,
}

/// The end of an invocation, with a response or without one.
#[derive(Debug, PartialEq)]
pub(crate) struct InvocationResult {
    /// The outcome.
    pub(crate) outcome: Outcome,
    /// Execution time the function reports, in microseconds.
    pub(crate) executed_us: Option<u64>,
    /// The problem, unless it succeeded.
    pub(crate) error: Option<Box<str>>,
}

impl InvocationResult {
    /// Classifies a response to an invocation of `function`; of a successful one the body has to be as `expected`.
    pub(crate) fn of(expected: ResponseBody, status: u16, body: &[u8], function: &str) -> Self {
        let because = |outcome, error: String| Self { outcome, executed_us: None, error: Some(error.into()) };
        match status {
            200..=299 if expected == ResponseBody::Any => Self { outcome: Outcome::Ok, executed_us: None, error: None },
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

/// Rounds a reported time to microseconds, however long it is: an impossible one must show in its row, where it makes the
/// run invalid.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative; the greatest saturate")]
pub(crate) fn micros_whole(us: f64) -> Option<u64> {
    (us.is_finite() && us >= 0.0).then(|| us.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_execution_times_are_recorded_as_reported() {
        for report in ["9223372036854775808", "1e300"] {
            let body = format!(r#"{{"Status":"OK","Function":"f","MachineName":"m","ExecutionTime":{report}}}"#);
            let result = InvocationResult::of(ResponseBody::FunctionReport, 200, body.as_bytes(), "f");
            let least_us = 1 << 63;
            assert!(result.outcome == Outcome::Ok && result.executed_us >= Some(least_us), "{result:?}");
        }
    }

    #[test]
    fn status_and_body_give_the_outcome() {
        let good = br#"{"Status":"OK","Function":"f","MachineName":"m","ExecutionTime":1500}"#;
        assert_eq!(
            InvocationResult::of(ResponseBody::FunctionReport, 200, good, "f"),
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
            let result = InvocationResult::of(ResponseBody::FunctionReport, status, body, "g");
            assert_eq!(result.outcome, outcome, "status {status}, body {body:?}");
            assert!(result.error.is_some(), "a failure says why: status {status}");
        }
    }

    #[test]
    fn any_body_is_accepted_where_none_is_expected() {
        let result = InvocationResult::of(ResponseBody::Any, 204, b"", "f");
        assert_eq!(result, InvocationResult { outcome: Outcome::Ok, executed_us: None, error: None });
        assert_eq!(InvocationResult::of(ResponseBody::Any, 302, b"", "f").outcome, Outcome::Error);
    }
}
