//! Points of an experiment as the manifest records them for readers of the run.

use std::collections::BTreeMap;

use record::{Load, RateLoad, Runtime, Sandbox, TraceLoad};
use toml::Value;

use crate::definition::{
    load::{self, Calls, Source},
    points::Point,
    settings::Settings,
};

/// The points, in the same order.
#[must_use]
pub fn of(points: &[Point]) -> Vec<record::Point> {
    let keys: Vec<&String> = points.iter().flat_map(|point| point.values.keys()).collect();
    points.iter().map(|point| recorded(point, &keys)).collect()
}

/// `keys` are those by which any point differs from others.
fn recorded(point: &Point, keys: &[&String]) -> record::Point {
    let settings = &point.settings;
    let sandbox = &settings.sandbox;
    record::Point {
        name: point.name.clone(),
        systems: settings.systems.clone(),
        repetitions: Some(settings.repetitions),
        values: values(settings, keys),
        load: load(&settings.load),
        load_timeout: Some(settings.load.timeout),
        // The system checks its own time-out when functions are registered; what it would refuse is no bound.
        function_timeout: settings.function.timeout.as_deref().and_then(|text| humantime::parse_duration(text).ok()),
        sandbox: Sandbox {
            runtime: Some(Runtime::from(sandbox.runtime.clone())),
            mode: Some(sandbox.mode),
            delay: Some(sandbox.delay),
        },
    }
}

fn load(load: &load::Load) -> Load {
    match &load.source {
        Source::Trace(trace) => Load::Trace(TraceLoad {
            trace: trace.trace.as_ref().map(|path| path.display().to_string()),
            synthetic: Some(trace.synthetic.clone()),
            minutes: Some(trace.minutes),
            minute: Some(trace.minute),
            start_minute: Some(trace.start_minute),
            functions: trace.functions,
            max_cores: trace.max_cores,
            max_run: trace.max_run,
        }),
        Source::Rate(rate) => Load::Rate(RateLoad {
            rate_per_s: rate.bursts.is_none().then_some(rate.rate_per_s),
            burst: rate.bursts.map(|bursts| bursts.size),
            cooldown: match rate.calls {
                Calls::Warm { .. } => None,
                Calls::Cold { cooldown } => Some(cooldown),
            },
        }),
    }
}

/// The values at these keys that the settings have, as text. Systems are none of them: a point has a field for them.
fn values(settings: &Settings, keys: &[&String]) -> BTreeMap<String, String> {
    let tree = Value::try_from(settings).expect("settings are tables of plain values");
    let text = |key: &str| match key.split('.').try_fold(&tree, |tree, part| tree.get(part))? {
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let own = keys.iter().filter(|key| key.as_str() != crate::definition::points::SYSTEMS);
    own.filter_map(|key| Some(((*key).clone(), text(key)?))).collect()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::definition::{self, Definition, overrides::Overrides, points};

    /// Reports of earlier runs are made from the text, and of later ones from the points: both must say the same.
    #[test]
    fn points_of_every_definition_are_those_of_its_text() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("definitions");
        let mut compared = 0;
        for file in definition::files(&folder).unwrap() {
            let definition = Definition::read(&file).unwrap();
            for scale in &definition.scales {
                for quick in [false, true] {
                    let overrides = Overrides { quick, ..Overrides::default() };
                    let points = definition.resolve(scale, &overrides).unwrap();
                    let read = record::points_of_definition(&points::to_toml(&points)).unwrap();
                    assert_eq!(of(&points), read, "{} at {scale}, quick: {quick}", definition.id);
                    compared += read.len();
                }
            }
        }
        assert!(compared > 50, "{compared} points");
    }
}
