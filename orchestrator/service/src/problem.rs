//! Error responses as `application/problem+json` (RFC 9457), including those of the HTTP library.

use axum::{
    body::to_bytes,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde_json::{Map, Value};

const PROBLEM_TYPE: &str = "application/problem+json";
/// Maximum length of an error text of the HTTP library that becomes a problem's detail.
const MAX_DETAIL_BYTES: usize = 4096;
/// Problem type without a meaning beyond that of the status (RFC 9457, 4.2.1).
const NO_KIND: &str = "about:blank";
/// Problem type of an invalid field of the request, which the problem's member `field` names.
const INVALID_FIELD: &str = "urn:dirigent:problem:invalid-field";

/// Builds the response for a problem with the request as a whole.
#[must_use]
pub fn problem(status: StatusCode, detail: &str) -> Response {
    respond(status, NO_KIND, detail, None)
}

/// Builds the response 400 for a problem with one field of the request.
#[must_use]
pub fn invalid_field(field: &str, detail: &str) -> Response {
    respond(StatusCode::BAD_REQUEST, INVALID_FIELD, detail, Some(field))
}

fn respond(status: StatusCode, kind: &str, detail: &str, field: Option<&str>) -> Response {
    let mut body = Map::new();
    body.insert("type".to_owned(), kind.into());
    body.insert("status".to_owned(), status.as_u16().into());
    body.insert("title".to_owned(), status.canonical_reason().into());
    body.insert("detail".to_owned(), detail.into());
    if let Some(field) = field {
        body.insert("field".to_owned(), field.into());
    }
    (status, [(header::CONTENT_TYPE, PROBLEM_TYPE)], Value::Object(body).to_string()).into_response()
}

/// Middleware that converts error responses of the HTTP library, which are not problems yet, into problems with the
/// same status and header fields.
pub(crate) async fn convert_errors(request: Request, next: Next) -> Response {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let response = next.run(request).await;
    let is_error = response.status().is_client_error() || response.status().is_server_error();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == PROBLEM_TYPE);
    if !is_error || is_problem {
        return response;
    }
    let (head, body) = response.into_parts();
    let text = to_bytes(body, MAX_DETAIL_BYTES).await.unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let detail = match text.trim() {
        "" if head.status == StatusCode::METHOD_NOT_ALLOWED => {
            format!("{method} is no method of {path}: the header field Allow of this response lists those it has")
        }
        "" => format!("{method} {path}: {}", head.status),
        text => text.to_owned(),
    };
    let mut converted = problem(head.status, &detail);
    for (name, value) in &head.headers {
        if ![header::CONTENT_TYPE, header::CONTENT_LENGTH].contains(name) {
            converted.headers_mut().append(name, HeaderValue::clone(value));
        }
    }
    converted
}

#[cfg(test)]
mod tests {
    use axum::{
        Router,
        body::{Body, Bytes},
        extract::{DefaultBodyLimit, Path},
        middleware::from_fn,
        routing::get,
    };
    use tower::ServiceExt;

    use super::*;

    async fn respond_to(method: &str, path: &str, body: &'static str) -> (StatusCode, Response) {
        let page = |Path(_): Path<String>, _: Bytes| async { invalid_field("x", "x: expected y") };
        let router = Router::new().route("/v1/{name}", get(page).put(page)).layer(DefaultBodyLimit::max(4));
        let request = Request::builder().method(method).uri(path).body(Body::from(body)).unwrap();
        let response = router.layer(from_fn(convert_errors)).oneshot(request).await.unwrap();
        (response.status(), response)
    }

    #[tokio::test]
    async fn every_error_is_a_problem_with_a_type_and_a_detail() {
        for (method, path, body, status, kind, detail) in [
            ("GET", "/v1/a", "", 400, INVALID_FIELD, "x: expected y"),
            ("GET", "/v1/%ff", "", 400, NO_KIND, "UTF-8"),
            ("POST", "/v1/a", "", 405, NO_KIND, "POST is no method of /v1/a"),
            ("PUT", "/v1/a", "large", 413, NO_KIND, "length limit"),
            ("GET", "/v2", "", 404, NO_KIND, "GET /v2: 404 Not Found"),
        ] {
            let (found, response) = respond_to(method, path, body).await;
            assert_eq!(found.as_u16(), status, "{method} {path}");
            assert_eq!(response.headers()[header::CONTENT_TYPE], PROBLEM_TYPE, "{method} {path}");
            assert_eq!(response.headers().contains_key(header::ALLOW), status == 405, "{method} {path}");
            let problem: Value = serde_json::from_slice(&to_bytes(response.into_body(), 4096).await.unwrap()).unwrap();
            assert_eq!((&problem["type"], &problem["status"]), (&kind.into(), &status.into()), "{problem}");
            assert!(problem["detail"].as_str().unwrap().contains(detail), "expected {detail:?} in {problem}");
        }
    }
}
