//! The time line of one invocation, read from the headers of its response.

use std::fmt::{self, Write};

use serde_json::{Value, json};
use ureq::http::{HeaderMap, StatusCode};

/// The metrics that a data plane sends.
const PHASES: [&str; 3] = ["queue", "cold", "exec"];

/// Width of the longest bar, in characters.
const BAR_CHARACTERS: f64 = 40.0;

/// One invocation as its response describes it.
#[derive(Debug, PartialEq)]
pub(crate) struct Timeline {
    status: StatusCode,
    cold: Option<bool>,
    sandbox: Option<String>,
    attempts: Option<u32>,
    error: Option<String>,
    /// Name and duration in milliseconds, as the data plane measured them.
    phases: Vec<(String, f64)>,
    /// From sending to the last byte, in milliseconds, as this program measured it.
    total_ms: f64,
}

impl Timeline {
    /// The timeline of a response that took `total_ms` milliseconds.
    pub(crate) fn read(status: StatusCode, headers: &HeaderMap, total_ms: f64) -> Self {
        let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            status,
            cold: text("x-dirigent-cold").map(|value| value == "1"),
            sandbox: text("x-dirigent-sandbox").map(str::to_owned),
            attempts: text("x-dirigent-attempts").and_then(|value| value.parse().ok()),
            error: text("x-dirigent-error").map(str::to_owned),
            phases: server_timing(headers.get_all("server-timing").iter().filter_map(|value| value.to_str().ok())),
            total_ms,
        }
    }

    /// Returns true if a data plane passed the response on, or made it.
    pub(crate) fn is_of_data_plane(&self) -> bool {
        self.error.is_some() || self.cold.is_some() || self.sandbox.is_some()
    }

    /// The reason why a data plane responded instead of the function.
    pub(crate) fn refusal(&self) -> Option<&str> {
        self.error.as_deref()
    }

    /// Phase and milliseconds as CSV, the total last.
    pub(crate) fn csv(&self) -> String {
        let header = ["phase".to_owned(), "ms".to_owned()];
        let phases = self.phases.iter().map(|(name, ms)| [name.to_string(), ms.to_string()]);
        let total = ["total".to_owned(), self.total_ms.to_string()];
        terminal::csv(std::iter::once(header).chain(phases).chain([total]))
    }

    /// The timeline as JSON; durations in milliseconds.
    pub(crate) fn to_json(&self) -> Value {
        let phases: serde_json::Map<String, Value> =
            self.phases.iter().map(|(name, ms)| (format!("{name}_ms"), json!(ms))).collect();
        json!({
            "status": self.status.as_u16(),
            "cold": self.cold,
            "sandbox": self.sandbox,
            "attempts": self.attempts,
            "error": self.error,
            "phases": phases,
            "total_ms": self.total_ms,
        })
    }
}

/// The data plane's metrics in `Server-Timing` fields, in milliseconds. The first of a name counts: the data plane's come
/// first, so that a function cannot replace them. A function's own lie within `exec` and would be counted twice.
fn server_timing<'a>(fields: impl Iterator<Item = &'a str>) -> Vec<(String, f64)> {
    let metric = |entry: &str| {
        let mut parts = entry.split(';').map(str::trim);
        let name = parts.next().filter(|name| PHASES.contains(name))?;
        let duration = parts.find_map(|parameter| parameter.strip_prefix("dur="))?.parse().ok()?;
        Some((name.to_owned(), duration))
    };
    let mut metrics: Vec<(String, f64)> = Vec::new();
    for (name, ms) in fields.flat_map(|field| field.split(',')).filter_map(metric) {
        if metrics.iter().all(|(known, _)| *known != name) {
            metrics.push((name, ms));
        }
    }
    metrics
}

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts = self.status.to_string();
        for (known, fact) in [(Some(true), "cold start"), (Some(false), "warm or queued")] {
            if self.cold == known {
                write!(facts, ", {fact}")?;
            }
        }
        if let Some(sandbox) = &self.sandbox {
            write!(facts, ", sandbox {sandbox}")?;
        }
        if let Some(attempts) = self.attempts.filter(|attempts| *attempts > 1) {
            write!(facts, ", {attempts} attempts")?;
        }
        if let Some(error) = &self.error {
            write!(facts, ", {error}")?;
        }
        writeln!(f, "{facts}")?;
        let known: f64 = self.phases.iter().map(|(_, ms)| ms).sum();
        let rest = ("elsewhere".to_owned(), (self.total_ms - known).max(0.0));
        for (name, ms) in self.phases.iter().chain([&rest]) {
            let share = if self.total_ms > 0.0 { (ms / self.total_ms).clamp(0.0, 1.0) } else { 0.0 };
            let bar: String = std::iter::repeat_n('█', whole_characters(share)).collect();
            writeln!(f, "{}", format!("  {name:<10}{ms:>10.3} ms  {bar}").trim_end())?;
        }
        write!(f, "  {:<10}{:>10.3} ms", "total", self.total_ms)
    }
}

/// Characters of a bar for `share`, which is within 0 and 1.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most BAR_CHARACTERS, and not negative")]
fn whole_characters(share: f64) -> usize {
    (share * BAR_CHARACTERS).round() as usize
}

#[cfg(test)]
mod tests {
    use ureq::http::HeaderValue;

    use super::*;

    fn example() -> Timeline {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("server-timing", "queue;dur=0, cold;dur=30.5, exec;dur=9.5, odd, x;desc=\"y\""),
            ("x-dirigent-cold", "1"),
            ("x-dirigent-sandbox", "1-7"),
            ("x-dirigent-attempts", "2"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Timeline::read(StatusCode::OK, &headers, 80.0)
    }

    #[test]
    fn the_phases_and_the_rest_make_the_total() {
        let printed = example().to_string();
        let expected = "200 OK, cold start, sandbox 1-7, 2 attempts\n\
            \x20 queue          0.000 ms\n\
            \x20 cold          30.500 ms  ███████████████\n\
            \x20 exec           9.500 ms  █████\n\
            \x20 elsewhere     40.000 ms  ████████████████████\n\
            \x20 total         80.000 ms";
        assert_eq!(printed, expected);
        assert_eq!(example().to_json()["phases"]["cold_ms"], 30.5);
    }

    #[test]
    fn a_function_cannot_replace_what_the_data_plane_measured() {
        let mut headers = HeaderMap::new();
        for value in
            ["queue;dur=0.5, cold;dur=0, exec;dur=9.5", "exec;dur=99999, queue;dur=88888, cold;dur=7, app;dur=1.5"]
        {
            headers.append("server-timing", HeaderValue::from_static(value));
        }
        let timeline = Timeline::read(StatusCode::OK, &headers, 12.0);
        let phases = [("queue", 0.5), ("cold", 0.0), ("exec", 9.5)].map(|(name, ms)| (name.to_owned(), ms));
        assert_eq!(timeline.phases, phases);
        assert!(timeline.to_string().contains("elsewhere      2.000 ms"), "{timeline}");
    }

    #[test]
    fn a_response_without_headers_has_only_a_total() {
        let timeline = Timeline::read(StatusCode::BAD_GATEWAY, &HeaderMap::new(), 1.0);
        assert!(timeline.to_string().starts_with("502 Bad Gateway\n  elsewhere"), "{timeline}");
    }
}
