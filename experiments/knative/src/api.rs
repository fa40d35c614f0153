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
/// When the certificate cannot be read.
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
/// When the API server refuses.
pub async fn remove<K: Clone + Debug + DeserializeOwned>(api: &Api<K>, name: &str) -> anyhow::Result<()> {
    match api.delete(name, &DeleteParams::default()).await {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        removed => removed.map(drop).with_context(|| format!("removing {name}")),
    }
}

/// Makes an object, or lays its fields over the one that is there.
///
/// # Errors
/// When it is no object, or the API server goes on refusing it.
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
