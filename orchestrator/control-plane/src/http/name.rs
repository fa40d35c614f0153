//! The name in an address.

use axum::{
    extract::{FromRequestParts, Path},
    http::request::Parts,
};

use super::problem::Problem;

/// The name of a function or of a node, as an address has it. One that is no text is refused as a field that is wrong.
pub(super) struct Name(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for Name {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let name = Path::from_request_parts(parts, state).await;
        let Path(name) = name.map_err(|_| Problem::bad_field("name", "name: expected UTF-8, in the address"))?;
        Ok(Self(name))
    }
}
