//! The files that a run leaves on disk: rows, manifest, plan, summaries.
//!
//! Programs of this project exchange data only through these files, so they carry a version and change rarely.
//! Readers refuse a newer version and name file, row and column of what they cannot read.

mod action;
mod claims;
mod coldstart;
mod error;
mod impossible;
mod invariants;
mod invocation;
mod layout;
mod loadgen;
mod lock;
mod manifest;
mod point;
mod process;
mod rates;
mod setting;
mod slowdown;
mod summary;
mod table;
mod usage;

pub use action::{Action, Anatomy, PerColdStart, Step};
pub use claims::{ClaimOutcome, Claims, EvaluatedClaim, SecondaryRatio};
pub use coldstart::{ColdStart, CreationOutcome, CreationPhase};
pub use error::RecordError;
pub use impossible::{Impossible, ImpossibleRows};
pub use invariants::{CheckedRepetition, Finding, Invariant, Invariants, Scope, Weight};
pub use invocation::{Invocation, InvocationReader, InvocationWriter, Outcome, Phase};
pub use layout::{PointDir, RunDir, read_json, write_json};
pub use loadgen::{LagSummary, LoadSummary};
pub use lock::{DirectoryLock, Holder, LOCK_FILE, LockError};
pub use manifest::{DiscardedTry, ExitState, FailedRepetition, HostFacts, Manifest, SystemFacts};
pub use point::{ExecutionMode, Load, Point, RateLoad, Runtime, Sandbox, TraceLoad, points_of_definition};
pub use process::ProcessRole;
pub use rates::{Estimate, ProcessCost, RateCheck, RatePoint, SustainedRateTest};
pub use setting::Setting;
pub use slowdown::{FailurePolicy, SlowdownDefinition, SlowdownSummary};
pub use summary::{
    ColdJoin, ColdSummary, CreationSummary, MachineUse, PhaseSummary, PointSummary, ProcessSummary, Rates, RowCounts,
    Spread, Summary, Validity,
};
pub use table::{TableWriter, read_table};
pub use usage::{DiskUse, MachineTime, NodeUsage, ProcessUsage, SampledRepetition, SampledWindow};

/// Version of everything written; a reader refuses greater ones.
pub const SCHEMA_VERSION: u32 = 1;
