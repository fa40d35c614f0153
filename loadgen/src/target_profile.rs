//! Target profiles: how each system is addressed. They are the tables of the built-in `targets.toml` and of the file of
//! `--targets`.
//!
//! The load generator knows no system by name. A profile says how an invocation is addressed, what its response reports and
//! how functions are registered; only what cannot be said with a template is code, and chosen by name.

mod file;
pub(crate) mod options;
mod template;

use std::{collections::BTreeMap, path::Path};

use http::{HeaderName, HeaderValue, Method, Uri, uri::Authority};
use serde::Serialize;
use terminal::{Document, DocumentError};

pub(crate) use template::{Template, Values};

use crate::signals::{self, SignalAdapter};

/// The profile that is used unless `--target` names another one.
pub(crate) const DEFAULT_TARGET: &str = "dirigent";

/// The profiles that every copy of this program has.
const BUILT_IN: &str = include_str!("../targets.toml");

/// The path that errors in the built-in profiles name.
const BUILT_IN_PATH: &str = "loadgen/targets.toml";

/// A checked profile: rendering its templates for a function name gives a valid request.
#[derive(Clone, Debug)]
pub(crate) struct TargetProfile {
    /// Name of its table.
    pub(crate) name: String,
    /// A sentence about the system, for listings.
    pub(crate) about: String,
    /// HTTP method of an invocation.
    pub(crate) method: Method,
    /// The Host header; `:authority` in HTTP/2.
    pub(crate) host: Template,
    /// Path and query.
    pub(crate) path: Template,
    /// Further headers, ordered by name.
    pub(crate) headers: Vec<HeaderTemplate>,
    /// Form of the run time that an invocation asks for.
    pub(crate) run_time: RunTimeForm,
    /// The body of a successful response.
    pub(crate) response: ResponseBody,
    /// Reads what responses report.
    pub(crate) signals: &'static dyn SignalAdapter,
    /// The interface that registers functions.
    pub(crate) register: Registration,
    /// Image of functions that are registered without `--image`.
    pub(crate) image: String,
}

/// A header whose value may differ between functions.
pub(crate) type HeaderTemplate = (HeaderName, Template);

/// Form of the header `requested_cpu`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum RunTimeForm {
    /// Milliseconds with three digits after the point.
    #[default]
    Milliseconds,
    /// Milliseconds as a whole number, at least 1 unless the run time is 0: for functions that refuse a fraction.
    WholeMilliseconds,
}

impl RunTimeForm {
    /// The run time that a request in this form asks for instead of `run_us`, in microseconds. Functions take 0 for no work
    /// at all, so a run time above 0 stays above it.
    pub(crate) fn requested_us(self, run_us: u64) -> u64 {
        match self {
            Self::Milliseconds => run_us,
            Self::WholeMilliseconds => {
                (run_us.saturating_add(500) / 1000).max(u64::from(run_us > 0)).saturating_mul(1000)
            }
        }
    }
}

/// The body that a successful response must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ResponseBody {
    /// The JSON of the function program, which names the function and its execution time.
    #[default]
    FunctionReport,
    /// Any: the status alone decides.
    Any,
}

/// An interface to register functions at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Registration {
    /// None: functions are registered by other means.
    #[default]
    None,
    /// `PUT /v1/functions/NAME` with JSON, at this project's control plane.
    Json,
    /// `POST /registerService` with a form, as the published system takes it.
    Form,
}

/// A key of `targets.toml` whose value is one of a few names.
pub(crate) trait Named: Copy + Default + PartialEq + 'static {
    /// Every value by its name.
    const NAMES: &'static [(&'static str, Self)];

    /// The value of that name.
    ///
    /// # Errors
    /// If there is none; those that exist are named.
    fn from_name(name: &str) -> Result<Self, String> {
        let names = || Self::NAMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let found = Self::NAMES.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| *value).ok_or_else(|| format!("expected one of {}, found {name:?}", names()))
    }

    /// Its name.
    fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, value)| *value == self).map_or("", |(name, _)| name)
    }
}

impl Named for RunTimeForm {
    const NAMES: &'static [(&'static str, Self)] =
        &[("milliseconds", Self::Milliseconds), ("whole-milliseconds", Self::WholeMilliseconds)];
}

impl Named for ResponseBody {
    const NAMES: &'static [(&'static str, Self)] = &[("function-report", Self::FunctionReport), ("any", Self::Any)];
}

impl Named for Registration {
    const NAMES: &'static [(&'static str, Self)] = &[("none", Self::None), ("json", Self::Json), ("form", Self::Form)];
}

impl Default for TargetProfile {
    /// A function program that listens by itself: named by the host, and without signals or registration.
    fn default() -> Self {
        let template = |text| Template::parse(text).expect("the only placeholder is one that exists");
        Self {
            name: String::new(),
            about: String::new(),
            method: Method::POST,
            host: template("{function}"),
            path: template("/"),
            headers: Vec::new(),
            run_time: RunTimeForm::default(),
            response: ResponseBody::default(),
            signals: signals::NONE,
            register: Registration::default(),
            image: crate::functions::DEFAULT_IMAGE.to_owned(),
        }
    }
}

/// Every profile by its name.
#[derive(Debug)]
pub(crate) struct TargetProfiles(pub(crate) BTreeMap<String, TargetProfile>);

impl TargetProfiles {
    /// The built-in profiles, and those of `file`, which replace built-in ones of the same name.
    ///
    /// # Errors
    /// If the file cannot be read or an entry is wrong, with line and column.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, DocumentError> {
        let mut profiles = file::parse(&Document::new(Path::new(BUILT_IN_PATH), BUILT_IN.to_owned()))?;
        // A table replaces a whole one: keys merged from two files could not be understood from either.
        if let Some(path) = file {
            profiles.extend(file::read(path)?);
        }
        Ok(Self(profiles))
    }

    /// The profile of that name.
    ///
    /// # Errors
    /// If there is none; those that exist are named.
    pub(crate) fn get(&self, name: &str) -> Result<&TargetProfile, String> {
        let names = || self.0.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        self.0.get(name).ok_or_else(|| {
            format!("no target is called {name:?}; there are {}; --targets FILE adds those of a file", names())
        })
    }
}

/// Headers that say what is invoked, or how long the request is and where it ends.
const OWN_HEADERS: [&str; 12] = [
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "te",
    "workload",
    "function",
    "requested_cpu",
    "requested_memory",
];

/// Checks the template of a host.
///
/// # Errors
/// If it has an unknown placeholder, or gives no host.
fn check_host(text: &str) -> Result<Template, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    match template.render(Values::SAMPLE).parse::<Authority>() {
        // HTTP/1.1 sends the template as it is, HTTP/2 what is parsed from it: they must be the same.
        Ok(_) if text.contains('@') => {
            Err(format!("expected HOST or HOST:PORT, found {text:?}: a Host header names no user"))
        }
        Ok(_) => Ok(template),
        Err(error) => Err(format!("expected HOST or HOST:PORT, found {text:?}: {error}")),
    }
}

/// Checks the template of a path.
///
/// # Errors
/// If it has an unknown placeholder, or gives no path.
fn check_path(text: &str) -> Result<Template, String> {
    let template = Template::parse(text).map_err(|error| error.to_string())?;
    let rendered = template.render(Values::SAMPLE);
    if !rendered.starts_with('/') {
        return Err(format!("expected a path that begins with /, found {text:?}"));
    }
    match rendered.parse::<Uri>() {
        // Parsing drops a fragment, so HTTP/2 would send another path than HTTP/1.1.
        Ok(_) if text.contains('#') => Err(format!("expected a path, found {text:?}: a request has no fragment (#)")),
        Ok(_) => Ok(template),
        Err(error) => Err(format!("expected a path, found {text:?}: {error}")),
    }
}

/// Checks a header.
///
/// # Errors
/// If name or value cannot be part of a header, the value has an unknown placeholder, or the load generator writes the
/// header itself.
fn check_header(name: &str, value: &str) -> Result<HeaderTemplate, String> {
    let expected = |error: &dyn std::fmt::Display| format!("expected a header, found {name:?} with {value:?}: {error}");
    let name: HeaderName = name.parse().map_err(|error| expected(&error))?;
    if OWN_HEADERS.contains(&name.as_str()) {
        return Err(format!("{name} is written by the load generator itself"));
    }
    let template = Template::parse(value).map_err(|error| error.to_string())?;
    let rendered = template.render(Values::SAMPLE);
    HeaderValue::try_from(rendered).map_err(|error| expected(&error))?;
    Ok((name, template))
}

impl Serialize for TargetProfile {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        file::ProfileTable::of(self).serialize(serializer)
    }
}
