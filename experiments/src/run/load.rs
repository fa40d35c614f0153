//! The load generator's command lines: a schedule made once per run, and one replay of it per repetition.

use std::{path::Path, time::Duration};

use crate::{
    definition::{
        load::{Calls, EQUIDISTANT, Rate, Trace},
        settings::Settings,
        template::{TemplateError, Values},
    },
    run::programs::Programs,
    system::Invoke,
};

/// The command that writes the schedule and names its functions.
#[must_use]
pub fn schedule_command(programs: &Programs, settings: &Settings, schedule: &Path, functions: &Path) -> Vec<String> {
    let load = &settings.load;
    let mut command = vec![programs.path("loadgen"), "schedule".to_owned()];
    command.extend(load.trace().map(trace_options).unwrap_or_default());
    command.extend(load.rate().map(rate_options).unwrap_or_default());
    let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    if load.rate().is_some() {
        option("duration", duration(load.length()));
    }
    option("warmup", duration(load.warmup()));
    option("arrivals", load.arrivals.clone());
    // With equal gaps nothing is random, and the load generator refuses a seed that has no effect.
    if load.rate().is_none() || load.arrivals != EQUIDISTANT {
        option("seed", settings.seed.to_string());
    }
    option("out", schedule.display().to_string());
    option("functions-out", functions.display().to_string());
    command
}

fn trace_options(trace: &Trace) -> Vec<String> {
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([format!("--{name}"), value]);
    match &trace.trace {
        Some(folder) => option("trace", folder.display().to_string()),
        None => option("synthetic", trace.synthetic.clone()),
    }
    option("minutes", trace.minutes.to_string());
    option("minute", duration(trace.minute));
    option("start-minute", trace.start_minute.to_string());
    if let Some(functions) = trace.functions {
        option("functions", functions.to_string());
    }
    if let Some(cores) = trace.max_cores {
        option("max-cores", cores.to_string());
    }
    if let Some(max_run) = trace.max_run {
        option("max-run", duration(max_run));
    }
    options
}

fn rate_options(rate: &Rate) -> Vec<String> {
    let mut options = vec!["--rate".to_owned(), rate.rate_per_s.to_string(), "--run".to_owned(), duration(rate.run)];
    if let Some(bursts) = rate.bursts {
        options.extend(["--burst".to_owned(), bursts.size.to_string()]);
    }
    match rate.calls {
        Calls::Warm { functions } => options.extend(["--warm-functions".to_owned(), functions.to_string()]),
        Calls::Cold { cooldown } => options.extend(["--cold".to_owned(), "--cooldown".to_owned(), duration(cooldown)]),
    }
    options
}

fn duration(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// The command that replays the schedule against a started system.
///
/// # Errors
/// If a template of the system names an unknown value.
pub fn run_command(
    programs: &Programs,
    settings: &Settings,
    invoke: &Invoke,
    values: &Values,
    files: (&Path, &Path),
) -> anyhow::Result<Vec<String>> {
    let (schedule, out) = files;
    let mut command = vec![programs.path("loadgen"), "run".to_owned()];
    command.extend(invoke_options(invoke, values)?);
    let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    option("schedule", schedule.display().to_string());
    option("protocol", settings.load.protocol.name().to_owned());
    if settings.load.connections > 0 {
        option("open-connections", settings.load.connections.to_string());
    }
    option("timeout", duration(settings.load.timeout));
    option("out", out.display().to_string());
    Ok(command)
}

/// The options for address and protocol of invocations.
///
/// # Errors
/// If a template of the system names an unknown value.
fn invoke_options(invoke: &Invoke, values: &Values) -> Result<Vec<String>, TemplateError> {
    let of_requests = values.with_request_places();
    let mut options = Vec::new();
    let mut option = |name: &str, value: String| options.extend([format!("--{name}"), value]);
    option("target", invoke.target.clone());
    option("address", values.expand(&invoke.address)?);
    for (name, template) in [("host", &invoke.host), ("path", &invoke.path), ("signals", &invoke.signals)] {
        if let Some(template) = template {
            option(name, of_requests.expand(template)?);
        }
    }
    for (name, template) in &invoke.headers {
        option("header", format!("{name}: {}", of_requests.expand(template)?));
    }
    Ok(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_system_says_of_requests_reaches_the_load_generator() {
        let table = r#"
            target = "external"
            address = "{parameters.address}"
            host = "{function}.{parameters.suffix}"
            path = "/run/{function}?at={address}"
            signals = "machine-name"
            headers = { x-tenant = "{parameters.suffix}/{function}" }
        "#;
        let invoke: Invoke = toml::from_str(table).unwrap();
        let mut values = Values::default();
        values.set("parameters.address", "10.0.0.1:80");
        values.set("parameters.suffix", "example");
        let expected = "--target external --address 10.0.0.1:80 --host {function}.example \
                        --path /run/{function}?at={address} --signals machine-name";
        let options = invoke_options(&invoke, &values).unwrap();
        assert_eq!(options[..options.len() - 2].join(" "), expected);
        assert_eq!(options[options.len() - 2..], ["--header", "x-tenant: example/{function}"]);
        let error = invoke_options(&Invoke { host: Some("{fn}".to_owned()), ..invoke }, &values).unwrap_err();
        assert!(error.to_string().starts_with("{fn} is not known here"), "{error}");
    }
}
