//! Decisions, tested without a network: a model cluster obeys the effects in any order that links and failures allow.

mod adoption;
mod broken;
mod compaction;
mod crossing;
mod failures;
mod heartbeats;
mod model_cluster;
mod overdue;
mod properties;
mod returning;
mod set_back;
mod unschedulable;
mod vectors;
