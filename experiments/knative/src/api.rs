//! The API server's client: objects of any kind, made or brought up to date.

use std::{fmt::Debug, path::Path, time::Duration};

use anyhow::Context;
use kube::{
    Api, Client, Config,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
    config::AuthInfo,
    core::GroupVersionKind,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::{
    credentials::{Credentials, Identity},
    topology,
};

/// Retry time of a refused write: a webhook that has just been registered may not be reachable yet.
const RETRY_TIMEOUT: Duration = Duration::from_secs(30);
/// Time between two tries.
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// A client with the token of `identity`.
///
/// # Errors
/// If the certificate cannot be read.
pub fn client(credentials: &Credentials, identity: Identity) -> anyhow::Result<Client> {
    let mut config = Config::new(topology::api().parse().context("the API server's address")?);
    config.root_cert_file = Some(Path::new(&credentials.file("ca.crt")).to_owned());
    config.auth_info = AuthInfo { token: Some(Credentials::token(identity).into()), ..AuthInfo::default() };
    config.read_timeout = None;
    Client::try_from(config).context("making a client of the API server")
}

/// The kind of an object, as the API server addresses it.
#[must_use]
pub fn resource(group: &str, version: &str, kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind))
}

/// Removes an object; that it is not there is no error.
///
/// # Errors
/// If the API server refuses.
pub async fn remove<K: Clone + Debug + DeserializeOwned>(api: &Api<K>, name: &str) -> anyhow::Result<()> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        removed => removed.map(drop).with_context(|| format!("removing {name}")),
    }
}

/// Makes an object, or lays its fields over the one that is there.
///
/// # Errors
/// If it is no object, or the API server goes on refusing it.
pub async fn apply(client: &Client, object: &Value) -> anyhow::Result<()> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
    let (kind, version) = (text("/kind").context("an object without a kind")?, text("/apiVersion").unwrap_or("v1"));
    let name = text("/metadata/name").with_context(|| format!("a {kind} without a name"))?;
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = resource(group, version, kind);
    let api: Api<DynamicObject> = match text("/metadata/namespace") {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    };
    let deadline = Instant::now() + RETRY_TIMEOUT;
    loop {
        match apply_once(&api, name, object).await {
            Ok(()) => return Ok(()),
            Err(error) if Instant::now() >= deadline || is_final(&error) => {
                return Err(error).with_context(|| format!("applying {kind} {name}"));
            }
            Err(_) => sleep(RETRY_PAUSE).await,
        }
    }
}

async fn apply_once(api: &Api<DynamicObject>, name: &str, object: &Value) -> Result<(), kube::Error> {
    let made: DynamicObject = serde_json::from_value(object.clone()).map_err(kube::Error::SerdeError)?;
    match api.create(&PostParams::default(), &made).await {
        Err(kube::Error::Api(status)) if status.code == 409 => {
            api.patch(name, &PatchParams::default(), &Patch::Merge(object)).await.map(drop)
        }
        other => other.map(drop),
    }
}

/// Returns true if a retry cannot help: the API server understood the request and refuses it.
fn is_final(error: &kube::Error) -> bool {
    match error {
        kube::Error::Api(status) => matches!(status.code, 400 | 401 | 405 | 422),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::{Arc, Mutex},
    };

    use http::{Request, Response};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// An API server that responds to each request with the next status, and the requests that it got.
    fn server(statuses: &[u16]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (kept, statuses) = (Arc::clone(&requests), statuses.to_vec());
        let server = tower::service_fn(move |request: Request<Body>| {
            let mut kept = kept.lock().unwrap();
            let status = statuses.get(kept.len()).copied().unwrap_or(200);
            kept.push(format!("{} {}", request.method(), request.uri().path()));
            let body = match status {
                200..=299 => json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c" } }),
                _ => json!({ "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": status,
                    "message": "refused by the test", "reason": "" }),
            };
            let response = Response::builder().status(status).body(Body::from(body.to_string().into_bytes()));
            async move { Ok::<_, Infallible>(response.unwrap()) }
        });
        (Client::new(server, "default"), requests)
    }

    fn map() -> Value {
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "c", "namespace": "n" } })
    }

    const MAPS: &str = "/api/v1/namespaces/n/configmaps";

    #[tokio::test]
    async fn an_object_is_created_or_laid_over_the_one_that_is_there() {
        let (client, requests) = server(&[201]);
        apply(&client, &map()).await.unwrap();
        assert_eq!(*requests.lock().unwrap(), [format!("POST {MAPS}")]);
        let (client, requests) = server(&[409, 200]);
        apply(&client, &map()).await.unwrap();
        assert_eq!(*requests.lock().unwrap(), [format!("POST {MAPS}"), format!("PATCH {MAPS}/c")]);
    }

    #[tokio::test]
    async fn an_object_of_a_group_and_without_a_namespace_has_its_own_path() {
        let (client, requests) = server(&[201]);
        let role =
            json!({ "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "r" } });
        apply(&client, &role).await.unwrap();
        assert_eq!(*requests.lock().unwrap(), ["POST /apis/rbac.authorization.k8s.io/v1/clusterroles"]);
    }

    #[tokio::test]
    async fn an_object_without_kind_or_name_is_refused_without_a_request() {
        let (client, requests) = server(&[]);
        for (object, expected) in [
            (json!({ "metadata": { "name": "c" } }), "an object without a kind"),
            (json!({ "kind": "ConfigMap", "metadata": {} }), "a ConfigMap without a name"),
        ] {
            assert_eq!(apply(&client, &object).await.unwrap_err().to_string(), expected);
        }
        assert!(requests.lock().unwrap().is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_that_is_not_reachable_yet_is_tried_again() {
        let (client, requests) = server(&[500, 500, 201]);
        apply(&client, &map()).await.unwrap();
        assert_eq!(requests.lock().unwrap().len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_goes_on_refusing_is_given_up_in_the_end() {
        let (client, requests) = server(&[503; 1_000]);
        let began = Instant::now();
        let error = apply(&client, &map()).await.unwrap_err().to_string();
        assert_eq!(error, "applying ConfigMap c");
        assert!(began.elapsed() >= RETRY_TIMEOUT && began.elapsed() < 2 * RETRY_TIMEOUT);
        assert!(requests.lock().unwrap().len() > 100, "it was tried all the time");
    }

    #[tokio::test]
    async fn an_object_that_the_server_finds_wrong_is_not_tried_again() {
        for status in [400, 401, 405, 422] {
            let (client, requests) = server(&[status]);
            let error = format!("{:#}", apply(&client, &map()).await.unwrap_err());
            assert!(error.starts_with("applying ConfigMap c: ") && error.contains("refused by the test"), "{error}");
            assert_eq!(requests.lock().unwrap().len(), 1);
        }
    }

    #[tokio::test]
    async fn removing_what_is_not_there_succeeds_and_another_refusal_is_an_error() {
        let resource = resource("", "v1", "ConfigMap");
        let remove_with = |status| {
            let resource = &resource;
            async move {
                let (client, requests) = server(&[status]);
                let api: Api<DynamicObject> = Api::namespaced_with(client, "n", resource);
                let removed = remove(&api, "c").await.map_err(|error| error.to_string());
                assert_eq!(*requests.lock().unwrap(), [format!("DELETE {MAPS}/c")]);
                removed
            }
        };
        assert_eq!((remove_with(200).await, remove_with(404).await), (Ok(()), Ok(())));
        assert_eq!(remove_with(403).await, Err("removing c".to_owned()));
    }
}
