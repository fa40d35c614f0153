//! Function specifications: what to run, with which resources and limits.

use std::{collections::BTreeMap, time::Duration};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    FunctionId, FunctionName, Resources, Revision, Scaling,
    duration::{MAX_DURATION, MAX_DURATION_TEXT},
};

/// The protocol of a sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 without TLS, with prior knowledge (RFC 9113, section 3.3).
    H2c,
}

/// The invocations that are retried if a sandbox closed the connection before a byte of its response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Retry {
    /// Those of idempotent methods (RFC 9110, section 9.2.2), because the sandbox may have acted on the request. Others
    /// only if it is known that nothing was sent.
    #[default]
    Idempotent,
    /// All: the function handles duplicates.
    Any,
}

/// Greatest concurrency of a function: the slots of 400,000 of its sandboxes still fit in 32 bits.
pub const MAX_CONCURRENCY: u32 = 10_000;

/// Bounds of a function's queue in one data plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Queue {
    /// Longest wait for a slot; then 504.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    /// Most waiting invocations in one data plane; further ones are refused with 503.
    pub limit: u32,
}

impl Default for Queue {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(60), limit: 10_000 }
    }
}

/// The specification of a function, as a user writes it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FunctionSpec {
    /// Name, which is also the host that clients address.
    pub name: FunctionName,
    /// Image to run; its form depends on the runtime.
    pub image: String,
    /// Port that it listens on inside its sandbox, if the runtime gives the sandbox an address of its own.
    #[serde(default = "default_port")]
    pub port: u16,
    /// Protocol that it speaks.
    #[serde(default, deserialize_with = "crate::choice::deserialize")]
    pub protocol: Protocol,
    /// CPU reserved for one sandbox, in millicores.
    #[serde(default = "default_cpu")]
    pub cpu: u32,
    /// Memory reserved for one sandbox, in MiB; also read from a size like `128MiB`.
    #[serde(default = "default_memory", deserialize_with = "crate::memory::deserialize")]
    pub memory: u32,
    /// Invocations that one sandbox runs at once, at least 1.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Scaling bounds and policy.
    #[serde(default, deserialize_with = "crate::object::deserialize")]
    pub scale: Scaling,
    /// Placement policy of its sandboxes by name; `None` is the cluster's default.
    #[serde(default)]
    pub placement: Option<String>,
    /// Load-balancing policy of its invocations by name; `None` is the data plane's default.
    #[serde(default)]
    pub balance: Option<String>,
    /// Longest run of one invocation; then 504.
    #[serde(default = "default_timeout", with = "humantime_serde")]
    pub timeout: Duration,
    /// Bounds of the queue.
    #[serde(default, deserialize_with = "crate::object::deserialize")]
    pub queue: Queue,
    /// Invocations that may be sent twice.
    #[serde(default, deserialize_with = "crate::choice::deserialize")]
    pub retry: Retry,
    /// Idle timeout of connections to sandboxes. It should be below the program's own keep-alive time, so that no
    /// request crosses a close. Zero: a connection for each invocation.
    #[serde(default = "default_connection_idle", with = "humantime_serde")]
    pub connection_idle: Duration,
    /// Environment of its program.
    #[serde(default, deserialize_with = "crate::texts::deserialize")]
    pub env: BTreeMap<String, String>,
    /// Arguments of its program.
    #[serde(default)]
    pub args: Vec<String>,
}

/// A registered function.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Registered {
    /// The registration.
    pub id: FunctionId,
    /// The version of the specification.
    pub revision: Revision,
    /// The specification.
    pub spec: FunctionSpec,
}

impl Registered {
    /// Replaces the specification; as `revision`, if sandboxes of the previous one cannot serve it. Returns true in
    /// that case.
    pub fn update(&mut self, spec: FunctionSpec, revision: Revision) -> bool {
        let needs_new_sandboxes = !self.spec.runs_the_same(&spec);
        self.spec = spec;
        if needs_new_sandboxes {
            self.revision = revision;
        }
        needs_new_sandboxes
    }
}

/// A field of a specification is out of bounds.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{field}: {problem}")]
pub struct SpecError {
    /// The field's path, for example `scale.max`.
    pub field: &'static str,
    /// The expectation and the given value.
    pub problem: String,
}

fn default_port() -> u16 {
    80
}

fn default_cpu() -> u32 {
    100
}

fn default_memory() -> u32 {
    128
}

fn default_concurrency() -> u32 {
    1
}

fn default_timeout() -> Duration {
    Duration::from_secs(300)
}

/// Default of `connection_idle`: below the keep-alive time of common servers, which is 5 s (Node.js, Apache, uvicorn)
/// or more.
pub const DEFAULT_CONNECTION_IDLE: Duration = Duration::from_secs(4);

fn default_connection_idle() -> Duration {
    DEFAULT_CONNECTION_IDLE
}

impl FunctionSpec {
    /// A function with every default.
    #[must_use]
    pub fn new(name: FunctionName, image: impl Into<String>) -> Self {
        Self {
            name,
            image: image.into(),
            port: default_port(),
            protocol: Protocol::default(),
            cpu: default_cpu(),
            memory: default_memory(),
            concurrency: default_concurrency(),
            scale: Scaling::default(),
            placement: None,
            balance: None,
            timeout: default_timeout(),
            queue: Queue::default(),
            retry: Retry::default(),
            connection_idle: default_connection_idle(),
            env: BTreeMap::new(),
            args: Vec::new(),
        }
    }

    /// Returns true if sandboxes of this specification can serve the other one as well.
    #[must_use]
    pub fn runs_the_same(&self, other: &Self) -> bool {
        // What sandboxes are made from. All else is applied outside of them, so that its change needs no new ones.
        let Self { image, port, protocol, cpu, memory, concurrency, env, args, .. } = self;
        (image, port, protocol, cpu, memory, concurrency, env, args)
            == (
                &other.image,
                &other.port,
                &other.protocol,
                &other.cpu,
                &other.memory,
                &other.concurrency,
                &other.env,
                &other.args,
            )
    }

    /// Resources that one sandbox reserves.
    #[must_use]
    pub fn resources(&self) -> Resources {
        Resources { cpu_millicores: self.cpu.into(), memory_mib: self.memory.into() }
    }

    /// Checks every bound that does not depend on a runtime.
    ///
    /// # Errors
    /// Returns the first field out of bounds.
    pub fn check(&self) -> Result<(), SpecError> {
        let fail = |field, problem: &str| Err(SpecError { field, problem: problem.to_owned() });
        if self.image.is_empty() {
            return fail("image", "expected a text that is not empty");
        }
        if self.port == 0 {
            return fail("port", "expected 1 to 65535, got 0");
        }
        // A sandbox without reservation would fit anywhere any number of times.
        if self.cpu == 0 {
            return fail("cpu", "expected millicores above 0, got 0");
        }
        if self.memory == 0 {
            return fail("memory", "expected MiB above 0, got 0");
        }
        if !(1..=MAX_CONCURRENCY).contains(&self.concurrency) {
            let problem = format!("expected 1 to {MAX_CONCURRENCY}, got {}", self.concurrency);
            return Err(SpecError { field: "concurrency", problem });
        }
        if self.timeout.is_zero() {
            return fail("timeout", "expected more than 0s, got 0s");
        }
        if self.queue.deadline.is_zero() {
            return fail("queue.deadline", "expected more than 0s, got 0s");
        }
        if self.queue.limit == 0 && self.scale.min == 0 {
            return fail(
                "queue.limit",
                "expected at least 1 where scale.min is 0, since nobody could wait for a sandbox, got 0",
            );
        }
        self.check_durations()?;
        self.check_payload()?;
        self.scale.check().map_err(|(field, problem)| SpecError { field, problem })
    }

    /// Checks that it can be sent to peers, and that its durations are in range. The other bounds of
    /// [`FunctionSpec::check`] apply only at registration.
    ///
    /// # Errors
    /// Returns the first field out of bounds.
    pub fn check_size(&self) -> Result<(), SpecError> {
        self.check_durations()?;
        self.check_payload_bytes()
    }

    /// Checked here rather than on reading, because a log written before the bound must remain readable.
    fn check_durations(&self) -> Result<(), SpecError> {
        let scale = &self.scale;
        let all = [
            ("timeout", Some(self.timeout)),
            ("queue.deadline", Some(self.queue.deadline)),
            ("connection_idle", Some(self.connection_idle)),
            ("scale.stable_window", Some(scale.stable_window)),
            ("scale.panic_window", scale.panic_window),
            ("scale.scale_down_delay", Some(scale.scale_down_delay)),
            ("scale.scale_to_zero_grace", Some(scale.scale_to_zero_grace)),
            ("scale.keep_alive", scale.keep_alive),
        ];
        let known = all.into_iter().filter_map(|(field, duration)| Some((field, duration?)));
        match known.into_iter().find(|(_, duration)| *duration > MAX_DURATION) {
            // `humantime` cannot format the greatest durations.
            Some((field, duration)) => {
                let problem = format!("expected at most {MAX_DURATION_TEXT}, got {} s", duration.as_secs());
                Err(SpecError { field, problem })
            }
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_an_image_are_enough_and_all_else_has_its_default() {
        let spec: FunctionSpec = serde_json::from_str(r#"{"name":"hello","image":"builtin:function"}"#).unwrap();
        assert_eq!(spec, FunctionSpec::new("hello".parse().unwrap(), "builtin:function"));
        assert_eq!(spec.check(), Ok(()));
    }

    #[test]
    fn a_full_specification_survives_json() {
        let text = r#"{"name":"f","image":"i","port":8000,"protocol":"h2c","cpu":250,"memory":64,"concurrency":4,
            "scale":{"min":1,"max":9,"policy":"kpa","target":2.5,"stable_window":"6s","panic_window":"2s"},
            "placement":"random","balance":"round-robin","timeout":"250ms","queue":{"deadline":"2s","limit":5},
            "retry":"any","connection_idle":"900ms","env":{"A":"1"},"args":["x"]}"#;
        let spec: FunctionSpec = serde_json::from_str(text).unwrap();
        assert_eq!(spec.scale.stable_window, Duration::from_secs(6));
        assert_eq!(spec.timeout, Duration::from_millis(250));
        assert_eq!((spec.retry, spec.connection_idle), (Retry::Any, Duration::from_millis(900)));
        assert_eq!((spec.placement.as_deref(), spec.balance.as_deref()), (Some("random"), Some("round-robin")));
        let again: FunctionSpec = serde_json::from_str(&serde_json::to_string(&spec).unwrap()).unwrap();
        assert_eq!(again, spec);
    }

    #[test]
    fn unknown_and_out_of_range_fields_are_named() {
        let unknown = serde_json::from_str::<FunctionSpec>(r#"{"name":"f","image":"i","colour":1}"#).unwrap_err();
        assert!(unknown.to_string().contains("colour"), "{unknown}");
        type Change = fn(&mut FunctionSpec);
        let changes: [(Change, &str); 12] = [
            (|s| s.image.clear(), "image"),
            (|s| s.port = 0, "port"),
            (|s| s.cpu = 0, "cpu"),
            (|s| s.memory = 0, "memory"),
            (|s| s.concurrency = 0, "concurrency"),
            (|s| s.timeout = Duration::ZERO, "timeout"),
            (|s| s.timeout = Duration::MAX, "timeout"),
            (|s| s.queue.deadline = MAX_DURATION + Duration::from_secs(1), "queue.deadline"),
            (|s| s.scale.keep_alive = Some(Duration::MAX), "scale.keep_alive"),
            (|s| s.scale.max = Some(0), "scale.max"),
            (|s| s.scale.target_utilization = 1.5, "scale.target_utilization"),
            (|s| s.scale.panic_window = Some(Duration::from_secs(61)), "scale.panic_window"),
        ];
        for (break_it, field) in changes {
            let mut spec = FunctionSpec::new("f".parse().unwrap(), "i");
            break_it(&mut spec);
            assert_eq!(spec.check().unwrap_err().field, field);
        }
    }
}
