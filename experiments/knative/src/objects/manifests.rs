//! Knative's own manifests, as the release has them, with the few settings that the published experiment changes.

use std::{fs, path::Path};

use anyhow::Context;
use record::Setting;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Windows of the autoscaler, in Knative's notation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Windows {
    /// `stable-window`.
    pub stable: String,
    /// `scale-to-zero-grace-period`.
    pub grace: String,
    /// `scale-to-zero-pod-retention-period`.
    pub retention: String,
}

/// Every setting in a ConfigMap that differs from the release.
#[must_use]
pub fn settings(windows: Option<&Windows>) -> Vec<Setting> {
    let setting = Setting::new;
    let published = "the published experiment sets it";
    let needed = "needed where no image is pulled and no ingress is installed";
    let mut settings = vec![
        setting("config-deployment", "queue-sidecar-image", "dev.local/queue:latest", needed),
        setting("config-network", "ingress-class", super::services::INGRESS_CLASS, needed),
        setting("config-autoscaler", "allow-zero-initial-scale", "true", published),
        setting("config-autoscaler", "initial-scale", "0", published),
        setting("config-features", "kubernetes.podspec-nodeselector", "enabled", published),
        setting(
            "config-defaults",
            "max-revision-timeout-seconds",
            "3600",
            "the longest invocations of the trace take minutes",
        ),
    ];
    if let Some(windows) = windows {
        let why = "the published sweep sets it";
        settings.extend([
            setting("config-autoscaler", "stable-window", &windows.stable, why),
            setting("config-autoscaler", "scale-to-zero-grace-period", &windows.grace, why),
            setting("config-autoscaler", "scale-to-zero-pod-retention-period", &windows.retention, why),
        ]);
    }
    settings
}

/// Names of manifests' files, in the order in which they are applied; the webhooks' configurations come when the
/// webhook runs.
const BEFORE_WEBHOOK: [&str; 7] =
    ["core-", "200-roles-", "config-image.yaml", "config-", "300-resources-", "configmaps-", "webhooks-secret.yaml"];
/// The webhooks' configurations.
const WEBHOOKS: [&str; 3] =
    ["webhooks-configmap-validation.yaml", "webhooks-defaulting.yaml", "webhooks-resource-validation.yaml"];

/// The objects of Knative that stand before its processes start: namespace, accounts, roles, kinds, secrets, settings.
///
/// # Errors
/// If a manifest cannot be read.
pub fn before_webhook(folder: &Path, settings: &[Setting]) -> anyhow::Result<Vec<Value>> {
    let mut objects: Vec<Value> = Vec::new();
    for prefix in BEFORE_WEBHOOK {
        for object in read(folder, prefix)? {
            if !objects.contains(&object) {
                objects.push(object);
            }
        }
    }
    for setting in settings {
        let map = objects
            .iter_mut()
            .find(|object| object["kind"] == "ConfigMap" && object["metadata"]["name"].as_str() == Some(&setting.part));
        let map = map.with_context(|| format!("no manifest has the ConfigMap {}", setting.part))?;
        map["data"][&setting.key] = json!(setting.value);
    }
    Ok(objects)
}

/// The webhooks' configurations.
///
/// # Errors
/// If a manifest cannot be read.
pub fn webhooks(folder: &Path) -> anyhow::Result<Vec<Value>> {
    let mut objects = Vec::new();
    for name in WEBHOOKS {
        objects.extend(read(folder, name)?);
    }
    Ok(objects)
}

/// The objects of all files whose name begins with `prefix`, in the order of their names.
fn read(folder: &Path, prefix: &str) -> anyhow::Result<Vec<Value>> {
    let entries = fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.sort();
    let mut objects = Vec::new();
    for path in paths {
        if !path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix)) {
            continue;
        }
        let text = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        objects.extend(parse(&text).with_context(|| format!("reading {}", path.display()))?);
    }
    Ok(objects)
}

/// The objects of a YAML text, without the example of a ConfigMap: it documents, and a checksum guards it.
fn parse(text: &str) -> anyhow::Result<Vec<Value>> {
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(text)?;
    objects.retain(|object| object.is_object());
    Ok(objects)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let map = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{ name: {name} }}\n");
        let with_data = map("config-deployment") + "data:\n  _example: |\n    # text\n    a: \"b\"\n";
        for (name, text) in [
            (
                "core-100-namespace.yaml",
                "kind: Namespace\nmetadata: { name: knative-serving }\n---\n# nothing\n---\nkind: X\n",
            ),
            ("configmaps-a.yaml", &with_data),
            ("configmaps-b.yaml", &map("config-autoscaler")),
            ("configmaps-c.yaml", &map("config-features")),
            ("configmaps-d.yaml", &map("config-defaults")),
            ("config-config-network.yaml", &map("config-network")),
            ("webhooks-secret.yaml", "kind: Secret\n"),
        ] {
            fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn settings_are_laid_over_the_release_and_nothing_else_is() {
        let windows = Windows { stable: "6s".to_owned(), grace: "1s".to_owned(), retention: "1s".to_owned() };
        let objects = before_webhook(folder().path(), &settings(Some(&windows))).unwrap();
        let map = |name: &str| &objects.iter().find(|object| object["metadata"]["name"] == name).unwrap()["data"];
        assert_eq!(map("config-deployment")["_example"], "# text\na: \"b\"\n");
        assert_eq!(map("config-network")["ingress-class"], "testbed.ingress.networking.knative.dev");
        let autoscaler = json!({ "allow-zero-initial-scale": "true", "initial-scale": "0", "stable-window": "6s",
            "scale-to-zero-grace-period": "1s", "scale-to-zero-pod-retention-period": "1s" });
        assert_eq!(*map("config-autoscaler"), autoscaler);
        assert_eq!(objects[0]["kind"], "Namespace", "the namespace comes first");
        assert_eq!(objects.iter().filter(|object| object["kind"] == "X").count(), 1, "an empty document is none");
    }

    #[test]
    fn a_setting_of_a_map_that_no_manifest_has_is_refused() {
        let setting = Setting::new("config-absent", "key", "value", "a test");
        let error = before_webhook(folder().path(), &[setting]).unwrap_err().to_string();
        assert_eq!(error, "no manifest has the ConfigMap config-absent");
    }

    #[test]
    fn a_manifest_that_is_no_yaml_and_a_folder_that_is_not_there_are_named() {
        let folder = folder();
        let path = folder.path().join("webhooks-defaulting.yaml");
        fs::write(&path, "kind: [unclosed\n").unwrap();
        assert_eq!(webhooks(folder.path()).unwrap_err().to_string(), format!("reading {}", path.display()));
        let absent = folder.path().join("absent");
        assert_eq!(before_webhook(&absent, &[]).unwrap_err().to_string(), format!("listing {}", absent.display()));
    }

    #[test]
    fn configurations_of_webhooks_are_not_applied_before_the_webhook_runs() {
        let folder = folder();
        fs::write(folder.path().join("webhooks-defaulting.yaml"), "kind: MutatingWebhookConfiguration\n").unwrap();
        let kinds = |objects: Vec<Value>| {
            objects.iter().filter_map(|one| one["kind"].as_str().map(str::to_owned)).collect::<Vec<_>>()
        };
        let before = kinds(before_webhook(folder.path(), &[]).unwrap());
        assert!(
            before.contains(&"Secret".to_owned()) && !before.contains(&"MutatingWebhookConfiguration".to_owned()),
            "{before:?}"
        );
        assert_eq!(kinds(webhooks(folder.path()).unwrap()), ["MutatingWebhookConfiguration"]);
    }

    #[test]
    fn released_windows_are_not_touched() {
        assert!(settings(None).iter().all(|setting| !setting.key.contains("window")));
    }
}
