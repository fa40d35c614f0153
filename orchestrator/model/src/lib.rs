//! The domain types of the system as plain values: functions, sandboxes, endpoints, nodes and resources.
//!
//! All components use these types. They do no I/O, know no clock, and change together with the system; on-disk formats
//! are in `record` instead.

mod choice;
pub mod duration;
mod endpoint;
mod expectation;
mod function;
mod id;
mod image;
pub mod memory;
mod name;
mod node;
mod object;
mod payload;
mod read;
mod resources;
mod scaling;
mod text;
mod texts;

pub use endpoint::{Endpoint, EndpointState};
pub use function::{
    DEFAULT_CONNECTION_IDLE, FunctionSpec, MAX_CONCURRENCY, Protocol, Queue, Registered, Retry, SpecError,
};
pub use id::{ClusterId, DataPlaneId, Epoch, FunctionId, Revision, SandboxId};
pub use image::{BUILTIN_IMAGE, PROCESS_IMAGES, ProcessImage, is_container_image, may_allow_images};
pub use name::{FunctionName, NameError};
pub use node::{NodeName, NodeSpec};
pub use payload::MAX_PAYLOAD_BYTES;
pub use read::{Layout, LineReader, ReadError};
pub use resources::Resources;
pub use scaling::Scaling;
