//! Recording a run: the ledger of invocations, rows on disk, the tally, and whether the run is valid.

pub(crate) mod collector;
pub(crate) mod errors;
pub(crate) mod histogram;
pub(crate) mod ledger;
pub(crate) mod reading;
pub(crate) mod results;
pub(crate) mod summary;
pub(crate) mod tally;
pub(crate) mod view;
