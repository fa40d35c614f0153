//! Builds the hollow runtime from a worker's configuration.

use std::{future::ready, sync::Arc};

use super::{Hollow, config};
use crate::runtime::{BuildContext, BuildResult, RuntimeError, RuntimeFactory};

/// The factory of the table of runtimes.
pub(crate) const FACTORY: RuntimeFactory =
    RuntimeFactory { check: config::check, nodes: config::nodes, build: |context| Box::pin(ready(build(context))) };

fn build(context: BuildContext) -> BuildResult {
    let BuildContext { config, nodes, network, seed } = context;
    let hollow = Hollow::bind(&config.hollow, &nodes, seed, network);
    Ok(Arc::new(hollow.map_err(|error| RuntimeError::new("hollow runtime", error))?))
}
