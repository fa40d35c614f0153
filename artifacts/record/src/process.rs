//! Roles of processes in a measurement, by the names of their rows in `processes.csv`.

use crate::ProcessUsage;

/// The part that a process has in a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProcessRole {
    /// A process of the system under test, such as its control plane, a data plane or a worker. Each system names its
    /// own, so that no more than this can be told from a name.
    System,
    /// The load generator.
    LoadGenerator,
    /// The program that runs the experiment.
    Runner,
    /// No process but the whole machine.
    Machine,
}

impl ProcessRole {
    /// The role of the process with this name.
    #[must_use]
    pub fn of(process: &str) -> Self {
        match process {
            ProcessUsage::LOAD_GENERATOR => Self::LoadGenerator,
            ProcessUsage::RUNNER => Self::Runner,
            ProcessUsage::MACHINE => Self::Machine,
            _ => Self::System,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_names_have_their_roles() {
        let names = [ProcessUsage::LOAD_GENERATOR, ProcessUsage::RUNNER, ProcessUsage::MACHINE];
        let roles = [ProcessRole::LoadGenerator, ProcessRole::Runner, ProcessRole::Machine];
        assert_eq!(names.map(ProcessRole::of), roles);
    }

    #[test]
    fn all_other_names_are_processes_of_the_system() {
        let names = ["control-plane", "worker-1", "worker-1 sandboxes", "load-generator-2", "", "Machine"];
        assert_eq!(names.map(ProcessRole::of), [ProcessRole::System; 6]);
    }
}
