//! The form of `targets.toml`: tables in which an unknown key is an error, and every error names file, line and column.

use std::{collections::BTreeMap, path::Path};

use http::Method;
use serde::{Deserialize, Serialize};
use terminal::{Document, DocumentError};
use toml::Spanned;

use super::{Named, TargetProfile, check_header, check_host, check_path};
use crate::signals;

/// One table of the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireTable {
    about: String,
    method: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    path: Option<Spanned<String>>,
    #[serde(default)]
    headers: BTreeMap<Spanned<String>, String>,
    run_time: Option<Spanned<String>>,
    response: Option<Spanned<String>>,
    signals: Option<Spanned<String>>,
    register: Option<Spanned<String>>,
    image: Option<String>,
}

/// A profile as a table with all of its keys, for listings.
#[derive(Debug, Serialize)]
pub(super) struct ProfileTable<'a> {
    about: &'a str,
    method: &'a str,
    host: String,
    path: String,
    run_time: &'static str,
    response: &'static str,
    signals: &'static str,
    register: &'static str,
    image: &'a str,
    headers: BTreeMap<&'a str, String>,
}

impl<'a> ProfileTable<'a> {
    pub(super) fn of(profile: &'a TargetProfile) -> Self {
        let headers = profile.headers.iter().map(|(name, value)| (name.as_str(), value.to_string()));
        Self {
            about: &profile.about,
            method: profile.method.as_str(),
            host: profile.host.to_string(),
            path: profile.path.to_string(),
            run_time: profile.run_time.name(),
            response: profile.response.name(),
            signals: profile.signals.name(),
            register: profile.register.name(),
            image: &profile.image,
            headers: headers.collect(),
        }
    }
}

/// Reads the profiles of a file.
///
/// # Errors
/// If it cannot be read, or an entry is wrong.
pub(super) fn read(path: &Path) -> Result<BTreeMap<String, TargetProfile>, DocumentError> {
    parse(&Document::read(path)?)
}

/// Parses the text of a file.
///
/// # Errors
/// If a table is wrong.
pub(super) fn parse(document: &Document) -> Result<BTreeMap<String, TargetProfile>, DocumentError> {
    let tables: BTreeMap<String, WireTable> = document.value()?;
    let profiles = tables.into_iter().map(|(name, table)| {
        let profile = check(&name, table).map_err(|Wrong { offset, key, problem }| {
            document.wrong_at(offset, Some(format!("{name}.{key}")), problem)
        })?;
        Ok((name, profile))
    });
    profiles.collect()
}

/// A value that is wrong, and where it begins in the text.
struct Wrong {
    offset: usize,
    key: String,
    problem: String,
}

fn check(name: &str, table: WireTable) -> Result<TargetProfile, Wrong> {
    let mut profile = TargetProfile { name: name.to_owned(), about: table.about, ..TargetProfile::default() };
    set(&mut profile.method, "method", table.method, |text| match text.parse::<Method>() {
        // Responses to these have no body, whatever length they announce.
        Ok(method) if [Method::CONNECT, Method::HEAD].contains(&method) => {
            Err(format!("expected a method whose responses have a body, such as POST, found {text:?}"))
        }
        Ok(method) => Ok(method),
        Err(_) => Err(format!("expected a method such as POST, found {text:?}")),
    })?;
    set(&mut profile.host, "host", table.host, check_host)?;
    set(&mut profile.path, "path", table.path, check_path)?;
    for (header, value) in table.headers {
        let checked = check_header(header.get_ref(), &value);
        let wrong =
            |problem| Wrong { offset: header.span().start, key: format!("headers.{}", header.get_ref()), problem };
        profile.headers.push(checked.map_err(wrong)?);
    }
    set(&mut profile.run_time, "run_time", table.run_time, Named::from_name)?;
    set(&mut profile.response, "response", table.response, Named::from_name)?;
    set(&mut profile.signals, "signals", table.signals, signals::adapter)?;
    set(&mut profile.register, "register", table.register, Named::from_name)?;
    if let Some(image) = table.image {
        profile.image = image;
    }
    Ok(profile)
}

/// Sets a value that the table has; otherwise the default stays.
fn set<T>(
    value: &mut T,
    key: &str,
    text: Option<Spanned<String>>,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<(), Wrong> {
    if let Some(text) = text {
        let wrong = |problem| Wrong { offset: text.span().start, key: key.to_owned(), problem };
        *value = parse(text.get_ref()).map_err(wrong)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target_profile::{
        BUILT_IN, BUILT_IN_PATH, DEFAULT_TARGET, Registration, ResponseBody, RunTimeForm, TargetProfiles,
    };

    fn read_text(text: &str) -> Result<BTreeMap<String, TargetProfile>, String> {
        parse(&Document::new(Path::new("s.toml"), text.to_owned())).map_err(|error| error.to_string())
    }

    #[test]
    fn the_built_in_profiles_are_valid() {
        let profiles = TargetProfiles::load(None).unwrap();
        let names: Vec<&str> = profiles.0.keys().map(String::as_str).collect();
        assert_eq!(names, ["dirigent", "dirigent-go", "external", "knative"]);
        assert_eq!(profiles.get(DEFAULT_TARGET).unwrap().register, Registration::Json);
        let error = profiles.get("dirigant").unwrap_err();
        assert!(error.contains("there are dirigent, dirigent-go, external, knative"), "{error}");
    }

    /// The comment at the top of the file is the reference of its keys.
    #[test]
    fn the_built_in_file_explains_every_key() {
        let listed = toml::to_string(&TargetProfile::default()).unwrap();
        for line in listed.lines().filter(|line| line.contains(" = ")) {
            let key = line.split(" = ").next().unwrap();
            assert!(BUILT_IN.contains(&format!("#   {key} ")), "{BUILT_IN_PATH} does not explain {key}");
        }
    }

    #[test]
    fn every_key_is_read() {
        let text = r#"
            [x]
            about = "An x"
            method = "GET"
            host = "{function}.x:80"
            path = "/run/{function}?a={address}"
            headers = { X-B = "{function}", x-a = "{}" }
            run_time = "whole-milliseconds"
            response = "any"
            signals = "machine-name"
            register = "form"
            image = "i"
        "#;
        let profiles = read_text(text).unwrap();
        let x = &profiles["x"];
        assert_eq!((x.name.as_str(), x.about.as_str(), &x.method), ("x", "An x", &Method::GET));
        assert_eq!((x.run_time, x.response), (RunTimeForm::WholeMilliseconds, ResponseBody::Any));
        assert_eq!((x.signals.name(), x.register, x.image.as_str()), ("machine-name", Registration::Form, "i"));
        let table = toml::to_string(&profiles).unwrap();
        for line in [r#"host = "{function}.x:80""#, r#"path = "/run/{function}?a={address}""#, r#"x-b = "{function}""#]
        {
            assert!(table.contains(line), "expected {line} in {table}");
        }
        assert_eq!(toml::to_string(&read_text(&table).unwrap()).unwrap(), table);
    }

    #[test]
    fn errors_name_file_line_and_column() {
        for (line, expected) in [
            ("hots = 1", "s.toml:3:1: x.hots: unknown field `hots`, expected one of `about`"),
            ("host = 1", "s.toml:3:8: x.host: invalid type: integer `1`, expected a text in quotes"),
            ("host = \"{fn}\"", "s.toml:3:8: x.host: unknown placeholder {fn}; known are {function} and {address}"),
            ("host = \"a b\"", "s.toml:3:8: x.host: expected HOST or HOST:PORT, found \"a b\""),
            ("path = \"x\"", "s.toml:3:8: x.path: expected a path that begins with /, found \"x\""),
            ("path = \"/ \"", "s.toml:3:8: x.path: expected a path, found \"/ \""),
            ("method = \"GET IT\"", "s.toml:3:10: x.method: expected a method such as POST"),
            ("method = \"HEAD\"", "s.toml:3:10: x.method: expected a method whose responses have a body"),
            ("host = \"u@h\"", "s.toml:3:8: x.host: expected HOST or HOST:PORT, found \"u@h\""),
            ("path = \"/x#y\"", "s.toml:3:8: x.path: expected a path, found \"/x#y\""),
            ("headers.Host = \"h\"", "s.toml:3:9: x.headers.Host: host is written by the load generator itself"),
            ("headers.\"a b\" = \"h\"", "s.toml:3:9: x.headers.a b: expected a header, found \"a b\""),
            ("headers.a = \"\\n\"", "s.toml:3:9: x.headers.a: expected a header, found \"a\" with \"\\n\""),
            (
                "run_time = \"s\"",
                "s.toml:3:12: x.run_time: expected one of milliseconds, whole-milliseconds, found \"s\"",
            ),
            ("response = \"\"", "s.toml:3:12: x.response: expected one of function-report, any, found \"\""),
            ("signals = \"pods\"", "s.toml:3:11: x.signals: expected one of none, dirigent-headers, machine-name"),
            ("register = \"http\"", "s.toml:3:12: x.register: expected one of none, json, form, found \"http\""),
        ] {
            let error = read_text(&format!("[x]\nabout = \"An x\"\n{line}\n")).unwrap_err();
            assert!(error.starts_with(expected), "{line}: expected {expected:?}, found {error:?}");
        }
        let missing = read_text("[x]\nhost = \"h\"\n").unwrap_err();
        assert!(missing.starts_with("s.toml:1:1: x: missing field `about`"), "{missing}");
        let missing = read(Path::new("/nowhere/s.toml")).unwrap_err().to_string();
        assert_eq!(missing, "cannot read /nowhere/s.toml");
    }
}
