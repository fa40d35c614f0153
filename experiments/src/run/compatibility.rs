//! Compatibility of an experiment with the systems that it measures, checked before anything is built: what does not fit
//! would fail hours later, or be measured as something else.

use crate::{
    definition::{overrides::Overrides, points::Point},
    exit::UsageError,
    run::{functions, measured_system::MeasuredSystem},
};

/// Checks that every system can be measured at its points, and with the others.
///
/// # Errors
/// If one cannot, with what helps.
pub fn check(points: &[Point], systems: &[MeasuredSystem], overrides: &Overrides) -> Result<(), UsageError> {
    all_are_reachable(systems)?;
    each_parameter_is_known(systems, overrides)?;
    for system in systems {
        let measured: Vec<&Point> =
            points.iter().filter(|point| point.settings.systems.contains(&system.name)).collect();
        has_its_runtime(system, &measured, overrides.runtime.is_some())?;
        has_its_image(system, &measured)?;
    }
    Ok(())
}

/// Checks runtimes: with another runtime, another quantity would be measured.
fn has_its_runtime(system: &MeasuredSystem, points: &[&Point], is_typed: bool) -> Result<(), UsageError> {
    let (name, runtimes) = (&system.name, &system.system.runtimes);
    let has = |runtime: &String| runtimes.is_empty() || runtimes.contains(runtime);
    let Some(wanted) = points.iter().map(|point| &point.settings.sandbox.runtime).find(|runtime| !has(runtime)) else {
        return Ok(());
    };
    let offered = runtimes.join(" or ");
    Err(UsageError(if is_typed {
        format!("--runtime {wanted}: {name} has no such runtime, but {offered}")
    } else {
        format!("{name} has no runtime {wanted}: add --runtime {offered}, for all systems")
    }))
}

/// Checks images: with the image of another system, every invocation would fail.
fn has_its_image(system: &MeasuredSystem, points: &[&Point]) -> Result<(), UsageError> {
    if !system.system.takes_functions() {
        return Ok(());
    }
    let workloads = points.iter().map(|point| functions::workload(&point.settings.function));
    let mut missing = workloads.filter(|workload| !system.system.images.contains_key(*workload));
    missing.next().map_or(Ok(()), |workload| Err(UsageError(functions::no_image(&system.name, workload))))
}

/// Checks that no external system shares a run with an isolated one: a private network has no way out.
fn all_are_reachable(systems: &[MeasuredSystem]) -> Result<(), UsageError> {
    let isolated = systems.iter().find(|one| one.system.isolated);
    let external = systems.iter().find(|one| one.system.is_external());
    let (Some(MeasuredSystem { name: isolated, .. }), Some(MeasuredSystem { name: external, .. })) =
        (isolated, external)
    else {
        return Ok(());
    };
    Err(UsageError(format!(
        "{external} was started by somebody else, and a run with {isolated} takes place in a private network, from which it \
         cannot be reached: each needs a run of its own, with --systems {external} and with --systems {isolated}"
    )))
}

/// Checks that some system has each parameter: an unknown one is a typing error.
fn each_parameter_is_known(systems: &[MeasuredSystem], overrides: &Overrides) -> Result<(), UsageError> {
    let names = overrides.parameters.iter().map(|parameter| &parameter.name);
    let known = |name: &String| systems.iter().any(|system| system.known_parameters().contains(name));
    let Some(unknown) = names.into_iter().find(|name| !known(name)) else { return Ok(()) };
    let of_system = |system: &MeasuredSystem| {
        let known: Vec<String> = system.known_parameters().into_iter().collect();
        format!("{} has {}", system.name, if known.is_empty() { "none".to_owned() } else { known.join(", ") })
    };
    let known: Vec<String> = systems.iter().map(of_system).collect();
    Err(UsageError(format!("--parameter {unknown}: no measured system has such a parameter; {}", known.join("; "))))
}
