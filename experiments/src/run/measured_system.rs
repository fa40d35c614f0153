//! A system as one experiment measures it: its table, and the values of its parameters.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    definition::{
        settings::Settings,
        template::{TemplateError, Values, places},
    },
    exit::UsageError,
    system::System,
};

/// Prefix of the placeholders that parameters fill.
const PARAMETER: &str = "parameters.";

/// A system and its parameters.
#[derive(Clone, Debug)]
pub struct MeasuredSystem {
    /// Its name in `systems.toml`.
    pub name: String,
    /// Its table.
    pub system: System,
    /// Parameters with the same value at all its points: known before anything runs.
    pub parameters: BTreeMap<String, String>,
}

impl MeasuredSystem {
    /// A system measured with the settings of each of its points.
    ///
    /// # Errors
    /// If a parameter has no value at some point, or its version or build depends on one that differs between points.
    pub fn new(name: String, system: System, points: &[&Settings]) -> Result<Self, UsageError> {
        let refused = |problem: String| UsageError(format!("{name}: {problem}"));
        let mut of_points = Vec::with_capacity(points.len());
        for settings in points {
            let values = parameters(&system, settings).map_err(|error| refused(error.to_string()))?;
            if let Some(missing) = used(&system).into_iter().find(|name| !values.contains_key(name)) {
                return Err(refused(no_value(&missing)));
            }
            of_points.push(values);
        }
        let mut common = of_points.first().cloned().unwrap_or_default();
        common.retain(|name, value| of_points.iter().all(|values| values.get(name) == Some(value)));
        if let Some(parameter) = used_early(&system).find(|parameter| !common.contains_key(*parameter)) {
            let problem = "differs between points, and its version and build are the same for all of them";
            return Err(refused(format!("the parameter {parameter} {problem}")));
        }
        Ok(Self { name, system, parameters: common })
    }

    /// Names of the parameters that its table gives a value or uses.
    #[must_use]
    pub fn known_parameters(&self) -> BTreeSet<String> {
        self.system.parameters.keys().cloned().chain(used(&self.system)).collect()
    }
}

/// The values of all parameters of a system at a point. Those of the definition override the system's own, which may contain
/// placeholders of the definition's values, and of requests, which the load generator fills.
///
/// # Errors
/// If a placeholder names something else.
pub fn parameters(system: &System, settings: &Settings) -> Result<BTreeMap<String, String>, TemplateError> {
    let mut values = Values::default();
    values.set_leaves("", &serde_json::to_value(settings).expect("settings are tables of plain values"));
    let values = values.with_request_places();
    let mut parameters = settings.parameters.clone();
    for (name, template) in &system.parameters {
        if !parameters.contains_key(name) {
            parameters.insert(name.clone(), values.expand(template)?);
        }
    }
    Ok(parameters)
}

/// Names of the parameters in its templates.
fn used(system: &System) -> BTreeSet<String> {
    system.templates().iter().flat_map(|text| parameter_places(text)).map(str::to_owned).collect()
}

/// Names of the parameters that its version and build depend on, which must be known before anything runs.
fn used_early(system: &System) -> impl Iterator<Item = &str> {
    system.version.iter().chain(&system.build.command).flat_map(|text| parameter_places(text))
}

fn parameter_places(text: &str) -> impl Iterator<Item = &str> {
    places(text).filter_map(|place| place.strip_prefix(PARAMETER))
}

fn no_value(parameter: &str) -> String {
    format!(
        "its parameter {parameter} has no value: type --parameter {parameter}=VALUE, or set parameters.{parameter} in the \
         definition"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::points;

    const SYSTEM: &str = "about = \"a toy\"\nversion = [\"echo\", \"{parameters.version}\"]\n\
        register = { command = [\"true\"] }\n\
        invoke = { target = \"external\", address = \"a:1\", path = \"{parameters.path}\" }\n";

    fn settings(more: &str) -> Settings {
        let text = format!(
            "systems = [\"toy\"]\nload = {{ minutes = 1, timeout = \"60s\" }}\n{more}\n[sandbox]\nruntime = \"hollow\"\n\
             mode = \"sleep\"\nworkers = 2\ncpu = \"64\"\nmemory = \"256GiB\""
        );
        points::read(&text).unwrap().remove(0).settings
    }

    fn measured(own: &str, points: &[&str]) -> Result<MeasuredSystem, String> {
        let system = toml::from_str(&format!("{SYSTEM}parameters = {{ {own} }}")).unwrap();
        let settings: Vec<Settings> = points.iter().map(|more| settings(more)).collect();
        let points: Vec<&Settings> = settings.iter().collect();
        MeasuredSystem::new("toy".to_owned(), system, &points).map_err(|error| error.to_string())
    }

    #[test]
    fn values_of_the_definition_are_stronger_and_its_own_have_places() {
        let own = "version = \"{sandbox.runtime}-1\", path = \"/own/{function}?at={address}\"";
        let system = measured(own, &[""]).unwrap();
        assert_eq!(system.parameters["version"], "hollow-1");
        assert_eq!(system.parameters["path"], "/own/{function}?at={address}");
        let system = measured(own, &["parameters = { version = \"2\", other = \"3\" }"]).unwrap();
        assert_eq!(system.parameters["version"], "2");
        assert!(!system.known_parameters().contains("other"));
    }

    #[test]
    fn a_parameter_without_a_value_is_refused_with_the_option_that_gives_one() {
        let refused = measured("path = \"/\"", &["", "parameters = { version = \"2\" }"]).unwrap_err();
        assert_eq!(
            refused,
            "toy: its parameter version has no value: type --parameter version=VALUE, or set parameters.version in the \
             definition"
        );
        let unknown = measured("version = \"{sandbx.runtime}\", path = \"/\"", &[""]).unwrap_err();
        assert!(unknown.starts_with("toy: {sandbx.runtime} is not known here"), "{unknown}");
    }

    #[test]
    fn one_version_is_measured_at_all_points_and_other_parameters_may_differ() {
        let two = ["parameters = { version = \"1\" }", "parameters = { version = \"2\" }"];
        let refused = measured("path = \"/\"", &two).unwrap_err();
        assert!(refused.starts_with("toy: the parameter version differs between points"), "{refused}");
        let paths = ["parameters = { path = \"/a\" }", "parameters = { path = \"/b\" }"];
        let system = measured("version = \"1\"", &paths).unwrap();
        assert_eq!(system.parameters.into_iter().collect::<Vec<_>>(), [("version".to_owned(), "1".to_owned())]);
    }
}
