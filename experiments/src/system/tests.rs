//! Tests of reading `systems.toml`.

use serde::de::DeserializeOwned;

use super::*;

const TEXT: &str = r#"
[toy]
about = "A toy"
version = ["toy", "--version"]
needs = [{ program = "sh", fix = "install a shell" }]
register = { command = ["true"] }
invoke = { target = "http", address = "{ports.a.http}" }
[[toy.start]]
name = "a"
command = ["toy"]
ready = [{ file = "{dir}/up" }]
"#;

fn read(text: &str) -> Result<Systems, DocumentError> {
    Systems::parse(text)
}

#[test]
fn a_small_system_has_defaults_for_the_rest() {
    let systems = read(TEXT).unwrap();
    let toy = systems.get("toy").unwrap();
    assert_eq!(toy.stop.grace_period, Duration::from_secs(10));
    assert_eq!(toy.start[0].timeout, Duration::from_secs(30));
    assert_eq!(toml::from_str::<System>(&toy.to_toml()).unwrap(), *toy, "a system survives its own TOML");
    assert_eq!(systems.get("tay").unwrap_err().to_string(), "no system is called \"tay\"; there are: toy");
}

#[test]
fn a_system_like_another_differs_in_what_it_says_itself() {
    let text = TEXT.replace("about", "parameters = { a = \"1\", b = \"2\" }\nabout")
        + "[twin]\nlike = \"toy\"\nabout = \"Its twin\"\nparameters.b = \"3\"\n";
    let systems = read(&text).unwrap();
    let (toy, twin) = (systems.get("toy").unwrap(), systems.get("twin").unwrap());
    assert_eq!(
        (twin.about.as_str(), &twin.parameters["a"], &twin.parameters["b"]),
        ("Its twin", &"1".into(), &"3".into())
    );
    assert_eq!((&twin.start, &twin.needs), (&toy.start, &toy.needs));
    let unknown = read(&text.replace("like = \"toy\"", "like = \"tay\"")).unwrap_err().to_string();
    assert_eq!(
        unknown,
        "systems.toml:14:1: twin.like: \"tay\" must be another system's table that is not like a third one"
    );
}

#[test]
fn mistakes_are_named_with_line_and_key() {
    let refused = |from: &str, to: &str| read(&TEXT.replace(from, to)).unwrap_err().to_string();
    let unknown = refused("about = ", "abuot = ");
    assert!(unknown.starts_with("systems.toml:3:1: toy.abuot: unknown field `abuot`"), "{unknown}");
    let version = refused("version = [\"toy\", \"--version\"]", "version = []");
    assert!(version.starts_with("systems.toml:4:1: toy.version: must be a command"), "{version}");
    let check = refused("{ file = \"{dir}/up\" }", "{ }");
    assert_eq!(check, format!("systems.toml:11:1: toy.start[0].ready: {CHECK_RULE}"));
    for wrong in [
        "",
        "program = \"sh\", min_version = \"1.2\", ",
        "program = \"sh\", version = [\"-v\"], min_version = \"new\", ",
    ] {
        let need = refused("program = \"sh\", ", wrong);
        assert!(need.starts_with("systems.toml:5:1: toy.needs: each must have one of"), "{wrong}: {need}");
    }
}

/// `loadgen run --register` and an experiment register the same system, from two tables.
#[test]
fn a_system_has_the_image_that_the_load_generator_registers_it_with() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let systems = Systems::read(&root.join("experiments/systems.toml")).unwrap();
    let targets = std::fs::read_to_string(root.join("loadgen/targets.toml")).unwrap();
    let targets: toml::Table = targets.parse().unwrap();
    let with_loadgen = systems.0.iter().filter(|(_, system)| system.register.command[0] == "{bin}/loadgen");
    let mut registered = Vec::new();
    for (name, system) in with_loadgen {
        let image = targets[&system.invoke.target].get("image").and_then(toml::Value::as_str);
        let workload = "builtin:function";
        assert_eq!(system.images.get(workload).map(String::as_str), Some(image.unwrap_or(workload)), "{name}");
        registered.push(name.as_str());
    }
    assert_eq!(registered, ["dirigent", "dirigent-go", "dirigent-kpa"]);
}

/// Names of all keys of a table, as the refusal of one that does not exist lists them.
fn keys<T: DeserializeOwned>(prefix: &str) -> Vec<String> {
    let refused = toml::from_str::<T>("no-such-key = 1").err().unwrap();
    let (_, expected) = refused.message().split_once("expected").unwrap();
    expected.split('`').skip(1).step_by(2).map(|key| format!("{prefix}{key}")).collect()
}

#[test]
fn the_page_about_systems_explains_every_key() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/extending/system.md");
    let page = std::fs::read_to_string(page).unwrap();
    let (_, page) = page.split_once("### Keys").unwrap();
    let explained: String = page.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next()).collect();
    let all = [
        keys::<System>(""),
        keys::<Build>("build."),
        keys::<Need>("needs."),
        keys::<Preparation>("prepare."),
        keys::<ProcessTemplate>("start."),
        keys::<Registration>("register."),
        keys::<Invoke>("invoke."),
        keys::<Harvest>("harvest."),
        keys::<NodesSource>("harvest.nodes."),
        keys::<Stop>("stop."),
    ]
    .concat();
    // Tables of one value each are explained by the rows of their keys.
    let of_keys = |table: &String| all.iter().any(|key| key.starts_with(&format!("{table}.")));
    let missing: Vec<&String> =
        all.iter().filter(|key| !explained.contains(&format!("`{key}`")) && !of_keys(key)).collect();
    assert!(all.len() > 40 && missing.is_empty(), "expected {missing:?} among the keys of docs/extending/system.md");
}
