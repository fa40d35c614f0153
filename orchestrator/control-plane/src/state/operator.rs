//! What operators ask for, and what they are answered.

use model::{FunctionName, FunctionSpec, PROCESS_IMAGES, ProcessImage};

use super::{
    ClusterView, Effect, FunctionView, NodeView, Now, Origin, State, Token, TopView, function::PutEffect,
    node::NodeState,
};
use crate::store::Command;

/// A registration is answered after this time even if some data plane has not acknowledged it, in microseconds. The answer
/// says so: the operator needs to know soon that it is durable, and a data plane may hang for long.
const REPLY_WITHIN_US: u64 = 1_000_000;
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
    fn put(outcome: PutOutcome) -> Self {
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
                if self.functions.id_of(name.as_str()).is_some() {
                    return self.append(Command::DeleteFunction { name }, token);
                }
                Answer::NotFound
            }
            Request::List { after, limit } => Answer::Functions(self.list_functions(after.as_deref(), limit)),
            Request::Show { name } => self
                .functions
                .find(&name)
                .map_or(Answer::NotFound, |function| Answer::Function(Box::new(self.view_function(function)))),
            Request::Known { name } => {
                if self.functions.find(&name).is_some() {
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
        let known = self.functions.find(spec.name.as_str()).map(|function| &function.registered.spec);
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

    /// Commands are durable: they are applied, and whoever waits for one is answered or let in.
    pub(super) fn committed(&mut self, now: Now, first: u64, commands: Vec<(Command, Origin)>) {
        for ((command, origin), index) in commands.into_iter().zip(first..) {
            let answer = self.apply(now, index, command);
            match origin {
                Origin::State => {}
                Origin::Operator(token) => self.reply_when_known(now, token, answer),
                Origin::Peer(session) => self.command_applied(now, session),
            }
        }
        self.release_replies(now);
    }

    /// Answers once every connected data plane knows of all changes so far, or has had the time to.
    fn reply_when_known(&mut self, now: Now, token: Token, answer: Answer) {
        let sequence = self.function_sequence;
        self.replies.push_back(PendingReply { token, answer, sequence, deadline_us: now.us + REPLY_WITHIN_US });
        self.release_replies(now);
    }

    /// Carries out a durable command. The same commands in the same order give the same functions and nodes.
    pub(super) fn apply(&mut self, now: Now, index: u64, command: Command) -> Answer {
        let found = |found| if found { Answer::Done } else { Answer::NotFound };
        match command {
            Command::BeginCluster { .. } => Answer::Done,
            Command::BeginEpoch { epoch, nonce } => {
                self.history.begin(index, epoch, nonce);
                Answer::Done
            }
            Command::PutFunction { spec } => Answer::put(match self.put_function(now, index, *spec) {
                PutEffect::Created => PutOutcome::Created,
                PutEffect::Updated => PutOutcome::Updated,
                PutEffect::Unchanged => PutOutcome::Unchanged,
            }),
            Command::KeepFunction { registered } => {
                self.add_function(now, index, *registered);
                Answer::Done
            }
            Command::DeleteFunction { name } => found(self.delete_function(now, index, &name)),
            Command::PutNode { node } => {
                self.nodes.put(&node);
                Answer::Done
            }
            Command::DrainNode { name, drained } => found(self.drain_node(now, &name.0, drained)),
            Command::RemoveNode { name } => found(self.remove_node(now, &name.0)),
            Command::PutDataPlane { id } => {
                self.put_data_plane(now, index, &id);
                Answer::Done
            }
            Command::RemoveDataPlane { id } => {
                if let Some(key) = self.data_planes.find(&id) {
                    self.remove_data_plane(now, key);
                }
                Answer::Done
            }
        }
    }

    fn drain_node(&mut self, now: Now, name: &str, drained: bool) -> bool {
        let Some(key) = self.nodes.find(name) else { return false };
        self.nodes.get_mut(key).drained = drained;
        self.nodes.refresh_open(key);
        if drained {
            for id in self.sandboxes_on(key) {
                let function = self.sandboxes.get(&id).map(|sandbox| sandbox.function);
                self.drain_sandbox(now, id);
                if let Some(function) = function {
                    self.touch(function, now.us);
                }
            }
        } else {
            self.touch_room();
        }
        true
    }

    fn remove_node(&mut self, now: Now, name: &str) -> bool {
        let Some(key) = self.nodes.find(name) else { return false };
        if let Some(session) = self.nodes.get(key).session {
            // It came back after it was asked for: it is removed like the log says, and may announce itself anew.
            self.effect(Effect::Close { session, reason: format!("its node {name:?} was removed") });
            self.worker_left(now, session);
        }
        self.nodes.get_mut(key).state = NodeState::Dead;
        for id in self.sandboxes_on(key) {
            let function = self.sandboxes.get(&id).map(|sandbox| sandbox.function);
            self.forget_sandbox(id, "failed");
            if let Some(function) = function {
                self.touch(function, now.us);
            }
        }
        // Others of its worker may be full no longer.
        self.touch_room();
        self.recovery.nodes_reported(&[key]);
        for (_, function) in self.functions.iter_mut() {
            function.trouble.avoid.retain(|(avoided, _)| *avoided != key);
        }
        self.nodes.remove(key);
        self.settle_unclaimed(now);
        true
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
