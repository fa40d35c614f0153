//! The expected value of each field of a specification, for error messages.

use serde_path_to_error::{Path, Segment};

const COUNT: &str = "a whole number, 0 to 4294967295";
const NUMBER: &str = "a number";
const DURATION: &str = "a duration as text, like \"250ms\" or \"30s\"";
const POLICY: &str = "the name of a policy as text";
const WHOLE: &str = "a function as an object, like {\"name\": \"hello\", \"image\": \"builtin:function\"}";

/// The expectation by a field's path; an element of `env` or `args` is `*` there.
const BY_FIELD: [(&str, &str); 35] = [
    ("", WHOLE),
    ("name", "1 to 63 characters from a-z, 0-9 and '-' as text"),
    ("image", "a text like \"builtin:function\""),
    ("port", "a port as a whole number, 1 to 65535"),
    ("protocol", "\"http1\" or \"h2c\""),
    ("cpu", "millicores as a whole number, like 500 for half a core"),
    ("memory", "MiB as a whole number or a size like 128MiB"),
    ("concurrency", "a whole number, 1 to 10000"),
    ("placement", POLICY),
    ("balance", POLICY),
    ("timeout", DURATION),
    ("queue", "an object like {\"deadline\": \"60s\", \"limit\": 10000}"),
    ("queue.deadline", DURATION),
    ("queue.limit", COUNT),
    ("retry", "\"idempotent\" or \"any\""),
    ("connection_idle", DURATION),
    ("env", "an object of texts, like {\"NAME\": \"value\"}"),
    ("env.*", "a text"),
    ("args", "a list of texts, like [\"--verbose\"]"),
    ("args.*", "a text"),
    ("scale", "an object like {\"min\": 0, \"max\": 10}"),
    ("scale.min", COUNT),
    ("scale.max", "a whole number, 1 to 4294967295"),
    ("scale.policy", POLICY),
    ("scale.target", NUMBER),
    ("scale.target_utilization", NUMBER),
    ("scale.stable_window", DURATION),
    ("scale.panic_window", DURATION),
    ("scale.panic_threshold", NUMBER),
    ("scale.max_scale_up_rate", NUMBER),
    ("scale.max_scale_down_rate", NUMBER),
    ("scale.scale_down_delay", DURATION),
    ("scale.activation_scale", COUNT),
    ("scale.scale_to_zero_grace", DURATION),
    ("scale.keep_alive", DURATION),
];

/// The expectation of the field at `path`.
pub(crate) fn expectation(path: &Path) -> &'static str {
    let mut names: Vec<&str> = path.iter().map(name).collect();
    if let ["env" | "args", element, ..] = names.as_mut_slice() {
        *element = "*";
    }
    of_field(&names.join(".")).unwrap_or("another value")
}

fn of_field(path: &str) -> Option<&'static str> {
    BY_FIELD.iter().find(|(field, _)| *field == path).map(|(_, expected)| *expected)
}

fn name(segment: &Segment) -> &str {
    match segment {
        Segment::Map { key } => key,
        Segment::Enum { variant } => variant,
        Segment::Seq { .. } | Segment::Unknown => "*",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::FunctionSpec;

    fn check(path: &str, value: &Value) {
        assert!(of_field(path).is_some(), "what is expected of {path:?} is not written down");
        for (key, below) in value.as_object().into_iter().flatten().filter(|_| path != "env") {
            check(&if path.is_empty() { key.clone() } else { format!("{path}.{key}") }, below);
        }
    }

    #[test]
    fn every_field_has_an_expectation() {
        let spec = FunctionSpec::new("f".parse().unwrap(), "i");
        check("", &serde_json::to_value(spec).unwrap());
    }
}
