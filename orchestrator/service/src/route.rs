//! Routes of an HTTP API as data: the router is built from the same list that a test compares with the documentation.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodRouter, delete, get, post, put},
};

/// One method of one path, with its handler. `S` is the state of the handlers.
pub struct Route<S> {
    method: &'static str,
    path: &'static str,
    handler: MethodRouter<S>,
}

impl<S: Clone + Send + Sync + 'static> Route<S> {
    /// A `GET`, which serves `HEAD` as well.
    pub fn get<T: 'static>(path: &'static str, handler: impl Handler<T, S>) -> Self {
        Self { method: "GET", path, handler: get(handler) }
    }

    /// A `POST`.
    pub fn post<T: 'static>(path: &'static str, handler: impl Handler<T, S>) -> Self {
        Self { method: "POST", path, handler: post(handler) }
    }

    /// A `PUT`.
    pub fn put<T: 'static>(path: &'static str, handler: impl Handler<T, S>) -> Self {
        Self { method: "PUT", path, handler: put(handler) }
    }

    /// A `DELETE`.
    pub fn delete<T: 'static>(path: &'static str, handler: impl Handler<T, S>) -> Self {
        Self { method: "DELETE", path, handler: delete(handler) }
    }

    /// A router of these routes.
    pub fn router(routes: Vec<Self>) -> Router<S> {
        routes.into_iter().fold(Router::new(), |router, route| router.route(route.path, route.handler))
    }

    /// The methods and paths of these routes.
    #[must_use]
    pub fn names(routes: &[Self]) -> Vec<(&'static str, &'static str)> {
        routes.iter().map(|route| (route.method, route.path)).collect()
    }
}

#[cfg(test)]
mod tests {
    use axum::{
        body::Body,
        http::{Request, StatusCode, header::ALLOW},
    };
    use tower::Service;

    use super::*;

    #[tokio::test]
    async fn a_router_serves_its_routes_and_nothing_else() {
        let routes = vec![Route::get("/a/{name}", async || "got"), Route::delete("/a/{name}", async || "deleted")];
        assert_eq!(Route::names(&routes), [("GET", "/a/{name}"), ("DELETE", "/a/{name}")]);
        let mut router = Route::router(routes).with_state(());
        for (method, path, status) in [
            ("GET", "/a/x", StatusCode::OK),
            ("HEAD", "/a/x", StatusCode::OK),
            ("DELETE", "/a/x", StatusCode::OK),
            ("PUT", "/a/x", StatusCode::METHOD_NOT_ALLOWED),
            ("GET", "/b", StatusCode::NOT_FOUND),
        ] {
            let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
            let response = Service::call(&mut router, request).await.unwrap();
            assert_eq!(response.status(), status, "{method} {path}");
            if status == StatusCode::METHOD_NOT_ALLOWED {
                let allowed = response.headers().get(ALLOW).map(|value| value.to_str().unwrap());
                assert_eq!(allowed, Some("GET,HEAD,DELETE"));
            }
        }
    }
}
