//! Requests of operators, and the responses.

use std::collections::VecDeque;

use model::{FunctionName, FunctionSpec, PROCESS_IMAGES, ProcessImage};

use super::super::{
    Now, Origin, Reply,
    cluster::{Cluster, DataPlanes, Workers},
    context::Context,
    effects::{Effect, Effects},
    recovery::Recovery,
    reply::Response,
    views::{self, ClusterView, FunctionView, NodeView, TopView},
};
use crate::{registry::Change, store::Command};

/// Longest wait for data planes to acknowledge a registration, in microseconds. After that the response says that some
/// have not: the operator must soon learn that it is durable, and a data plane may hang for long.
const REPLY_TIMEOUT_US: u64 = 1_000_000;
/// The runtime whose sandboxes are processes, as workers name it.
const PROCESS_RUNTIME: &str = "process";

/// A request of an operator, with the reply to respond to.
#[derive(Debug)]
pub(crate) enum Request {
    /// Register or update a function. With `only_over`, one that is registered differently is left alone, but with one of
    /// these specifications.
    Put { spec: Box<FunctionSpec>, only_over: Option<Vec<FunctionSpec>>, reply: Reply<PutResult> },
    /// Deregister a function.
    Delete { name: FunctionName, reply: Reply<ChangeOutcome> },
    /// At most `limit` functions after `after` in the order of their names.
    List { after: Option<String>, limit: usize, reply: Reply<Vec<FunctionView>> },
    /// One function, if there is one of that name.
    Show { name: String, reply: Reply<Option<Box<FunctionView>>> },
    /// Wait until every connected data plane has acknowledged a function, for [`REPLY_TIMEOUT_US`] at most.
    Acknowledged { name: String, reply: Reply<Acknowledgement> },
    /// All nodes.
    Nodes { reply: Reply<Vec<NodeView>> },
    /// Stop placing sandboxes on a node and drain it, or take it back into service.
    DrainNode { name: String, drained: bool, reply: Reply<ChangeOutcome> },
    /// Forget a node that no worker serves.
    RemoveNode { name: String, reply: Reply<ChangeOutcome> },
    /// Returns true once the state has been rebuilt after the start. Separate from `Status` because health checks ask
    /// often, and counting would cost time.
    Recovered { reply: Reply<bool> },
    /// The cluster in numbers.
    Status { reply: Reply<Box<ClusterView>> },
    /// A snapshot of the cluster's activity, with at most `limit` functions.
    Top { limit: usize, reply: Reply<Box<TopView>> },
}

/// Result of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOutcome {
    /// It is new.
    Created,
    /// It was registered with another specification.
    Updated,
    /// It was registered just so.
    Unchanged,
    /// It is registered differently, and was to be left alone.
    Conflict,
}

impl PutOutcome {
    pub(in crate::state) fn of(change: &Change) -> Self {
        match change {
            Change::FunctionAdded(_) => Self::Created,
            Change::FunctionUpdated { .. } => Self::Updated,
            _ => Self::Unchanged,
        }
    }
}

/// The outcome of a registration, and whether data planes know of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) outcome: PutOutcome,
    /// Every connected data plane has acknowledged it, and there is one at least.
    pub(crate) is_known: bool,
}

/// No connected worker can run the image; the text says which images can be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRefused(pub(crate) String);

pub(crate) type PutResult = Result<Registration, ImageRefused>;

/// Acknowledgements of a function by the connected data planes; complete only if there is one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    NoSuchFunction,
    Missing,
    Complete,
}

/// Result of a change of a named object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    Done,
    NotFound,
    /// It is not allowed now, for this reason.
    Refused(String),
}

impl ChangeOutcome {
    pub(in crate::state) fn of(change: &Change) -> Self {
        if *change == Change::NotFound { Self::NotFound } else { Self::Done }
    }
}

/// Responses that wait until data planes know of the change, oldest first.
#[derive(Debug, Default)]
pub(in crate::state) struct Replies(VecDeque<PendingReply>);

#[derive(Debug)]
struct PendingReply {
    waiting: Waiting,
    /// The change that data planes have to know of.
    sequence: u64,
    deadline_us: u64,
}

/// A request whose response waits.
#[derive(Debug)]
pub(in crate::state) enum Waiting {
    Put(Reply<PutResult>, PutOutcome),
    Change(Reply<ChangeOutcome>, ChangeOutcome),
    Acknowledgement(Reply<Acknowledgement>),
}

impl Waiting {
    fn respond(self, is_known: bool) -> Response {
        match self {
            Self::Put(reply, outcome) => reply.with(Ok(Registration { outcome, is_known })),
            Self::Change(reply, outcome) => reply.with(outcome),
            Self::Acknowledgement(reply) if is_known => reply.with(Acknowledgement::Complete),
            Self::Acknowledgement(reply) => reply.with(Acknowledgement::Missing),
        }
    }
}

impl Workers {
    /// Returns false if there are workers and all of them run processes, which this image can never be. A worker that
    /// comes later may run anything.
    fn may_run(&self, image: &str) -> bool {
        let mut workers = self.iter();
        ProcessImage::read(image).is_some()
            || self.len() == 0
            || workers.any(|(_, worker)| &*worker.runtime != PROCESS_RUNTIME)
    }
}

/// Responds to operators.
pub(in crate::state) struct OperatorHandler<'a> {
    pub(super) context: Context<'a>,
    pub(super) cluster: &'a Cluster,
    pub(super) recovery: &'a Recovery,
    pub(super) replies: &'a mut Replies,
    pub(super) effects: &'a mut Effects,
}

impl OperatorHandler<'_> {
    pub(in crate::state) fn on_request(&mut self, request: Request) {
        let Self { context, cluster, .. } = *self;
        let registry = context.registry;
        let response = match request {
            Request::Put { spec, only_over, reply } => return self.put(spec, only_over.as_deref(), reply),
            Request::Delete { name, reply } => {
                if registry.function(name.as_str()).is_some() {
                    return self.effects.append(Command::DeleteFunction { name }, Origin::Change(reply));
                }
                reply.with(ChangeOutcome::NotFound)
            }
            Request::List { after, limit, reply } => {
                reply.with(views::list_functions(context, cluster, after.as_deref(), limit))
            }
            Request::Show { name, reply } => {
                let function =
                    registry.function(&name).and_then(|registered| cluster.tables.functions.known(registered.id));
                reply.with(function.map(|function| Box::new(views::show_function(cluster, function))))
            }
            Request::Acknowledged { name, reply } => {
                if registry.function(&name).is_some() {
                    return self.reply_when_known(Waiting::Acknowledgement(reply));
                }
                reply.with(Acknowledgement::NoSuchFunction)
            }
            Request::Nodes { reply } => reply.with(views::list_nodes(cluster)),
            Request::DrainNode { name, drained, reply } => match cluster.tables.nodes.find(&name) {
                Some(key) => {
                    let name = cluster.tables.nodes.get(key).name.clone();
                    return self.effects.append(Command::DrainNode { name, drained }, Origin::Change(reply));
                }
                None => reply.with(ChangeOutcome::NotFound),
            },
            Request::RemoveNode { name, reply } => match cluster.tables.nodes.find(&name) {
                Some(key) if cluster.tables.nodes.get(key).session().is_some() => {
                    let reason = "its worker is connected: stop the worker first".to_owned();
                    reply.with(ChangeOutcome::Refused(reason))
                }
                Some(key) => {
                    let name = cluster.tables.nodes.get(key).name.clone();
                    return self.effects.append(Command::RemoveNode { name }, Origin::Change(reply));
                }
                None => reply.with(ChangeOutcome::NotFound),
            },
            Request::Recovered { reply } => reply.with(self.recovery.is_finished()),
            Request::Status { reply } => reply.with(Box::new(views::show_cluster(context, cluster, self.recovery))),
            Request::Top { limit, reply } => {
                reply.with(Box::new(views::show_top(context, cluster, self.recovery, limit)))
            }
        };
        self.effects.push(Effect::Reply(response));
    }

    fn put(&mut self, spec: Box<FunctionSpec>, only_over: Option<&[FunctionSpec]>, reply: Reply<PutResult>) {
        let known = self.context.registry.function(spec.name.as_str()).map(|registered| &registered.spec);
        let response = match known {
            // The operator wants to invoke it: that it was durable before does not mean that data planes know of it.
            Some(known) if *known == *spec => {
                return self.reply_when_known(Waiting::Put(reply, PutOutcome::Unchanged));
            }
            Some(known) if only_over.is_some_and(|over| !over.contains(known)) => {
                reply.with(Ok(Registration { outcome: PutOutcome::Conflict, is_known: false }))
            }
            _ if !self.cluster.workers.may_run(&spec.image) => {
                let refused = format!("image: expected {PROCESS_IMAGES}, got text {:?}", spec.image);
                reply.with(Err(ImageRefused(refused)))
            }
            _ => return self.effects.append(Command::PutFunction { spec }, Origin::Put(reply)),
        };
        self.effects.push(Effect::Reply(response));
    }

    fn reply_when_known(&mut self, waiting: Waiting) {
        self.replies.add(self.context.now, self.context.registry.function_index(), waiting);
    }
}

impl Replies {
    /// Responds once every connected data plane knows of all changes up to `sequence`, or has had the time to.
    pub(in crate::state) fn add(&mut self, now: Now, sequence: u64, waiting: Waiting) {
        self.0.push_back(PendingReply { waiting, sequence, deadline_us: now.us + REPLY_TIMEOUT_US });
    }

    /// Responds to requests whose change every connected data plane knows of, and to those that have waited long enough.
    /// Without a connected data plane nothing is waited for, and the change is not known.
    pub(in crate::state) fn release(&mut self, now: Now, data_planes: &DataPlanes, effects: &mut Effects) {
        if self.0.is_empty() {
            return;
        }
        let applied = data_planes.connected().map(|(_, _, known)| known.applied).min();
        let is_known = |reply: &PendingReply| applied.is_some_and(|applied| reply.sequence <= applied);
        let is_due = |reply: &PendingReply| is_known(reply) || applied.is_none() || now.us >= reply.deadline_us;
        while let Some(reply) = self.0.pop_front_if(|reply| is_due(reply)) {
            let is_known = is_known(&reply);
            effects.push(Effect::Reply(reply.waiting.respond(is_known)));
        }
    }

    /// Deadline of the first response, in microseconds.
    pub(in crate::state) fn due_us(&self) -> Option<u64> {
        self.0.front().map(|reply| reply.deadline_us)
    }

    /// Moves all deadlines by the time for which this process was stopped.
    pub(in crate::state) fn postpone(&mut self, by_us: u64) {
        self.0.iter_mut().for_each(|reply| reply.deadline_us = reply.deadline_us.saturating_add(by_us));
    }
}
