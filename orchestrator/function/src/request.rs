//! The work that a request asks for, read from its headers.

use std::time::Duration;

use http::HeaderMap;
use thiserror::Error;

/// Longest run that can be requested: a day. Longer is a mistake in the caller's units.
const MAX_CPU_MS: f64 = 86_400_000.0;

/// The program to behave as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Workload {
    /// Respond at once.
    Empty,
    /// Run and touch memory as the request says.
    Trace,
}

const WORKLOADS: &str = "empty, trace, or an image whose name has one of these words";

impl Workload {
    /// The program that `text` names: `empty`, `trace`, or the name of an image that has one of these words, as
    /// existing replayers send it (`registry.example/someone/dirigent_trace_function:latest`).
    ///
    /// What the image's own name says counts before its registry, its owner and its tag.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let image = text.rsplit('/').next().unwrap_or_default();
        let image = image.split([':', '@']).next().unwrap_or_default();
        [image, &text].into_iter().find_map(|part| match (part.contains("empty"), part.contains("trace")) {
            (true, false) => Some(Self::Empty),
            (false, true) => Some(Self::Trace),
            _ => None,
        })
    }
}

/// The work of one invocation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Work {
    /// The program.
    pub workload: Workload,
    /// Run time (`requested_cpu`, in milliseconds on the wire).
    pub run: Duration,
    /// Memory to touch, in MiB (`requested_memory`).
    pub memory_mib: u32,
    /// Share of `run` that is waited for instead of computed, 0 to 1 (`io_percentage`, in percent on the wire).
    pub waiting_share: f64,
}

/// A header has a value that means nothing.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("header {header}: expected {expected}, got {got:?}")]
pub struct BadHeader {
    /// Its name.
    pub header: &'static str,
    /// The expected form.
    pub expected: &'static str,
    /// The value found; empty if it was missing.
    pub got: String,
}

impl Work {
    /// Nothing to do.
    pub const EMPTY: Self = Self { workload: Workload::Empty, run: Duration::ZERO, memory_mib: 0, waiting_share: 0.0 };

    /// Reads the headers of a request. Without a `workload` it is the empty one, so that any client gets a response.
    ///
    /// `multiplier` is the number of loop rounds that make a millisecond on the caller's reference machine. This
    /// function calibrates itself, so the value is checked and has no effect: a millisecond is a millisecond.
    ///
    /// # Errors
    /// The first header that cannot be read.
    pub fn from_headers(headers: &HeaderMap) -> Result<Self, BadHeader> {
        let workload = match headers.get("workload") {
            None => Workload::Empty,
            Some(value) => value.to_str().ok().and_then(Workload::named).ok_or(bad(headers, "workload", WORKLOADS))?,
        };
        if workload == Workload::Empty {
            return Ok(Self::EMPTY);
        }
        let cpu = "milliseconds to run, 0 to 86400000";
        let run_ms = number(headers, "requested_cpu", cpu, MAX_CPU_MS)?.ok_or(bad(headers, "requested_cpu", cpu))?;
        let memory = number(headers, "requested_memory", "MiB to touch, 0 or more", f64::from(u32::MAX))?;
        number(headers, "multiplier", "loop rounds per millisecond, 0 or more", f64::MAX)?;
        let waiting = number(headers, "io_percentage", "percent of the time, 0 to 100", 100.0)?;
        Ok(Self {
            workload,
            run: Duration::from_secs_f64(run_ms / 1000.0),
            memory_mib: whole(memory.unwrap_or(0.0)),
            waiting_share: waiting.unwrap_or(0.0) / 100.0,
        })
    }
}

/// The header's number when it is there, finite and between 0 and `max`.
fn number(headers: &HeaderMap, name: &'static str, expected: &'static str, max: f64) -> Result<Option<f64>, BadHeader> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(|text| text.trim().parse::<f64>().ok());
    match parsed {
        Some(number) if (0.0..=max).contains(&number) => Ok(Some(number)),
        _ => Err(bad(headers, name, expected)),
    }
}

/// Rounded up: half a MiB is memory too.
fn whole(number: f64) -> u32 {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within 0 and u32::MAX")]
    let whole = number.ceil() as u32;
    whole
}

fn bad(headers: &HeaderMap, header: &'static str, expected: &'static str) -> BadHeader {
    let got = headers.get(header).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    BadHeader { header, expected, got: got.unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (http::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_replayers_request_is_understood() {
        let work = Work::from_headers(&headers(&[
            ("workload", "trace"),
            ("requested_cpu", "2.5"),
            ("requested_memory", "64"),
            ("multiplier", "102"),
            ("io_percentage", "25"),
        ]))
        .unwrap();
        let run = Duration::from_micros(2500);
        assert_eq!(work, Work { workload: Workload::Trace, run, memory_mib: 64, waiting_share: 0.25 });
    }

    #[test]
    fn without_a_workload_there_is_nothing_to_do() {
        assert_eq!(Work::from_headers(&HeaderMap::new()), Ok(Work::EMPTY));
        assert_eq!(Work::from_headers(&headers(&[("workload", "empty"), ("requested_cpu", "x")])), Ok(Work::EMPTY));
    }

    #[test]
    fn an_image_name_selects_the_program_whose_word_it_contains() {
        for (text, expected) in [
            ("trace", Some(Workload::Trace)),
            ("Empty", Some(Workload::Empty)),
            ("docker.io/someone/dirigent_trace_function:latest", Some(Workload::Trace)),
            ("docker.io/someone/dirigent_empty_function", Some(Workload::Empty)),
            ("registry.example:5000/traces/empty_function:trace", Some(Workload::Empty)),
            ("registry.example/someone/function:trace", Some(Workload::Trace)),
            ("docker.io/someone/function:latest", None),
            ("", None),
        ] {
            assert_eq!(Workload::named(text), expected, "{text:?}");
            let work = Work::from_headers(&headers(&[("workload", text), ("requested_cpu", "1")]));
            assert_eq!(work.ok().map(|work| work.workload), expected, "header {text:?}");
        }
    }

    #[test]
    fn each_bad_value_is_named() {
        for (name, value) in [
            ("workload", "busy"),
            ("workload", "empty-or-trace"),
            ("requested_cpu", "ten"),
            ("requested_cpu", "-1"),
            ("requested_cpu", "NaN"),
            ("requested_cpu", "inf"),
            ("requested_cpu", "86400001"),
            ("requested_memory", "-1"),
            ("requested_memory", "4294967296"),
            ("multiplier", ""),
            ("io_percentage", "100.1"),
        ] {
            let mut pairs = vec![("workload", "trace"), ("requested_cpu", "1")];
            pairs.retain(|(known, _)| *known != name);
            pairs.push((name, value));
            let error = Work::from_headers(&headers(&pairs)).unwrap_err();
            assert_eq!((error.header, error.got.as_str()), (name, value));
        }
        let missing = Work::from_headers(&headers(&[("workload", "trace")])).unwrap_err();
        assert_eq!((missing.header, missing.got.as_str()), ("requested_cpu", ""));
    }

    proptest! {
        #[test]
        fn no_header_value_panics(value in "[ -~]{0,24}") {
            for name in ["workload", "requested_cpu", "requested_memory", "multiplier", "io_percentage"] {
                let _ = Work::from_headers(&headers(&[("workload", "trace"), ("requested_cpu", "1"), (name, &value)]));
            }
        }
    }
}
