//! The configuration of a data plane: addresses, limits and time-outs, each with its default.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use policy::balance::{self, Balance};
use serde::{Deserialize, Serialize};
use service::ConfigError;

use crate::{clients::MAX_SURPLUS, host};

/// Default bound on concurrent invocations, each of which may wait with some KiB.
const DEFAULT_MAX_INVOCATIONS: usize = 65_536;
/// Shortest sample period and send time-out.
const MIN_PERIOD: Duration = Duration::from_millis(10);

/// A data plane's configuration. Every key may be omitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of the data plane, unique in the cluster and stable over restarts. Empty: the host's name and the port of
    /// `invoke`, which no two data planes of a host share.
    pub name: String,
    /// Address for invocations; port 0 picks a free one.
    pub invoke: SocketAddr,
    /// Address of health, readiness and metrics; port 0 picks a free one.
    pub admin: SocketAddr,
    /// Host names with a dot that are accepted by `admin`; addresses and names without a dot always are.
    pub hosts: Vec<String>,
    /// Address that clients are given for invocations, if it is not `invoke`.
    pub advertised: Option<SocketAddr>,
    /// Control planes, `host:port`, tried in turn.
    pub control_planes: Vec<String>,
    /// File with the cluster's token, which the control plane writes to its data directory as `cluster-token`. If
    /// absent, it is looked for in the folder `control-plane` next to `data_dir`.
    pub token_file: Option<PathBuf>,
    /// Directory where the program writes its bound addresses. The library itself writes no file.
    pub data_dir: PathBuf,
    /// Threads of the process. 0: half of the cores, because the kernel's share of the work takes about the other half.
    pub threads: usize,
    /// Domains under which functions are known as well: with `faas.example`, `NAME.faas.example` is `NAME`.
    pub host_suffix: Vec<String>,
    /// Balancing policy by its name in `policy::balance`: it chooses the sandbox whose free slot an invocation takes.
    pub balance: String,
    /// Seed of random numbers (request ids, back-off). Absent: drawn at each start.
    pub seed: Option<u64>,
    /// Period in which the load of active functions is reported.
    #[serde(with = "model::duration")]
    pub sample_period: Duration,
    /// Time for a sandbox to close its side after a cancelled or timed-out invocation, before it is retired. A sandbox
    /// that runs others at the same time has at least until the function's time-out, and is retired without ending
    /// them.
    #[serde(with = "model::duration")]
    pub cancel_grace: Duration,
    /// Time for waiting and running invocations to end at shutdown.
    #[serde(with = "model::duration")]
    pub drain_deadline: Duration,
    /// Bounds on clients and on the resources held for them.
    pub limits: Limits,
}

/// Bounds that protect a data plane from its clients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Most bytes in a header or trailer section, of requests and of responses, in both protocols, counted as HTTP/1.1
    /// writes them (name, value and 4 bytes per field; the target is separate). More is refused with 431 in a request
    /// and 502 in a response's header; trailers that are read too late for a refusal truncate the message.
    pub header_bytes: ByteSize,
    /// Most fields in such a section. Above 100, each HTTP/1.1 head of a request or response costs the HTTP library two
    /// short-lived allocations of 32 bytes per possible field: 16 KiB in all at 256.
    pub header_count: usize,
    /// Most bytes in a request body; more is refused with 413.
    pub body: ByteSize,
    /// Most bytes of an idempotent request's body that are retained for a retry.
    pub retained_body: ByteSize,
    /// File descriptors that this process may use: its soft limit, which the program raises and sets here.
    pub descriptors: usize,
    /// Idle connections to sandboxes; the least recently used are closed first. Absent: a quarter of `descriptors`.
    pub idle_connections: Option<usize>,
    /// Connections of clients. When more come, idle ones are closed; if none is idle, new ones are refused. Absent:
    /// half of `descriptors`.
    pub client_connections: Option<usize>,
    /// Concurrent invocations, waiting or running; further ones are refused. Absent: the number of possible connections
    /// to sandboxes, at most 65,536.
    pub invocations: Option<usize>,
    /// A client connection without a complete request for this long is closed.
    #[serde(with = "model::duration")]
    pub client_idle: Duration,
    /// Time for a client to send an HTTP/1.1 request head once it has begun; then its connection is closed.
    #[serde(with = "model::duration")]
    pub header_timeout: Duration,
    /// An HTTP/1.1 client that reads nothing of a response under way for this long is disconnected; a complete response
    /// has this long to leave once it exceeds the socket's buffers. On an HTTP/2 stream it has this long plus a second
    /// for each unread 16 KiB of its client. HTTP/2 clients are pinged twice in this time.
    #[serde(with = "model::duration")]
    pub send_timeout: Duration,
    /// Most bytes of responses that HTTP/2 clients have not read; a complete one counts for 16 KiB more. Half is for
    /// the allowances of clients, half for what exceeds these. If the second half is full, responses of the clients
    /// with the most unread bytes are truncated.
    pub unsent_responses: ByteSize,
    /// Bytes of complete responses that each HTTP/2 client may leave unread; less if the allowances of all clients
    /// would exceed half of `unsent_responses`.
    pub unsent_allowance: ByteSize,
    /// Time-out of connecting to a sandbox; a sandbox beyond it is taken for dead.
    #[serde(with = "model::duration")]
    pub connect_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            invoke: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: SocketAddr::from(([127, 0, 0, 1], 8085)),
            hosts: Vec::new(),
            advertised: None,
            control_planes: vec!["127.0.0.1:9090".to_owned()],
            token_file: None,
            data_dir: PathBuf::from("dirigent-data/data-plane"),
            threads: 0,
            host_suffix: Vec::new(),
            balance: balance::policies()[0].name.to_owned(),
            seed: None,
            sample_period: Duration::from_secs(1),
            cancel_grace: Duration::from_secs(1),
            drain_deadline: Duration::from_secs(30),
            limits: Limits::default(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            header_bytes: ByteSize::kib(64),
            header_count: 256,
            body: ByteSize::gib(1),
            retained_body: ByteSize::kib(64),
            descriptors: 4096,
            idle_connections: None,
            client_connections: None,
            invocations: None,
            client_idle: Duration::from_secs(120),
            header_timeout: Duration::from_secs(10),
            send_timeout: Duration::from_secs(60),
            unsent_responses: ByteSize::mib(256),
            unsent_allowance: ByteSize::kib(64),
            connect_timeout: Duration::from_secs(1),
        }
    }
}

/// Each connection may buffer an incomplete head of this size. More fields than a header map of the HTTP library holds
/// would make it panic.
const MAX_HEADER_BYTES: u64 = 16 * 1024 * 1024;
const MAX_HEADER_COUNT: usize = 10_000;
/// Space besides the header fields: the longest target that the HTTP library accepts.
const TARGET_BYTES: u64 = 65_535;
/// Bytes that HTTP/2 counts per field besides name and value (RFC 9113, section 6.5.2).
const HTTP2_FIELD_BYTES: u64 = 32;
/// Header fields that the HTTP library parses without an allocation.
const FREE_FIELDS: usize = 100;

impl Limits {
    /// Bytes of a section at which the HTTP library refuses an HTTP/1.1 message. Well above `header_bytes`, so that
    /// nearly all oversized sections get our own refusal.
    pub(crate) fn http1_header_bytes(&self) -> usize {
        let bytes = self.header_bytes.as_u64().saturating_mul(2).saturating_add(TARGET_BYTES);
        usize::try_from(bytes).unwrap_or(usize::MAX / 2)
    }

    /// The same for HTTP/2, which counts more per field. The library drops the excess of trailers. So that the
    /// remainder exceeds the bound in each case, there is space for a section and, in addition, for the longest field
    /// that a block of [`Self::http2_trailer_block`] can hold.
    pub(crate) fn http2_header_bytes(&self) -> u32 {
        let fields = (self.http1_header_count() as u64).saturating_mul(HTTP2_FIELD_BYTES);
        let field = self.http2_trailer_block().saturating_mul(8).div_ceil(5);
        let bytes =
            self.header_bytes.as_u64().saturating_add(fields).saturating_add(field).saturating_add(HTTP2_FIELD_BYTES);
        u32::try_from(bytes).unwrap_or(u32::MAX)
    }

    /// Bytes of an encoded HTTP/2 trailer section beyond which its connection is closed: an encoded byte stands for at
    /// most 8/5 of a byte (RFC 7541, appendix B, five bits), and a field has at most 8 bytes of overhead.
    pub(crate) fn http2_trailer_block(&self) -> u64 {
        let around = (self.http1_header_count() as u64).saturating_mul(8);
        self.header_bytes.as_u64().saturating_add(around).saturating_add(TARGET_BYTES)
    }

    /// Fields at which the HTTP library refuses an HTTP/1.1 message.
    pub(crate) fn http1_header_count(&self) -> usize {
        self.header_count.max(FREE_FIELDS)
    }

    /// Idle connections to sandboxes that may be kept, at least 1.
    #[must_use]
    pub fn idle_connections(&self) -> usize {
        self.idle_connections.unwrap_or(self.descriptors / 4).max(1)
    }

    /// Connections of clients that may be open, at least 1.
    #[must_use]
    pub fn client_connections(&self) -> usize {
        self.client_connections.unwrap_or(self.descriptors / 2).max(1)
    }

    /// Connections to sandboxes that may be open, idle or not: descriptors that client connections leave, minus an
    /// eighth for everything else.
    #[must_use]
    pub fn upstream_connections(&self) -> usize {
        let left = self.descriptors.saturating_sub(self.client_connections() + MAX_SURPLUS);
        (left - left / 8).max(1)
    }

    /// Concurrent invocations, at least 1.
    #[must_use]
    pub fn invocations(&self) -> usize {
        self.invocations.unwrap_or_else(|| self.upstream_connections().min(DEFAULT_MAX_INVOCATIONS)).max(1)
    }
}

impl Config {
    /// Returns true if the rest of the cluster may be on other machines.
    pub(crate) fn may_be_alone_here(&self) -> bool {
        !self.control_planes.iter().all(|address| api::is_loopback(address))
    }

    /// Returns the balancing policy of functions that configure none.
    ///
    /// # Errors
    /// If no policy has the configured name.
    pub(crate) fn balance_policy(&self) -> Result<&'static Balance, ConfigError> {
        balance::find(&self.balance).ok_or_else(|| {
            let known: Vec<_> = balance::policies().iter().map(|policy| policy.name).collect();
            ConfigError {
                key: "balance",
                problem: format!("is {:?}, expected one of {}", self.balance, known.join(", ")),
            }
        })
    }
}

impl service::Config for Config {
    fn validate(&self) -> Result<(), ConfigError> {
        api::check_peer_config(&self.name, &self.control_planes)?;
        if let Some(suffix) = self.host_suffix.iter().find(|suffix| !host::is_suffix(suffix)) {
            let problem = format!("has {suffix:?}, which is no domain in lower case");
            return Err(ConfigError { key: "host_suffix", problem });
        }
        ConfigError::unless(self.sample_period >= MIN_PERIOD, "sample_period", "must be at least 10ms")?;
        self.limits.validate()?;
        self.balance_policy().map(drop)
    }
}

impl Limits {
    fn validate(&self) -> Result<(), ConfigError> {
        ConfigError::unless(!self.connect_timeout.is_zero(), "limits.connect_timeout", "must be above 0")?;
        ConfigError::unless(!self.header_timeout.is_zero(), "limits.header_timeout", "must be above 0")?;
        ConfigError::unless(self.send_timeout >= MIN_PERIOD, "limits.send_timeout", "must be at least 10ms")?;
        let is_enough = self.unsent_responses >= ByteSize::mib(1);
        ConfigError::unless(is_enough, "limits.unsent_responses", "must be at least 1MiB")?;
        let is_enough = self.client_idle >= Duration::from_secs(1);
        ConfigError::unless(is_enough, "limits.client_idle", "must be at least 1s")?;
        let is_possible = (1..=MAX_HEADER_COUNT).contains(&self.header_count);
        ConfigError::unless(is_possible, "limits.header_count", "must be between 1 and 10000")?;
        let is_possible = (1024..=MAX_HEADER_BYTES).contains(&self.header_bytes.as_u64());
        ConfigError::unless(is_possible, "limits.header_bytes", "must be between 1KiB and 16MiB")
    }
}

#[cfg(test)]
mod tests {
    use service::Config as _;

    use super::*;

    #[test]
    fn an_empty_table_is_every_default_and_unknown_keys_are_refused() {
        let config: Config = serde_json::from_str("{}").unwrap();
        assert_eq!(config, Config::default());
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.balance_policy().unwrap().name, "least-loaded");
        assert_eq!((config.limits.idle_connections(), config.limits.client_connections()), (1024, 2048));
        for unknown in [r#"{"colour": 1}"#, r#"{"limits": {"colour": 1}}"#] {
            let error = serde_json::from_str::<Config>(unknown).unwrap_err().to_string();
            assert!(error.contains("colour"), "{error}");
        }
    }

    #[test]
    fn the_example_states_the_largest_section_over_http2() {
        let example = include_str!("../../dirigent/examples/data-plane.toml");
        let kib = u64::from(Limits::default().http2_header_bytes()) / 1024;
        assert!(example.contains(&format!("({kib} KiB at these defaults")), "{kib} KiB");
    }

    #[test]
    fn an_unusable_value_is_reported_by_its_key() {
        type Change = fn(&mut Config);
        let changes: [(Change, &str); 12] = [
            (|c| c.name = "a b".to_owned(), "name"),
            (|c| c.control_planes.clear(), "control_planes"),
            (|c| c.control_planes = vec!["http://127.0.0.1:9090".to_owned()], "control_planes"),
            (|c| c.balance = "best".to_owned(), "balance"),
            (|c| c.sample_period = Duration::ZERO, "sample_period"),
            (|c| c.limits.connect_timeout = Duration::ZERO, "limits.connect_timeout"),
            (|c| c.limits.header_timeout = Duration::ZERO, "limits.header_timeout"),
            (|c| c.limits.send_timeout = Duration::ZERO, "limits.send_timeout"),
            (|c| c.limits.unsent_responses = ByteSize::kib(1), "limits.unsent_responses"),
            (|c| c.limits.client_idle = Duration::ZERO, "limits.client_idle"),
            (|c| c.limits.header_count = 30_000, "limits.header_count"),
            (|c| c.limits.header_bytes = ByteSize::gib(1), "limits.header_bytes"),
        ];
        for (break_it, key) in changes {
            let mut config = Config::default();
            break_it(&mut config);
            assert_eq!(config.validate().unwrap_err().key, key);
        }
    }
}
