//! The load generator's command lines: a schedule made once per run, and one replay of it per repetition.

use std::path::Path;

use crate::{
    definition::{settings::Settings, template::Values},
    run::programs::Programs,
    system::Invoke,
};

/// The command that writes the schedule and names its functions.
#[must_use]
pub fn schedule_command(programs: &Programs, settings: &Settings, schedule: &Path, functions: &Path) -> Vec<String> {
    let load = &settings.load;
    let mut command = vec![programs.path("loadgen"), "schedule".to_owned()];
    let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    match &load.trace {
        Some(folder) => option("trace", folder.display().to_string()),
        None => option("synthetic", load.synthetic.clone()),
    }
    option("minutes", load.minutes.to_string());
    option("minute", humantime::format_duration(load.minute).to_string());
    option("start-minute", load.start_minute.to_string());
    option("warmup", humantime::format_duration(load.warmup()).to_string());
    if let Some(functions) = load.functions {
        option("functions", functions.to_string());
    }
    if let Some(cores) = load.max_cores {
        option("max-cores", cores.to_string());
    }
    if let Some(max_run) = load.max_run {
        option("max-run", humantime::format_duration(max_run).to_string());
    }
    option("arrivals", load.arrivals.clone());
    option("seed", settings.seed.to_string());
    option("out", schedule.display().to_string());
    option("functions-out", functions.display().to_string());
    command
}

/// The command that replays the schedule against a started system.
///
/// # Errors
/// When a template of the system names an unknown value.
pub fn run_command(
    programs: &Programs,
    settings: &Settings,
    invoke: &Invoke,
    values: &Values,
    files: (&Path, &Path),
) -> anyhow::Result<Vec<String>> {
    let (schedule, out) = files;
    let mut command = vec![programs.path("loadgen"), "run".to_owned()];
    let mut option = |name: &str, value: String| command.extend([format!("--{name}"), value]);
    option("schedule", schedule.display().to_string());
    option("target", invoke.target.clone());
    option("address", values.expand(&invoke.address)?);
    for (name, value) in &invoke.headers {
        option("header", format!("{name}: {}", values.expand(value)?));
    }
    option("protocol", settings.load.protocol.name().to_owned());
    option("timeout", humantime::format_duration(settings.load.timeout).to_string());
    option("out", out.display().to_string());
    Ok(command)
}
