//! Points of small definitions: names, order, what is refused, and that they survive their own text.

use std::{path::Path, time::Duration};

use super::*;

const BASE: &str = "systems = [\"a\"]\n[load]\nkind = \"rate\"\nseconds = 10\ncooldown = \"5s\"\ntimeout = \"5s\"\n\
                    [sandbox]\nruntime = \"hollow\"\nmode = \"sleep\"\nworkers = 1\ncpu = \"1\"\nmemory = \"1GiB\"\n";

fn points(more: &str) -> Result<Vec<Point>, String> {
    let document = Document::new(Path::new("e.toml"), format!("{BASE}{more}"));
    let table = document.parse().unwrap();
    decode(&document, table, None).map_err(|error| error.to_string())
}

#[test]
fn every_combination_is_a_point_named_after_it_and_the_last_axis_turns_fastest() {
    let points = points("[vary]\nsandbox.delay = [\"0ms\", \"40ms\"]\nload.rate = [500, 0.5]\n").unwrap();
    let names: Vec<&str> = points.iter().map(|point| point.name.as_str()).collect();
    assert_eq!(names, ["delay-0ms-rate-500", "delay-0ms-rate-0.5", "delay-40ms-rate-500", "delay-40ms-rate-0.5"]);
    let last = &points[3];
    assert_eq!(last.settings.sandbox.delay, Duration::from_millis(40));
    assert!((last.settings.load.rate().unwrap().rate_per_s - 0.5).abs() < 1e-9);
    assert_eq!(last.values["sandbox.delay"], "40ms");
}

#[test]
fn what_quick_says_no_listed_point_says_otherwise() {
    let text = format!("{BASE}[[points]]\nname = \"x\"\nload = {{ rate = 2, seconds = 240 }}\nfunction.cpu = 5\n");
    let document = Document::new(Path::new("e.toml"), text);
    let quick = Document::new(Path::new("quick"), "load.seconds = 10\nsandbox.workers = 3\n".to_owned());
    let quick = quick.parse().unwrap();
    let points = decode(&document, document.parse().unwrap(), Some(&quick)).unwrap();
    assert_eq!(
        points[0].settings.load.rate().unwrap().seconds,
        10,
        "its own is left to the definition's, which quick set"
    );
    assert_eq!(points[0].values.keys().collect::<Vec<_>>(), ["function.cpu", "load.rate"]);
    assert_eq!(points[0].settings.function.cpu, Some(5));
}

#[test]
fn a_listed_point_has_from_the_one_it_is_like_what_it_does_not_say() {
    let listed = "[[points]]\nname = \"x\"\nsystems = [\"b\"]\nload = { rate = 2, warmup = \"3s\" }\nfunction.cpu = 5\n\
                  [[points]]\nname = \"y\"\nlike = \"x\"\nload.rate = 4\n\
                  [[points]]\nname = \"z\"\nlike = \"y\"\nsystems = [\"c\"]\n";
    let points = points(listed).unwrap();
    let [x, y, z] = &points[..] else { panic!("{points:?}") };
    assert_eq!([x, y, z].map(|point| point.values["load.rate"].as_str()), ["2", "4", "4"]);
    assert_eq!((&y.settings.systems, &z.settings.systems), (&vec!["b".to_owned()], &vec!["c".to_owned()]));
    assert_eq!(z.settings.load.warmup, Some(Duration::from_secs(3)));
    assert_eq!(z.values.keys().collect::<Vec<_>>(), ["function.cpu", "load.rate", "load.warmup", "systems"]);
}

#[test]
fn listed_points_come_after_the_combinations() {
    let listed = "[vary]\nload.rate = [500]\n[[points]]\nname = \"quiet\"\nload.rate = 10\nsandbox.workers = 3\n";
    let points = points(listed).unwrap();
    assert_eq!((points[0].name.as_str(), points[1].name.as_str()), ("rate-500", "quiet"));
    assert_eq!((points[0].settings.sandbox.workers, points[1].settings.sandbox.workers), (1, 3));
    assert_eq!(points[1].values["sandbox.workers"], "3");
}

#[test]
fn mistakes_are_named_with_line_and_key() {
    let refused = |more: &str| points(more).unwrap_err();
    let unknown = refused("[vary]\nload.rate = [1]\nload.rat = [2]\n");
    assert!(unknown.starts_with("e.toml:15:6: vary.load.rat: unknown field `rat`"), "{unknown}");
    let wrong = refused("[vary]\nload.rate = [1, \"fast\"]\n");
    assert!(wrong.starts_with("e.toml:14:17: vary.load.rate: invalid type: string \"fast\""), "{wrong}");
    assert_eq!(refused("[vary]\nload.rate = []\n"), "e.toml:14:6: vary.load.rate: expected a list of values");
    assert_eq!(refused("[vary]\nload.rate = 5\n"), "e.toml:14:6: vary.load.rate: expected a list of values");
    let systems = refused("[vary]\nload.rate = [1]\nsystems = [\"a\"]\n");
    assert!(systems.starts_with("e.toml:15:1: vary.systems: is the same for all points"), "{systems}");
    assert_eq!(refused("[vary]\nload.rate = [1, 1]\n"), "e.toml:13:1: vary: two points are called rate-1");
    let name = refused("[[points]]\nname = \"a b\"\nload.rate = 1\n");
    assert!(name.starts_with("e.toml:14:1: points[0].name: expected letters"), "{name}");
    let inner = refused("[[points]]\nname = \"x\"\nload.rate = 1\nload.moon = 1\n");
    assert!(inner.starts_with("e.toml:16:6: points[0].load.moon: unknown field `moon`"), "{inner}");
    let like = refused("[[points]]\nname = \"x\"\nload.rate = 1\nlike = \"x\"\n");
    assert_eq!(like, "e.toml:16:1: points[0].like: expected the name of a point further up");
    assert!(refused("[vary]\nload.rate = [-1]\n").ends_with("load.rate: must be above 0"));
    let none = refused("");
    assert!(none.contains("needs `rate` (one by one), or"), "{none}");
}

#[test]
fn points_survive_their_own_text() {
    let text = "[vary]\nsandbox.delay = [\"0ms\", \"40ms\"]\nload.rate = [500]\n[[points]]\nname = \"quiet\"\n\
                load.rate = 10\nfunction.cpu = 5\n";
    let points = points(text).unwrap();
    let back = read(&to_toml(&points)).unwrap();
    assert_eq!(back.len(), points.len());
    for (found, expected) in back.iter().zip(&points) {
        assert_eq!((&found.name, &found.settings), (&expected.name, &expected.settings));
    }
}

#[test]
fn a_point_may_name_its_systems_and_survives_its_own_text() {
    let listed = "[vary]\nload.rate = [500]\n[[points]]\nname = \"quiet\"\nload.rate = 10\nsystems = [\"b\", \"c\"]\n";
    let points = points(listed).unwrap();
    assert_eq!(
        (points[0].settings.systems.join(","), points[1].settings.systems.join(",")),
        ("a".into(), "b,c".into())
    );
    let back = read(&to_toml(&points)).unwrap();
    for (found, expected) in back.iter().zip(&points) {
        assert_eq!((&found.name, &found.settings), (&expected.name, &expected.settings));
    }
}
