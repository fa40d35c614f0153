//! Query parameters of `/v1`. An unknown parameter is refused, like an unknown field of a specification: its sender
//! expects it to have an effect.

use axum::{
    extract::Request,
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{fields::Fields, problem::Problem};

/// Beginning of the paths that are this program's own. Others are called by programs that were written for something else.
const OWN: &str = "/v1/";

/// The parameters of a page.
fn parameters(method: &Method, path: &str) -> &'static [&'static str] {
    match path {
        "/v1/functions" if method == Method::GET => &["limit", "after"],
        "/v1/top" => &["limit"],
        _ => &[],
    }
}

/// Passes on what has no other parameters than its page takes.
pub(super) async fn check(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    if let Some(query) = request.uri().query().filter(|_| path.starts_with(OWN)) {
        let known = parameters(request.method(), path);
        if let Some(other) = Fields::of_query(Some(query)).names().find(|name| !known.contains(name)) {
            let expected = if known.is_empty() { "no parameter".to_owned() } else { known.join(" or ") };
            return Problem::bad_field(other, format!("parameter {other:?}: expected {expected}")).into_response();
        }
    }
    next.run(request).await
}
