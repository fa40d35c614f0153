//! What operators ask for, and what they are answered.

use model::{FunctionName, FunctionSpec, PROCESS_IMAGES, ProcessImage};

use super::{ClusterView, Effect, FunctionView, NodeView, Now, Origin, State, Token, TopView};
use crate::store::Command;

/// A registration is answered after this time even if some data plane has not acknowledged it, in microseconds. The answer
/// says so: the operator needs to know soon that it is durable, and a data plane may hang for long.
const REPLY_TIMEOUT_US: u64 = 1_000_000;
/// What workers call the runtime whose sandboxes are processes.
const PROCESS_RUNTIME: &str = "process";

/// Something an operator wants.
#[derive(Debug)]
pub(crate) enum Request {
    /// Register or update a function. With `only_over`, one that is registered differently is left alone, but with one of
    /// these specifications.
    Put { spec: Box<FunctionSpec>, only_over: Option<Vec<FunctionSpec>> },
    /// Deregister a function.
    Delete { name: FunctionName },
    /// At most `limit` functions after `after` in the order of their names.
    List { after: Option<String>, limit: usize },
    /// One function.
    Show { name: String },
    /// Whether there is a function and data planes know it, answered once they do.
    Known { name: String },
    /// All nodes.
    Nodes,
    /// Stop placing sandboxes on a node and drain it, or take it back into service.
    DrainNode { name: String, drained: bool },
    /// Forget a node that no worker serves.
    RemoveNode { name: String },
    /// Whether the state has been rebuilt after the last start; asked often, so nothing is counted for it.
    Recovered,
    /// The cluster in numbers.
    Status,
    /// What the cluster is busy with, and at most `limit` functions.
    Top { limit: usize },
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

/// An answer to an operator.
#[derive(Debug)]
pub(crate) enum Answer {
    Put(Registration),
    /// There is such a function, and every connected data plane has acknowledged it, or not.
    Known(bool),
    /// The thing named exists and the change was made.
    Done,
    /// Nothing has that name.
    NotFound,
    /// The change is not allowed now, for this reason; of a registration, what is wrong with its image.
    Refused(String),
    Functions(Vec<FunctionView>),
    Function(Box<FunctionView>),
    Nodes(Vec<NodeView>),
    Recovered(bool),
    Cluster(Box<ClusterView>),
    Top(Box<TopView>),
}

impl Answer {
    pub(super) fn put(outcome: PutOutcome) -> Self {
        Self::Put(Registration { outcome, is_known: false })
    }

    /// The same answer where that is known of data planes.
    fn known(self, is_known: bool) -> Self {
        match self {
            Self::Put(registration) => Self::Put(Registration { is_known, ..registration }),
            Self::Known(_) => Self::Known(is_known),
            other => other,
        }
    }
}

/// An answer that waits until data planes know of the change.
#[derive(Debug)]
pub(super) struct PendingReply {
    token: Token,
    answer: Answer,
    sequence: u64,
    pub(super) deadline_us: u64,
}

impl State {
    pub(super) fn request(&mut self, now: Now, token: Token, request: Request) {
        let answer = match request {
            Request::Put { spec, only_over } => return self.request_put(now, token, spec, only_over.as_deref()),
            Request::Delete { name } => {
                if self.registry.function(name.as_str()).is_some() {
                    return self.append(Command::DeleteFunction { name }, token);
                }
                Answer::NotFound
            }
            Request::List { after, limit } => Answer::Functions(self.list_functions(after.as_deref(), limit)),
            Request::Show { name } => self
                .function_named(&name)
                .map_or(Answer::NotFound, |function| Answer::Function(Box::new(self.view_function(function)))),
            Request::Known { name } => {
                if self.registry.function(&name).is_some() {
                    return self.reply_when_known(now, token, Answer::Known(false));
                }
                Answer::NotFound
            }
            Request::Nodes => Answer::Nodes(self.view_nodes()),
            Request::DrainNode { name, drained } => match self.nodes.find(&name) {
                Some(key) => {
                    let name = self.nodes.get(key).name.clone();
                    return self.append(Command::DrainNode { name, drained }, token);
                }
                None => Answer::NotFound,
            },
            Request::RemoveNode { name } => match self.nodes.find(&name) {
                Some(key) if self.nodes.get(key).session.is_some() => {
                    Answer::Refused("its worker is connected: stop the worker first".to_owned())
                }
                Some(key) => {
                    let name = self.nodes.get(key).name.clone();
                    return self.append(Command::RemoveNode { name }, token);
                }
                None => Answer::NotFound,
            },
            Request::Recovered => Answer::Recovered(self.is_recovered()),
            Request::Status => Answer::Cluster(Box::new(self.view_cluster(now))),
            Request::Top { limit } => Answer::Top(Box::new(self.view_top(now, limit))),
        };
        self.effect(Effect::Reply { token, answer });
    }

    fn request_put(&mut self, now: Now, token: Token, spec: Box<FunctionSpec>, only_over: Option<&[FunctionSpec]>) {
        let known = self.registry.function(spec.name.as_str()).map(|registered| &registered.spec);
        let answer = match known {
            // Whoever asks wants to invoke it: that it was durable before does not mean that it is known everywhere.
            Some(known) if *known == *spec => {
                return self.reply_when_known(now, token, Answer::put(PutOutcome::Unchanged));
            }
            Some(known) if only_over.is_some_and(|over| !over.contains(known)) => Answer::put(PutOutcome::Conflict),
            _ if !self.may_run(&spec.image) => {
                Answer::Refused(format!("image: expected {PROCESS_IMAGES}, got text {:?}", spec.image))
            }
            _ => return self.append(Command::PutFunction { spec }, token),
        };
        self.effect(Effect::Reply { token, answer });
    }

    /// Returns false if there are workers and all of them run processes, which this image can never be. A worker that
    /// comes later may run anything.
    fn may_run(&self, image: &str) -> bool {
        let mut workers = self.workers.iter();
        ProcessImage::read(image).is_some()
            || self.workers.len() == 0
            || workers.any(|(_, worker)| &*worker.runtime != PROCESS_RUNTIME)
    }

    fn append(&mut self, command: Command, token: Token) {
        self.effect(Effect::Append { command, origin: Origin::Operator(token) });
    }

    /// Answers once every connected data plane knows of all changes so far, or has had the time to.
    pub(super) fn reply_when_known(&mut self, now: Now, token: Token, answer: Answer) {
        let sequence = self.registry.function_index();
        self.replies.push_back(PendingReply { token, answer, sequence, deadline_us: now.us + REPLY_TIMEOUT_US });
        self.release_replies(now);
    }

    /// Answers those whose change every connected data plane knows of, or who have waited long enough. Where none is
    /// connected nobody is waited for, and nobody knows.
    pub(super) fn release_replies(&mut self, now: Now) {
        let applied = self.data_planes.connected().map(|(_, _, known)| known.applied).min();
        while let Some(reply) = self.replies.front() {
            let is_known = applied.is_some_and(|applied| reply.sequence <= applied);
            if !is_known && applied.is_some() && now.us < reply.deadline_us {
                return;
            }
            let Some(PendingReply { token, answer, .. }) = self.replies.pop_front() else { return };
            self.effect(Effect::Reply { token, answer: answer.known(is_known) });
        }
    }
}
