//! The adapter of this project's data plane: `Server-Timing` and the `X-Dirigent-*` headers.

use std::net::SocketAddr;

use super::{SignalAdapter, Signals};
use crate::http::{port::Port, result::micros_whole};

#[derive(Debug)]
pub(super) struct DirigentHeaders;

const PREFIX: &str = "x-dirigent-";

impl SignalAdapter for DirigentHeaders {
    fn name(&self) -> &'static str {
        "dirigent-headers"
    }

    /// The first header of a name counts: the data plane's own come before whatever a function adds to them.
    fn read_header(&self, signals: &mut Signals, name: &str, value: &[u8]) {
        if name.eq_ignore_ascii_case("server-timing") {
            read_timing(signals, str::from_utf8(value).unwrap_or(""));
            return;
        }
        let Some((prefix, name)) = name.split_at_checked(PREFIX.len()) else { return };
        if !prefix.eq_ignore_ascii_case(PREFIX) {
            return;
        }
        let Ok(text) = str::from_utf8(value) else { return };
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("cold") {
            signals.cold = signals.cold.or(match text {
                "1" => Some(1),
                "0" => Some(0),
                _ => None,
            });
        } else if is("sandbox") {
            signals.sandbox.get_or_insert_with(|| text.into());
        } else if is("attempts") {
            signals.attempts = signals.attempts.or(text.parse().ok());
        } else if is("error") {
            signals.error.get_or_insert_with(|| text.into());
        }
    }

    fn diagnose(&self, address: &SocketAddr, option: &str) -> Option<String> {
        Port::Invocations.port_mismatch(address, option)
    }
}

/// Reads `queue;dur=0.2, cold;dur=104, exec;dur=8.75` (milliseconds).
fn read_timing(signals: &mut Signals, value: &str) {
    for metric in value.split(',') {
        let mut parts = metric.split(';').map(str::trim);
        let slot = match parts.next() {
            Some("queue") => &mut signals.queue_us,
            Some("cold") => &mut signals.cold_us,
            Some("exec") => &mut signals.exec_us,
            _ => continue,
        };
        *slot = slot.or_else(|| parts.find_map(|part| part.strip_prefix("dur=")).and_then(micros));
    }
}

/// Milliseconds as text to whole microseconds.
fn micros(text: &str) -> Option<u64> {
    let ms: f64 = text.trim_matches('"').parse().ok()?;
    micros_whole(ms * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_the_system_are_read_and_others_are_not() {
        let mut signals = Signals::default();
        for (name, value) in [
            ("Server-Timing", "queue;dur=0.25, cold;desc=\"x\";dur=104, exec;dur=8.7506, db;dur=3"),
            ("X-Dirigent-Cold", "1"),
            ("x-dirigent-sandbox", "3-17"),
            ("X-Dirigent-Attempts", "2"),
            ("X-Dirigent-Error", "queue-full"),
            ("X-Other", "1"),
        ] {
            DirigentHeaders.read_header(&mut signals, name, value.as_bytes());
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
    fn headers_that_a_function_adds_after_the_systems_are_ignored() {
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
            DirigentHeaders.read_header(&mut signals, name, value.as_bytes());
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
    fn malformed_headers_count_as_absent() {
        let mut signals = Signals::default();
        for (name, value) in [
            ("server-timing", "queue;dur=-1, cold;dur=x, exec, ;;,"),
            ("x-dirigent-cold", "yes"),
            ("x-dirigent-attempts", "-1"),
            ("x-dirigent-\u{e9}", "1"),
        ] {
            DirigentHeaders.read_header(&mut signals, name, value.as_bytes());
        }
        DirigentHeaders.read_header(&mut signals, "x-dirigent-sandbox", &[0xff]);
        assert_eq!(signals, Signals::default());
    }

    #[test]
    fn the_body_of_a_function_is_no_signal() {
        let mut signals = Signals::default();
        DirigentHeaders.read_body(&mut signals, br#"{"Status":"OK","MachineName":"pod-1","ExecutionTime":5}"#);
        assert_eq!(signals, Signals::default());
    }

    #[test]
    fn impossible_times_are_recorded_as_reported() {
        let mut signals = Signals::default();
        DirigentHeaders.read_header(&mut signals, "server-timing", b"queue;dur=9.3e18, cold;dur=1e300, exec;dur=inf");
        assert_eq!((signals.queue_us, signals.cold_us, signals.exec_us), (Some(u64::MAX), Some(u64::MAX), None));
    }
}
