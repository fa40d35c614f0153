//! Checks that a run fits on its disk: a disk that fills up during a run spoils the measurement, and the other data on
//! it.

use std::path::Path;

use anyhow::ensure;

use crate::{
    definition::points::Point,
    machine::disk::{self, MIB},
    run::plan::{Action, Plan, StepState},
};

/// Space of a repetition with any load, in MiB: logs, and the data of a system while it runs.
const FLOOR_MIB: u64 = 256;

/// Bytes that an invocation leaves: its line in the schedule, its row, and that of its creation.
const BYTES_PER_INVOCATION: f64 = 400.0;

/// Bytes that a repetition leaves for each byte of its schedule.
const BYTES_PER_SCHEDULED: u64 = 8;

/// Space of the open steps of a plan, in MiB. That of a trace is unknown before its schedule is made.
#[must_use]
pub fn of_plan(plan: &Plan, points: &[Point]) -> u64 {
    let open = plan.steps.iter().filter(|step| step.state != StepState::Done);
    let of_step = |action: &Action| {
        let Action::Measure { point, .. } = action else { return 0.0 };
        let load = points.iter().find(|known| known.name == *point).map(|point| &point.settings.load);
        let invocations = load.and_then(|load| Some(load.rate()?.rate_per_s * load.length().as_secs_f64()));
        invocations.unwrap_or(0.0) * BYTES_PER_INVOCATION
    };
    let bytes: f64 = open.map(|step| of_step(&step.action)).sum();
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is positive, and saturates")]
    let mib = (bytes / MIB as f64).ceil() as u64;
    mib.saturating_add(FLOOR_MIB)
}

/// Space of a repetition with a schedule of so many bytes, in MiB.
#[must_use]
pub fn of_repetition(schedule_bytes: u64) -> u64 {
    FLOOR_MIB.saturating_add(schedule_bytes.saturating_mul(BYTES_PER_SCHEDULED) / MIB)
}

/// Refuses to begin what needs more space than is free on the disk of `folder`.
///
/// # Errors
/// If there is less.
pub fn ensure_free(folder: &Path, needed_mib: u64) -> anyhow::Result<()> {
    let free_mib = disk::free_mib(folder);
    ensure!(
        free_mib >= needed_mib,
        "{}: {free_mib} MiB are free on its disk, about {needed_mib} MiB are needed: free some, or leave the run \
         elsewhere with --out DIR",
        folder.display()
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::definition::{overrides::Overrides, points};

    fn plan(load: &str) -> (Plan, Vec<Point>) {
        let points = points::read(&format!(
            "systems = [\"a\", \"b\"]\nrepetitions = 2\nload = {{ timeout = \"60s\", {load} }}\n\
             sandbox = {{ runtime = \"hollow\", mode = \"sleep\", workers = 1, cpu = \"64\", memory = \"256GiB\" }}"
        ))
        .unwrap();
        (Plan::new(("e", "laptop"), &Overrides::default(), &points, |_| (0, 0)), points)
    }

    #[test]
    fn a_rate_says_what_its_open_steps_need_and_a_trace_does_not() {
        let (mut rate, points) = plan("kind = \"rate\", rate = 10485.76, seconds = 100, functions = 1");
        assert_eq!(of_plan(&rate, &points), FLOOR_MIB + 4 * 400, "four repetitions of 2^20 invocations");
        for step in &mut rate.steps[..3] {
            step.state = StepState::Done;
        }
        assert_eq!(of_plan(&rate, &points), FLOOR_MIB + 3 * 400, "one is done");
        let (trace, points) = plan("minutes = 30");
        assert_eq!(of_plan(&trace, &points), FLOOR_MIB);
        assert_eq!(of_repetition(2 * MIB), FLOOR_MIB + 16);
    }

    #[test]
    fn too_little_is_refused_with_both_numbers_and_what_helps() {
        let folder = tempfile::tempdir().unwrap();
        ensure_free(folder.path(), 0).unwrap();
        let refused = ensure_free(folder.path(), u64::MAX).unwrap_err().to_string();
        let place = folder.path().display().to_string();
        assert!(refused.starts_with(&place) && refused.contains("--out DIR"), "{refused}");
    }
}
