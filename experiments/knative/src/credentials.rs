//! Credentials: the API server's certificate, the key that signs service accounts' tokens, and a token for each
//! component.

use std::{
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::json;

use crate::topology::{self, CONTROL_PLANE, FIRST_SERVICE};

/// A part of the testbed as the API server knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Identity {
    /// The testbed itself: everything is allowed.
    Admin,
    /// The controller manager.
    ControllerManager,
    /// The scheduler.
    Scheduler,
    /// The hollow nodes.
    Nodes,
    /// Knative's controller, autoscaler and webhook: the service account that the release gives them.
    Controller,
    /// Knative's activator: its own service account.
    Activator,
}

impl Identity {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::ControllerManager, Self::Scheduler, Self::Nodes, Self::Controller, Self::Activator];

    /// Name of its files.
    fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::ControllerManager => "controller-manager",
            Self::Scheduler => "scheduler",
            Self::Nodes => "nodes",
            Self::Controller => "controller",
            Self::Activator => "activator",
        }
    }

    /// User name and groups, as the real one has them: only members of `system:masters` are exempt from the API
    /// server's priorities and fairness, so no part under test is one.
    fn user(self) -> (&'static str, &'static str) {
        const ACCOUNTS: &str = "system:serviceaccounts,system:serviceaccounts:knative-serving";
        match self {
            Self::Admin => ("admin", "system:masters"),
            Self::ControllerManager => ("system:kube-controller-manager", ""),
            Self::Scheduler => ("system:kube-scheduler", ""),
            Self::Nodes => ("hollow-nodes", "system:masters"),
            Self::Controller => ("system:serviceaccount:knative-serving:controller", ACCOUNTS),
            Self::Activator => ("system:serviceaccount:knative-serving:activator", ACCOUNTS),
        }
    }
}

/// The files of all credentials, below one folder. They serve one testbed that nothing outside reaches, so tokens are
/// names.
#[derive(Clone, Debug)]
pub struct Credentials {
    folder: PathBuf,
}

impl Credentials {
    /// Credentials in `folder`, which [`make`](Self::make) made.
    #[must_use]
    pub fn in_folder(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Makes all of them in `folder`.
    ///
    /// # Errors
    /// If a key cannot be made or a file not be written.
    pub fn make(folder: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
        let made = Self::in_folder(folder);
        let authority = authority().context("making the certificate authority")?;
        let key = KeyPair::generate().context("making the API server's key")?;
        let certificate = server().and_then(|server| Ok(server.signed_by(&key, &authority)?));
        let accounts = KeyPair::generate().context("making the key of service accounts")?;
        made.write("ca.crt", &authority.pem())?;
        made.write("apiserver.crt", &certificate.context("making the API server's certificate")?.pem())?;
        made.write("apiserver.key", &key.serialize_pem())?;
        made.write("service-accounts.key", &accounts.serialize_pem())?;
        made.write("service-accounts.pub", &accounts.public_key_pem())?;
        made.write("tokens.csv", &tokens())?;
        for identity in Identity::ALL {
            let text = serde_json::to_string_pretty(&kubeconfig(identity))?;
            made.write(&format!("{}.kubeconfig", identity.name()), &text)?;
        }
        Ok(made)
    }

    /// Path of one of the files that all share.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// Path of the kubeconfig of a part.
    #[must_use]
    pub fn kubeconfig(&self, identity: Identity) -> String {
        self.file(&format!("{}.kubeconfig", identity.name()))
    }

    /// Token of a part.
    #[must_use]
    pub fn token(identity: Identity) -> String {
        format!("{}-token", identity.name())
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        let path = self.folder.join(name);
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))
    }
}

/// A kubeconfig; JSON is YAML. The certificate lies beside it, so that the folder may be copied.
fn kubeconfig(identity: Identity) -> serde_json::Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "testbed", "cluster": {
            "server": topology::api(), "certificate-authority": "ca.crt" } }],
        "users": [{ "name": identity.name(), "user": { "token": Credentials::token(identity) } }],
        "contexts": [{ "name": "testbed", "context": { "cluster": "testbed", "user": identity.name() } }],
        "current-context": "testbed",
    })
}

fn authority() -> anyhow::Result<CertifiedIssuer<'static, KeyPair>> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    parameters.distinguished_name.push(DnType::CommonName, "testbed");
    Ok(CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?)
}

fn server() -> anyhow::Result<CertificateParams> {
    let names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
        "localhost",
    ];
    let mut parameters = CertificateParams::new(names.map(str::to_owned))?;
    let addresses = [IpAddr::from([127, 0, 0, 1]), CONTROL_PLANE.into(), FIRST_SERVICE.into()];
    parameters.subject_alt_names.extend(addresses.map(SanType::IpAddress));
    parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    parameters.distinguished_name.push(DnType::CommonName, "kube-apiserver");
    Ok(parameters)
}

/// The API server's token file: token, user, user id, groups.
fn tokens() -> String {
    let line = |identity: Identity| {
        let (user, groups) = identity.user();
        let groups = if groups.is_empty() { String::new() } else { format!(",\"{groups}\"") };
        format!("{},{user},{}{groups}\n", Credentials::token(identity), identity.name())
    };
    Identity::ALL.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_has_a_token_and_no_part_under_test_is_exempt_from_fairness() {
        let text = tokens();
        assert!(text.starts_with("admin-token,admin,admin,\"system:masters\"\n"), "{text}");
        assert!(text.contains("scheduler-token,system:kube-scheduler,scheduler\n"), "{text}");
        let exempt: Vec<&str> = text.lines().filter(|line| line.contains("system:masters")).collect();
        assert_eq!(exempt.len(), 2, "only the testbed itself and its stand-in for kubelets: {exempt:?}");
    }

    #[test]
    fn all_files_are_made() {
        let folder = tempfile::tempdir().unwrap();
        let made = Credentials::make(folder.path()).unwrap();
        for name in ["ca.crt", "apiserver.crt", "apiserver.key", "service-accounts.key", "service-accounts.pub"] {
            assert!(fs::read_to_string(made.file(name)).unwrap().starts_with("-----BEGIN "), "{name}");
        }
        let config: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(made.kubeconfig(Identity::Activator)).unwrap()).unwrap();
        assert_eq!(config["users"][0]["user"]["token"], "activator-token");
        assert_eq!(config["clusters"][0]["cluster"]["server"], topology::api());
        assert_eq!(fs::read_to_string(made.file("tokens.csv")).unwrap().lines().count(), Identity::ALL.len());
    }

    #[test]
    fn credentials_made_again_are_others() {
        let folder = tempfile::tempdir().unwrap();
        let mut keys = Vec::new();
        for _ in 0..2 {
            let made = Credentials::make(folder.path()).unwrap();
            keys.push(fs::read_to_string(made.file("service-accounts.key")).unwrap());
        }
        assert_ne!(keys[0], keys[1]);
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        let error = Credentials::make(&file.join("credentials")).unwrap_err().to_string();
        assert_eq!(error, format!("creating {}", file.join("credentials").display()));
    }
}
