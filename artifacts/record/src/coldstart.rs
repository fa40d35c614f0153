//! `coldstarts.csv`: one row per sandbox creation, with the duration of each phase.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};

/// The end of a creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CreationOutcome {
    /// The sandbox became ready.
    Ready,
    /// It failed.
    Failed,
    /// The sandbox was not wanted any more.
    Cancelled,
}

impl CreationOutcome {
    /// Its name in rows, metrics and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl Ord for CreationOutcome {
    /// By name: files and tables list outcomes in this order.
    fn cmp(&self, other: &Self) -> Ordering {
        self.name().cmp(other.name())
    }
}

impl PartialOrd for CreationOutcome {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for CreationOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A phase of a creation. `docs/glossary.md` says where each begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CreationPhase {
    /// From demand known to the decision to create.
    Decide,
    /// Choosing and reserving the node.
    Place,
    /// From placed to handed to the worker's connection.
    Dispatch,
    /// The way to the worker and back.
    NetWorker,
    /// Start of the sandbox's program.
    Create,
    /// From started to the first successful probe.
    Ready,
    /// From the ready event read to the endpoint handed over.
    Publish,
    /// The way to the data plane and back.
    #[serde(rename = "net_dataplane")]
    NetDataPlane,
}

impl CreationPhase {
    /// All phases, in the order in which they happen.
    pub const ALL: [Self; 8] = [
        Self::Decide,
        Self::Place,
        Self::Dispatch,
        Self::NetWorker,
        Self::Create,
        Self::Ready,
        Self::Publish,
        Self::NetDataPlane,
    ];

    /// Its name in files and tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::Place => "place",
            Self::Dispatch => "dispatch",
            Self::NetWorker => "net_worker",
            Self::Create => "create",
            Self::Ready => "ready",
            Self::Publish => "publish",
            Self::NetDataPlane => "net_dataplane",
        }
    }

    /// Returns true if it is the sandbox's own start; the cluster manager adds all other phases.
    #[must_use]
    pub const fn is_start_of_sandbox(self) -> bool {
        matches!(self, Self::Create | Self::Ready)
    }
}

/// One sandbox creation. A duration is empty when the system does not measure it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ColdStart {
    /// Name of the function.
    pub function: String,
    /// The new sandbox.
    pub sandbox: String,
    /// The node it was placed on.
    pub node: String,
    /// Instant at which the demand was known, in nanoseconds since the Unix epoch as the system writes it; a harvested
    /// file has nanoseconds from the run's start instant, negative before it.
    pub requested_ns: i64,
    /// From demand known to the decision to create, in microseconds.
    pub decide_us: Option<u64>,
    /// Choosing and reserving the node, in microseconds.
    pub place_us: Option<u64>,
    /// From placed to handed to the worker's connection, in microseconds.
    pub dispatch_us: Option<u64>,
    /// Network, root file system, start, in microseconds.
    pub create_us: Option<u64>,
    /// From started to the first successful probe, in microseconds.
    pub ready_us: Option<u64>,
    /// From the ready event read to the endpoint handed to the data plane's connection, in microseconds.
    pub publish_us: Option<u64>,
    /// Round trip to the worker minus the worker's own time, in microseconds.
    pub net_worker_us: Option<u64>,
    /// Round trip to the data plane minus the data plane's own time, in microseconds.
    pub net_dataplane_us: Option<u64>,
    /// The end of the creation.
    pub outcome: CreationOutcome,
    /// `create_us` split as the runtime sees fit: `name=microseconds` pairs separated by spaces.
    pub create_steps: Option<String>,
}

impl ColdStart {
    /// Duration of a phase, in microseconds; `None` if it was not measured.
    #[must_use]
    pub fn phase_us(&self, phase: CreationPhase) -> Option<u64> {
        match phase {
            CreationPhase::Decide => self.decide_us,
            CreationPhase::Place => self.place_us,
            CreationPhase::Dispatch => self.dispatch_us,
            CreationPhase::NetWorker => self.net_worker_us,
            CreationPhase::Create => self.create_us,
            CreationPhase::Ready => self.ready_us,
            CreationPhase::Publish => self.publish_us,
            CreationPhase::NetDataPlane => self.net_dataplane_us,
        }
    }

    /// From demand known to ready, in microseconds; `None` when a phase that every system has is missing. Handing over
    /// to a worker and the way there and back are phases that not every system has: absent ones take no time.
    #[must_use]
    pub fn to_ready_us(&self) -> Option<u64> {
        let own = [self.decide_us, self.place_us, self.create_us, self.ready_us].into_iter().sum::<Option<u64>>()?;
        Some(own + self.dispatch_us.unwrap_or(0) + self.net_worker_us.unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{TableWriter, read_table};

    fn creation() -> ColdStart {
        ColdStart {
            function: "f".to_owned(),
            sandbox: "1-2".to_owned(),
            node: "n".to_owned(),
            requested_ns: -5,
            decide_us: Some(1),
            place_us: Some(2),
            dispatch_us: Some(4),
            create_us: Some(8),
            ready_us: Some(16),
            publish_us: Some(32),
            net_worker_us: Some(64),
            net_dataplane_us: None,
            outcome: CreationOutcome::Cancelled,
            create_steps: Some("net=3 start=5".to_owned()),
        }
    }

    #[test]
    fn the_way_to_ready_is_the_sum_of_its_phases_without_publication() {
        assert_eq!(creation().to_ready_us(), Some(1 + 2 + 4 + 8 + 16 + 64));
        let local = ColdStart { dispatch_us: None, net_worker_us: None, ..creation() };
        assert_eq!(local.to_ready_us(), Some(1 + 2 + 8 + 16), "a system without separate workers hands nothing over");
        for incomplete in [
            ColdStart { decide_us: None, ..creation() },
            ColdStart { place_us: None, ..creation() },
            ColdStart { create_us: None, ..creation() },
            ColdStart { ready_us: None, ..creation() },
        ] {
            assert_eq!(incomplete.to_ready_us(), None, "{incomplete:?}");
        }
    }

    #[test]
    fn creations_are_read_as_written_and_another_outcome_is_refused_with_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("coldstarts.csv");
        let mut table = TableWriter::create(&path).unwrap();
        for outcome in [CreationOutcome::Ready, CreationOutcome::Failed, CreationOutcome::Cancelled] {
            table.write(&ColdStart { outcome, ..creation() }).unwrap();
        }
        table.flush().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let names: Vec<&str> = text.lines().skip(1).filter_map(|line| line.split(',').nth(12)).collect();
        assert_eq!(names, ["ready", "failed", "cancelled"]);
        let back: Vec<ColdStart> = read_table(&path).unwrap();
        assert_eq!(back[2], creation());
        std::fs::write(&path, text.replace(",failed,", ",lost,")).unwrap();
        let error = read_table::<ColdStart>(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}, row 3: ", path.display())), "{error}");
        assert!(error.contains("unknown variant `lost`, expected one of `ready`, `failed`, `cancelled`"), "{error}");
    }

    #[test]
    fn phases_are_named_as_their_columns_and_have_their_durations() {
        let fields = serde_json::to_value(creation()).unwrap();
        for phase in CreationPhase::ALL {
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.name());
            assert_eq!(fields[format!("{}_us", phase.name())].as_u64(), creation().phase_us(phase), "{phase:?}");
        }
        let start: Vec<_> = CreationPhase::ALL.into_iter().filter(|phase| phase.is_start_of_sandbox()).collect();
        assert_eq!(start, [CreationPhase::Create, CreationPhase::Ready]);
    }

    #[test]
    fn outcomes_are_ordered_by_name() {
        let mut outcomes = [CreationOutcome::Ready, CreationOutcome::Failed, CreationOutcome::Cancelled];
        outcomes.sort_unstable();
        assert_eq!(outcomes.map(|outcome| outcome.to_string()), ["cancelled", "failed", "ready"]);
    }
}
