//! Sending invocations: requests, responses, and the two protocols.

pub(crate) mod connection;
pub(crate) mod dial;
pub(crate) mod h2c;
pub(crate) mod http1;
pub(crate) mod port;
pub(crate) mod reader;
pub(crate) mod request;
pub(crate) mod response;
pub(crate) mod result;
pub(crate) mod target;
pub(crate) mod timestamped;
