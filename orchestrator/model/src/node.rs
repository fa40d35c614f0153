//! Nodes: the machines (or modelled machines) that sandboxes run on.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::Resources;

/// A node's name, unique in the cluster and stable over restarts of its worker. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeName(pub Arc<str>);

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A node as its worker registers it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Name of the node.
    pub name: NodeName,
    /// Resources that may be reserved on it.
    pub capacity: Resources,
}
