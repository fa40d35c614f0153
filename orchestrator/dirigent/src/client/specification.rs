//! A function described by flags, as `function register` takes it.

use std::time::Duration;

use clap::Args;
use model::{FunctionName, FunctionSpec, Protocol, Retry};

use crate::option_values;

/// The flags that describe one function. What is not given has the default of the control plane.
#[derive(Debug, Args)]
pub(crate) struct SpecificationFlags {
    /// The image: `builtin:function`, or `file:/path/to/program` with the process runtime where workers allow it
    /// (`--allow-image`, `process.images`)
    #[arg(long, required_unless_present = "from")]
    image: Option<String>,

    /// Port it listens on inside its sandbox, where a runtime gives each an address of its own; with `process` and `hollow`
    /// programs get theirs in the variable PORT
    #[arg(long, value_parser = option_values::port)]
    port: Option<u16>,

    /// Protocol it speaks: `http1` or `h2c`
    #[arg(long, value_parser = parse_protocol)]
    protocol: Option<Protocol>,

    /// CPU reserved for one sandbox, in millicores
    #[arg(long, value_parser = option_values::millicores, value_name = "MILLICORES")]
    cpu: Option<u32>,

    /// Memory reserved for one sandbox, for example 128MiB
    #[arg(long, value_parser = model::memory::parse, value_name = "SIZE")]
    memory: Option<u32>,

    /// Invocations that one sandbox runs at once
    #[arg(long, value_parser = option_values::count, value_name = "N")]
    concurrency: Option<u32>,

    /// Fewest sandboxes kept
    #[arg(long, value_parser = option_values::count, value_name = "N")]
    min: Option<u32>,

    /// Most sandboxes
    #[arg(long, value_parser = option_values::count, value_name = "N")]
    max: Option<u32>,

    /// Autoscaling policy: `reactive`, `kpa` or `dirigent`; not given, the cluster's
    #[arg(long)]
    policy: Option<String>,

    /// Placement policy: `power-of-two`, `random`, `round-robin` or `kubernetes`; not given, the cluster's
    #[arg(long, value_name = "POLICY")]
    placement: Option<String>,

    /// Load-balancing policy: `least-loaded`, `round-robin`, `random`, `power-of-two` or `knative`; not given, the data
    /// plane's
    #[arg(long, value_name = "POLICY")]
    balance: Option<String>,

    /// Window over which demand is judged before scaling down, for example 60s
    #[arg(long, value_parser = model::duration::parse, value_name = "DURATION")]
    stable_window: Option<Duration>,

    /// Keep-alive of the last sandbox after the last request, with the `reactive` policy; not given, the stable window
    #[arg(long, value_parser = model::duration::parse, value_name = "DURATION")]
    keep_alive: Option<Duration>,

    /// Longest run of one invocation
    #[arg(long, value_parser = model::duration::parse, value_name = "DURATION")]
    timeout: Option<Duration>,

    /// Longest wait of one invocation for a slot, while all sandboxes are busy or none is there
    #[arg(long, value_parser = model::duration::parse, value_name = "DURATION")]
    queue_deadline: Option<Duration>,

    /// Most invocations that wait in one data plane
    #[arg(long, value_parser = option_values::count, value_name = "N")]
    queue_limit: Option<u32>,

    /// Invocations that are sent again if a sandbox broke off without a response: `idempotent` or `any`
    #[arg(long, value_parser = parse_retry)]
    retry: Option<Retry>,

    /// Longest idle time of a connection to a sandbox: below the keep-alive time-out of its program
    #[arg(long, value_parser = model::duration::parse, value_name = "DURATION")]
    connection_idle: Option<Duration>,

    /// Environment variable of its program; may be repeated
    #[arg(long, value_parser = parse_variable, value_name = "NAME=VALUE")]
    env: Vec<(String, String)>,

    /// Argument of its program; may be repeated
    #[arg(long, value_name = "ARGUMENT", allow_hyphen_values = true)]
    arg: Vec<String>,
}

impl SpecificationFlags {
    /// The function `name` as the flags describe it.
    ///
    /// # Errors
    /// The first field out of bounds.
    pub(crate) fn specify(self, name: FunctionName) -> anyhow::Result<FunctionSpec> {
        let mut spec = FunctionSpec::new(name, self.image.unwrap_or_default());
        put(&mut spec.port, self.port);
        put(&mut spec.protocol, self.protocol);
        put(&mut spec.cpu, self.cpu);
        put(&mut spec.memory, self.memory);
        put(&mut spec.concurrency, self.concurrency);
        put(&mut spec.timeout, self.timeout);
        put(&mut spec.queue.deadline, self.queue_deadline);
        put(&mut spec.queue.limit, self.queue_limit);
        put(&mut spec.retry, self.retry);
        put(&mut spec.connection_idle, self.connection_idle);
        put(&mut spec.scale.min, self.min);
        put(&mut spec.scale.stable_window, self.stable_window);
        spec.scale.max = self.max;
        spec.scale.policy = self.policy;
        spec.scale.keep_alive = self.keep_alive;
        spec.placement = self.placement;
        spec.balance = self.balance;
        spec.env = self.env.into_iter().collect();
        spec.args = self.arg;
        spec.check()?;
        Ok(spec)
    }
}

fn put<T>(field: &mut T, given: Option<T>) {
    if let Some(value) = given {
        *field = value;
    }
}

fn parse_protocol(text: &str) -> Result<Protocol, String> {
    match text {
        "http1" => Ok(Protocol::Http1),
        "h2c" => Ok(Protocol::H2c),
        _ => Err("expected http1 or h2c".to_owned()),
    }
}

fn parse_retry(text: &str) -> Result<Retry, String> {
    match text {
        "idempotent" => Ok(Retry::Idempotent),
        "any" => Ok(Retry::Any),
        _ => Err("expected idempotent or any".to_owned()),
    }
}

fn parse_variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct TestCommand {
        #[command(flatten)]
        flags: SpecificationFlags,
        #[arg(long)]
        from: bool,
    }

    fn specify(flags: &str) -> anyhow::Result<FunctionSpec> {
        let words = std::iter::once("register").chain(flags.split(' '));
        TestCommand::try_parse_from(words)?.flags.specify("f".parse()?)
    }

    #[test]
    fn an_image_alone_leaves_every_default() {
        assert_eq!(specify("--image i").unwrap(), FunctionSpec::new("f".parse().unwrap(), "i"));
    }

    #[test]
    fn flags_reach_their_fields() {
        let spec = specify(
            "--image i --memory 1GiB --protocol h2c --max 3 --policy kpa --placement random --balance knative \
             --timeout 250ms --retry any --connection-idle 1s --env A=b=c --arg -v --arg x",
        )
        .unwrap();
        assert_eq!((spec.memory, spec.protocol, spec.scale.max), (1024, Protocol::H2c, Some(3)));
        assert_eq!((spec.scale.policy.as_deref(), spec.timeout), (Some("kpa"), Duration::from_millis(250)));
        assert_eq!((spec.retry, spec.connection_idle), (Retry::Any, Duration::from_secs(1)));
        assert_eq!((spec.placement.as_deref(), spec.balance.as_deref()), (Some("random"), Some("knative")));
        assert_eq!((spec.env["A"].as_str(), spec.args), ("b=c", vec!["-v".to_owned(), "x".to_owned()]));
    }

    #[test]
    fn what_is_out_of_bounds_is_named() {
        for (flags, expected) in [
            ("--image i --max 0", "scale.max"),
            ("--image i --memory much", "a size like 128MiB"),
            ("--image i --memory 5000000000", "a size like 128MiB"),
            ("--image i --memory 128Mi", "a size like 128MiB"),
            ("--image i --memory 0", "memory: expected MiB above 0"),
            ("--image i --cpu 0", "cpu: expected millicores above 0"),
            ("--image i --cpu 1.5", "millicores as a whole number, like 500 for half a core"),
            ("--image i --min x", "expected a whole number, 0 to 4294967295"),
            ("--image i --port 0", "a port as a whole number, 1 to 65535"),
            ("--image i --protocol tcp", "expected http1 or h2c"),
            ("--image i --env A", "expected NAME=VALUE"),
            ("--image i --retry always", "expected idempotent or any"),
        ] {
            let found = specify(flags).unwrap_err().to_string();
            assert!(found.contains(expected), "{flags}: expected {expected:?} in {found:?}");
        }
        assert!(specify("--cpu 1").is_err(), "an image is needed");
    }
}
