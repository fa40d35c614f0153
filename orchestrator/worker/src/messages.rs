//! The control plane's messages as checked values. Converted from the wire here, once; nothing behind the stream sees
//! the wire's types.

use std::{collections::BTreeMap, sync::Arc};

use api::{WireError, wire};
use model::{ClusterId, Epoch, FunctionId, FunctionName, Revision, SandboxId};
use thiserror::Error;

/// A message of the control plane that this worker cannot use.
#[derive(Debug, Error, PartialEq)]
pub(crate) enum MessageError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the welcome names cluster {0:?}: expected 32 hexadecimal digits")]
    Cluster(String),
    #[error("the welcome names port {0} for heartbeats: expected at most 65535")]
    HeartbeatPort(u32),
    #[error("revision {revision} has the function name {name:?}")]
    FunctionName { revision: Revision, name: String, source: model::NameError },
}

/// The control plane that a worker obeys, by its cluster and its term of leadership.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    /// `None` for a control plane that has no cluster id.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) epoch: Epoch,
    /// Distinguishes epochs of the same number in diverged copies of the command log.
    pub(crate) nonce: u64,
}

/// The first message of a control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Welcome {
    pub(crate) leader: Leader,
    /// Port for heartbeats as datagrams, if the control plane takes any.
    pub(crate) heartbeat_port: Option<u16>,
}

/// A batch of commands.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Commands {
    /// Index of the newest command with which a data plane joined or was removed (0 for none); `None` if unchanged.
    pub(crate) known: Option<u64>,
    /// Revisions that this stream has not named yet, or may have dropped.
    pub(crate) revisions: Vec<Arc<SandboxSpec>>,
    pub(crate) create: Vec<CreateCommand>,
    pub(crate) delete: Vec<SandboxId>,
}

/// A command to create one sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CreateCommand {
    pub(crate) sandbox: SandboxId,
    /// Index into the nodes of the hello; not checked against their number yet.
    pub(crate) node: usize,
    pub(crate) revision: Revision,
}

/// The properties of a function's revision that its sandboxes are made from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SandboxSpec {
    pub(crate) function: FunctionId,
    pub(crate) revision: Revision,
    pub(crate) name: FunctionName,
    pub(crate) image: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) environment: BTreeMap<String, String>,
    pub(crate) cpu_millicores: u32,
    pub(crate) memory_mib: u32,
    pub(crate) concurrency: u32,
}

impl TryFrom<Option<wire::Welcome>> for Welcome {
    type Error = MessageError;

    fn try_from(welcome: Option<wire::Welcome>) -> Result<Self, MessageError> {
        let welcome = welcome.ok_or(WireError::NoHello)?;
        if welcome.protocol_version != api::PROTOCOL_VERSION {
            return Err(WireError::Version { theirs: welcome.protocol_version, ours: api::PROTOCOL_VERSION }.into());
        }
        let cluster = match welcome.cluster.as_str() {
            "" => None,
            text => Some(text.parse().map_err(|_| MessageError::Cluster(text.to_owned()))?),
        };
        let heartbeat_port = match welcome.heartbeat_port {
            0 => None,
            port => Some(u16::try_from(port).map_err(|_| MessageError::HeartbeatPort(port))?),
        };
        let leader = Leader { cluster, epoch: Epoch(welcome.epoch), nonce: welcome.epoch_nonce };
        Ok(Self { leader, heartbeat_port })
    }
}

impl From<wire::ToWorker> for Commands {
    fn from(batch: wire::ToWorker) -> Self {
        // A newer control plane may register what this worker cannot read. It costs the creations of that revision, which
        // fail as those of an unknown one; ending the stream would cost those of all functions, again and again.
        let revisions = batch.functions.into_iter().filter_map(|spec| {
            let read = SandboxSpec::try_from(spec).map(Arc::new);
            read.inspect_err(|error| tracing::warn!("{error}: its sandboxes cannot be created here")).ok()
        });
        let create = batch.create.iter().map(|create| CreateCommand {
            sandbox: SandboxId::from_wire(create.sandbox),
            // As out of range as the number itself, so the check against the nodes refuses it.
            node: usize::try_from(create.node).unwrap_or(usize::MAX),
            revision: Revision(create.revision),
        });
        Self {
            known: batch.known,
            revisions: revisions.collect(),
            create: create.collect(),
            delete: batch.delete.into_iter().map(SandboxId::from_wire).collect(),
        }
    }
}

impl TryFrom<wire::RevisionSpec> for SandboxSpec {
    type Error = MessageError;

    fn try_from(spec: wire::RevisionSpec) -> Result<Self, MessageError> {
        let revision = Revision(spec.revision);
        let name = spec.name.parse();
        Ok(Self {
            function: FunctionId(spec.function),
            revision,
            name: name.map_err(|source| MessageError::FunctionName { revision, name: spec.name, source })?,
            image: spec.image,
            arguments: spec.args,
            environment: spec.env,
            cpu_millicores: spec.cpu_millicores,
            memory_mib: spec.memory_mib,
            concurrency: spec.concurrency,
        })
    }
}

#[cfg(test)]
impl SandboxSpec {
    /// A revision that runs `image` with 64 MiB.
    pub(crate) fn example(revision: u64, image: &str) -> Self {
        Self {
            function: FunctionId(1),
            revision: Revision(revision),
            name: "f".parse().expect("a letter is a name"),
            image: image.to_owned(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            cpu_millicores: 0,
            memory_mib: 64,
            concurrency: 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn welcome(change: impl FnOnce(&mut wire::Welcome)) -> Result<Welcome, MessageError> {
        let mut welcome = wire::Welcome {
            protocol_version: api::PROTOCOL_VERSION,
            epoch: 3,
            heartbeat_port: 9090,
            cluster: ClusterId(12).to_string(),
            epoch_nonce: 7,
        };
        change(&mut welcome);
        Welcome::try_from(Some(welcome))
    }

    #[test]
    fn a_welcome_is_checked_and_its_empty_fields_become_none() {
        let leader = Leader { cluster: Some(ClusterId(12)), epoch: Epoch(3), nonce: 7 };
        assert_eq!(welcome(|_| {}), Ok(Welcome { leader, heartbeat_port: Some(9090) }));
        let bare = welcome(|welcome| {
            welcome.cluster.clear();
            welcome.heartbeat_port = 0;
        });
        assert_eq!(bare, Ok(Welcome { leader: Leader { cluster: None, ..leader }, heartbeat_port: None }));
        assert_eq!(welcome(|welcome| welcome.cluster = "x".to_owned()), Err(MessageError::Cluster("x".to_owned())));
        assert_eq!(welcome(|welcome| welcome.heartbeat_port = 65_536), Err(MessageError::HeartbeatPort(65_536)));
        assert!(matches!(welcome(|welcome| welcome.protocol_version += 1), Err(MessageError::Wire(_))));
        assert!(matches!(Welcome::try_from(None), Err(MessageError::Wire(WireError::NoHello))));
    }

    #[test]
    fn a_revision_with_an_invalid_function_name_is_left_out_of_its_batch() {
        let spec = |name: &str| wire::RevisionSpec { revision: 5, name: name.to_owned(), ..Default::default() };
        let functions = vec![spec("Not A Name"), spec("hello")];
        let batch = Commands::from(wire::ToWorker { functions, ..Default::default() });
        let names: Vec<&str> = batch.revisions.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["hello"]);
        let refused = SandboxSpec::try_from(spec("Not A Name")).unwrap_err().to_string();
        assert!(refused.contains("revision 5") && refused.contains("Not A Name"), "{refused}");
    }
}
