//! The state as operators see it: the JSON documents of the HTTP API, as functions that only read the tables.

mod cluster;
mod function;
mod node;
mod top;

pub(crate) use self::{cluster::ClusterView, function::FunctionView, node::NodeView, top::TopView};
pub(super) use self::{
    cluster::show_cluster,
    function::{list_functions, show_function},
    node::list_nodes,
    top::show_top,
};
