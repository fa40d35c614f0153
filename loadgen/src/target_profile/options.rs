//! The options that choose a target profile and replace parts of it.

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Args, builder::PossibleValuesParser};
use http::HeaderName;
use serde::Serialize;
use terminal::UsageError;

use super::{
    DEFAULT_TARGET, HeaderTemplate, TargetProfile, TargetProfiles, Template, check_header, check_host, check_path,
};
use crate::signals::{self, ADAPTERS, SignalAdapter};

/// The system to invoke, by its profile.
#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct TargetProfileArgs {
    /// The system: a table of the built-in targets.toml or of --targets; `loadgen targets` lists them
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TARGET)]
    target: String,
    /// A file with further targets, in the form of the built-in targets.toml; one of the same name replaces the built-in one
    #[arg(long, value_name = "FILE")]
    targets: Option<PathBuf>,
    /// The Host header of an invocation, instead of the target's; {function} and {address} stand for the function's name and
    /// the first --address
    #[arg(long, value_name = "TEMPLATE")]
    host: Option<String>,
    /// Path and query of an invocation, instead of the target's; placeholders as in --host
    #[arg(long, value_name = "TEMPLATE")]
    path: Option<String>,
    /// Adapter for the system's reports of cold starts and sandboxes, instead of the target's
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(ADAPTERS.map(SignalAdapter::name)))]
    signals: Option<String>,
    /// A header to add to each invocation; given again, another one. One of the target's that has the same name is replaced;
    /// placeholders as in --host
    #[arg(long, value_name = "NAME: VALUE")]
    header: Vec<String>,
}

impl TargetProfileArgs {
    /// The profile with its options, and the headers that were added to it.
    ///
    /// # Errors
    /// [`UsageError`] when there is no such target, or an option or the file of `--targets` is wrong.
    pub(crate) fn resolve(&self) -> anyhow::Result<(TargetProfile, Vec<HeaderTemplate>)> {
        self.try_resolve().map_err(UsageError::of)
    }

    fn try_resolve(&self) -> anyhow::Result<(TargetProfile, Vec<HeaderTemplate>)> {
        let profiles = TargetProfiles::load(self.targets.as_deref()).context("--targets")?;
        let mut profile = profiles.get(&self.target).map_err(|problem| anyhow!("--target: {problem}"))?.clone();
        replace(&mut profile.host, "--host", self.host.as_deref(), check_host)?;
        replace(&mut profile.path, "--path", self.path.as_deref(), check_path)?;
        replace(&mut profile.signals, "--signals", self.signals.as_deref(), signals::adapter)?;
        let added: anyhow::Result<Vec<_>> = self.header.iter().map(|header| parse_header(header)).collect();
        let added = added.context("--header")?;
        // With both in a request, which one counts would be the system's choice.
        profile.headers.retain(|(name, _)| added.iter().all(|(replaced, _)| replaced != name));
        Ok((profile, added))
    }
}

fn replace<T>(
    value: &mut T,
    option: &str,
    given: Option<&str>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> anyhow::Result<()> {
    if let Some(given) = given {
        *value = parse(given).map_err(|problem| anyhow!("{option}: {problem}"))?;
    }
    Ok(())
}

/// Parses `NAME: VALUE`.
fn parse_header(text: &str) -> anyhow::Result<(HeaderName, Template)> {
    let (name, value) = text.split_once(':').with_context(|| format!("expected NAME: VALUE, found {text:?}"))?;
    check_header(name.trim(), value.trim()).map_err(|problem| anyhow!(problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(target: &str, header: &[&str]) -> TargetProfileArgs {
        TargetProfileArgs {
            target: target.to_owned(),
            targets: None,
            host: None,
            path: None,
            signals: None,
            header: header.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn options_replace_what_the_profile_says() {
        let options = TargetProfileArgs {
            host: Some("h:1".to_owned()),
            path: Some("/{function}".to_owned()),
            signals: Some("none".to_owned()),
            ..args("knative", &["Knative-Serving-Namespace: other"])
        };
        let (profile, added) = options.resolve().unwrap();
        assert_eq!((profile.host.to_string(), profile.path.to_string()), ("h:1".to_owned(), "/{function}".to_owned()));
        assert_eq!(profile.signals.name(), "none");
        let names: Vec<&str> = profile.headers.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            (names, added.len()),
            (vec!["knative-serving-revision"], 1),
            "the header that was given replaces one"
        );
    }

    #[test]
    fn headers_that_are_no_headers_and_those_of_the_load_generator_are_refused() {
        for (text, expected) in [
            ("x", "expected NAME: VALUE, found \"x\""),
            ("", "expected NAME: VALUE, found \"\""),
            (": v", "expected a header, found \"\" with \"v\""),
            ("a b: c", "expected a header, found \"a b\" with \"c\""),
            ("x: a\r\ny: b", "expected a header, found \"x\" with \"a\\r\\ny: b\""),
            ("x: {id}", "unknown placeholder {id}; known are {function} and {address}"),
        ] {
            let error = format!("{:#}", args(DEFAULT_TARGET, &[text]).resolve().unwrap_err());
            assert!(error.starts_with(&format!("--header: {expected}")), "{text:?}: {error}");
        }
        let error = format!("{:#}", args(DEFAULT_TARGET, &["Host: h"]).resolve().unwrap_err());
        assert!(error.contains("--header: host is written by the load generator"), "{error}");
    }

    #[test]
    fn an_unknown_target_is_refused_with_those_that_exist() {
        let error = args("lambda", &[]).resolve().unwrap_err().to_string();
        assert!(error.starts_with("--target: no target is called \"lambda\"; there are dirigent, "), "{error}");
    }
}
