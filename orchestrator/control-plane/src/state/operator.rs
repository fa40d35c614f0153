//! What operators ask for, and the responses.

use model::{FunctionName, FunctionSpec, PROCESS_IMAGES, ProcessImage};

use super::{
    Cluster, ClusterView, Effect, FunctionView, NodeView, Now, Origin, Reply, State, TopView, reply::Response,
};
use crate::store::Command;

/// A registration is answered after this time even if some data plane has not acknowledged it, in microseconds. The answer
/// says so: the operator needs to know soon that it is durable, and a data plane may hang for long.
const REPLY_TIMEOUT_US: u64 = 1_000_000;
/// What workers call the runtime whose sandboxes are processes.
const PROCESS_RUNTIME: &str = "process";

/// Something an operator wants, and the way back.
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
    /// Whether data planes know a function: the response comes once they do, or after [`REPLY_TIMEOUT_US`].
    Acknowledged { name: String, reply: Reply<Acknowledgement> },
    /// All nodes.
    Nodes { reply: Reply<Vec<NodeView>> },
    /// Stop placing sandboxes on a node and drain it, or take it back into service.
    DrainNode { name: String, drained: bool, reply: Reply<ChangeOutcome> },
    /// Forget a node that no worker serves.
    RemoveNode { name: String, reply: Reply<ChangeOutcome> },
    /// Whether the state has been rebuilt after the last start; asked often, so nothing is counted for it.
    Recovered { reply: Reply<bool> },
    /// The cluster in numbers.
    Status { reply: Reply<Box<ClusterView>> },
    /// What the cluster is busy with, and at most `limit` functions.
    Top { limit: usize, reply: Reply<Box<TopView>> },
}

/// How a registration ended.
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

/// What became of a registration, and who knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Registration {
    pub(crate) outcome: PutOutcome,
    /// Every connected data plane has acknowledged it, and there is one at least.
    pub(crate) is_known: bool,
}

/// No connected worker can run the image, as the message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImageRefused(pub(crate) String);

pub(crate) type PutResult = Result<Registration, ImageRefused>;

/// Whether every connected data plane has acknowledged a function, and there is one at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledgement {
    NoSuchFunction,
    Missing,
    Complete,
}

/// How a change of something that is named ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ChangeOutcome {
    Done,
    NotFound,
    /// It is not allowed now, for this reason.
    Refused(String),
}

/// A response that waits until data planes know of the change.
#[derive(Debug)]
pub(super) struct PendingReply {
    waiting: Waiting,
    sequence: u64,
    pub(super) deadline_us: u64,
}

/// Who waits, and for what.
#[derive(Debug)]
pub(super) enum Waiting {
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

impl Cluster {
    /// Returns false if there are workers and all of them run processes, which this image can never be. A worker that
    /// comes later may run anything.
    fn may_run(&self, image: &str) -> bool {
        let mut workers = self.workers.iter();
        ProcessImage::read(image).is_some()
            || self.workers.len() == 0
            || workers.any(|(_, worker)| &*worker.runtime != PROCESS_RUNTIME)
    }
}

impl State {
    pub(super) fn request(&mut self, now: Now, request: Request) {
        let response = match request {
            Request::Put { spec, only_over, reply } => return self.request_put(now, spec, only_over.as_deref(), reply),
            Request::Delete { name, reply } => {
                if self.registry.function(name.as_str()).is_some() {
                    return self.append(Command::DeleteFunction { name }, Origin::Change(reply));
                }
                reply.with(ChangeOutcome::NotFound)
            }
            Request::List { after, limit, reply } => reply.with(self.list_functions(after.as_deref(), limit)),
            Request::Show { name, reply } => {
                let function = self.function_named(&name);
                reply.with(function.map(|function| Box::new(self.cluster.view_function(function))))
            }
            Request::Acknowledged { name, reply } => {
                if self.registry.function(&name).is_some() {
                    return self.reply_when_known(now, Waiting::Acknowledgement(reply));
                }
                reply.with(Acknowledgement::NoSuchFunction)
            }
            Request::Nodes { reply } => reply.with(self.cluster.view_nodes()),
            Request::DrainNode { name, drained, reply } => match self.cluster.nodes.find(&name) {
                Some(key) => {
                    let name = self.cluster.nodes.get(key).name.clone();
                    return self.append(Command::DrainNode { name, drained }, Origin::Change(reply));
                }
                None => reply.with(ChangeOutcome::NotFound),
            },
            Request::RemoveNode { name, reply } => match self.cluster.nodes.find(&name) {
                Some(key) if self.cluster.nodes.get(key).session.is_some() => {
                    let reason = "its worker is connected: stop the worker first".to_owned();
                    reply.with(ChangeOutcome::Refused(reason))
                }
                Some(key) => {
                    let name = self.cluster.nodes.get(key).name.clone();
                    return self.append(Command::RemoveNode { name }, Origin::Change(reply));
                }
                None => reply.with(ChangeOutcome::NotFound),
            },
            Request::Recovered { reply } => reply.with(self.is_recovered()),
            Request::Status { reply } => reply.with(Box::new(self.view_cluster(now))),
            Request::Top { limit, reply } => reply.with(Box::new(self.view_top(now, limit))),
        };
        self.effect(Effect::Reply(response));
    }

    fn request_put(
        &mut self,
        now: Now,
        spec: Box<FunctionSpec>,
        only_over: Option<&[FunctionSpec]>,
        reply: Reply<PutResult>,
    ) {
        let known = self.registry.function(spec.name.as_str()).map(|registered| &registered.spec);
        let response = match known {
            // Whoever asks wants to invoke it: that it was durable before does not mean that it is known everywhere.
            Some(known) if *known == *spec => {
                return self.reply_when_known(now, Waiting::Put(reply, PutOutcome::Unchanged));
            }
            Some(known) if only_over.is_some_and(|over| !over.contains(known)) => {
                reply.with(Ok(Registration { outcome: PutOutcome::Conflict, is_known: false }))
            }
            _ if !self.cluster.may_run(&spec.image) => {
                let refused = format!("image: expected {PROCESS_IMAGES}, got text {:?}", spec.image);
                reply.with(Err(ImageRefused(refused)))
            }
            _ => return self.append(Command::PutFunction { spec }, Origin::Put(reply)),
        };
        self.effect(Effect::Reply(response));
    }

    fn append(&mut self, command: Command, origin: Origin) {
        self.effect(Effect::Append { command, origin });
    }

    /// Answers once every connected data plane knows of all changes so far, or has had the time to.
    pub(super) fn reply_when_known(&mut self, now: Now, waiting: Waiting) {
        let sequence = self.registry.function_index();
        self.replies.push_back(PendingReply { waiting, sequence, deadline_us: now.us + REPLY_TIMEOUT_US });
        self.release_replies(now);
    }

    /// Answers those whose change every connected data plane knows of, or who have waited long enough. Where none is
    /// connected nobody is waited for, and nobody knows.
    pub(super) fn release_replies(&mut self, now: Now) {
        let applied = self.cluster.data_planes.connected().map(|(_, _, known)| known.applied).min();
        while let Some(reply) = self.replies.front() {
            let is_known = applied.is_some_and(|applied| reply.sequence <= applied);
            if !is_known && applied.is_some() && now.us < reply.deadline_us {
                return;
            }
            let Some(PendingReply { waiting, .. }) = self.replies.pop_front() else { return };
            self.effect(Effect::Reply(waiting.respond(is_known)));
        }
    }
}
