//! Experiments with several points on the toy system: each has its own schedule, settings and folder, and all of them
//! are planned, resumed, verified and refused as one point is.

use record::{ExitState, RunDir};

use crate::toy::{Toy, said};

#[test]
fn every_point_is_measured_with_its_own_settings_and_judged() {
    let toy = Toy::new("well");
    let output = toy.run_experiment("sweep", &["--points", "rate-4,quiet"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    toy.assert_exit(ExitState::Done);
    let printed = said(&output);
    let place = |text: &str| printed.find(text).unwrap_or_else(|| panic!("expected {text:?} in {printed}"));
    assert!(
        place("measure toy, point rate-4, repetition 1") < place("measure toy, point quiet, repetition 1"),
        "{printed}"
    );
    assert!(!printed.contains("point rate-2"), "only what was chosen is measured: {printed}");
    for (point, nodes) in [("rate-4", 3), ("quiet", 5)] {
        let found = toy.out().point("toy", point, 1);
        let config = std::fs::read_to_string(found.path.join("config.toml")).unwrap();
        assert!(config.contains(&format!("limits = {{ nodes = {nodes} }}")), "{point}: {config}");
        for file in ["schedule.csv", "functions.ndjson"] {
            let path = toy.path("out/schedules").join(point).join("1").join(file);
            assert!(path.is_file(), "expected {}", path.display());
        }
    }
    assert_eq!(RunDir(toy.path("out")).points().unwrap().len(), 2, "schedules are no repetitions");
    let verified = toy.command(&["verify", toy.path("out").to_str().unwrap(), "--all"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
    assert_eq!(said(&verified).matches("all systems were given the same schedule").count(), 2, "{}", said(&verified));
}

#[test]
fn a_finished_point_is_skipped_and_a_lost_one_is_measured_again() {
    let toy = Toy::new("well");
    assert_eq!(toy.run_experiment("sweep", &["--points", "rate-4,quiet"]).status.code(), Some(0));
    let before = toy.pids().len();
    let lost = toy.out().point("toy", "quiet", 1).path;
    std::fs::remove_dir_all(&lost).unwrap();
    let verified =
        toy.command(&["verify", toy.path("out").to_str().unwrap(), "--all", "--format", "csv"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(3), "{}", said(&verified));
    assert!(
        said(&verified).contains("every repetition of every system is there,not held,1 of 2"),
        "{}",
        said(&verified)
    );
    let again = toy.resume();
    assert_eq!(again.status.code(), Some(0), "{}", said(&again));
    assert!(said(&again).contains("point rate-4, repetition 1: already done"), "{}", said(&again));
    assert!(lost.join("invocations.csv.zst").is_file());
    let discarded = toy.manifest().discarded;
    let said: Vec<_> = discarded.iter().map(|one| (one.point.as_str(), one.reason.as_str())).collect();
    assert_eq!(said, [("quiet", "its rows were removed")]);
    toy.resume();
    assert_eq!(toy.manifest().discarded, discarded, "it is not forgotten when nothing is left to do");
    assert_eq!(toy.pids().len(), before + before / 2, "one of two points is measured again");
}

#[test]
fn a_points_systems_are_measured_or_a_selection_of_them() {
    let toy = Toy::new("well");
    toy.edit("experiments/systems.toml", "[toy]\n", "[twin]\nlike = \"toy\"\n[toy]\n");
    toy.edit("experiments/definitions/sweep.toml", "systems = [\"toy\"]", "systems = [\"toy\", \"twin\"]");
    toy.edit("experiments/definitions/sweep.toml", "name = \"quiet\"", "name = \"quiet\"\nsystems = [\"twin\"]");
    let plan = |options: &[&str]| {
        let fixed = ["plan", "sweep", "--format", "csv"];
        let output = toy.command(&[&fixed, options].concat()).output().unwrap();
        let text = said(&output);
        let measured = text.lines().filter_map(|line| line.split("measure ").nth(1)?.split(", repetition").next());
        (output.status.code(), measured.map(str::to_owned).collect::<Vec<_>>(), text.clone())
    };
    let some = ["--points", "rate-4,quiet"];
    assert_eq!(plan(&some).1, ["toy, point rate-4", "twin, point rate-4", "twin, point quiet"]);
    let with = |system| plan(&[&some[..], &["--systems", system]].concat()).1;
    assert_eq!(with("toy"), ["toy, point rate-4"], "a point left with none is left out");
    assert_eq!(with("twin"), ["twin, point rate-4", "twin, point quiet"]);
    let slow = plan(&["--rates", "4,1"]).1;
    assert_eq!(slow.last().unwrap(), "twin, point quiet", "a listed rate that was typed");
    assert!(!plan(&["--rates", "4"]).2.contains("quiet"), "a listed rate that was not");
    let (code, _, text) = plan(&["--systems", "toy", "--points", "quiet"]);
    assert!(code == Some(2) && text.contains("no point measures toy"), "{text}");
    let (code, _, text) = plan(&["--systems", "toy,twin", "--points", "quiet"]);
    assert!(code == Some(2) && text.contains("no point measures toy; those chosen measure twin"), "{text}");
    let output = toy.run_experiment("sweep", &some);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let verified =
        toy.command(&["verify", toy.path("out").to_str().unwrap(), "--all", "--format", "csv"]).output().unwrap();
    let all = "every repetition of every system is there,held,3 of 3";
    assert!(said(&verified).contains(all), "expected {all} in {}", said(&verified));
    toy.edit("experiments/definitions/sweep.toml", "systems = [\"toy\", \"twin\"]", "systems = [\"toy\"]");
    let (code, _, text) = plan(&["--systems", "twin", "--rates", "4"]);
    assert!(code == Some(2) && text.contains("these systems are measured at 1 per second"), "{text}");
    assert_eq!(verified.status.code(), Some(0), "{}", said(&verified));
}

#[test]
fn selected_points_and_rates_are_planned_and_unknown_ones_are_usage_errors() {
    let toy = Toy::new("well");
    let plan = |options: &[&str]| {
        let output = toy.command(&[&["plan", "sweep", "--format", "csv"], options].concat()).output().unwrap();
        (output.status.code(), said(&output))
    };
    let (code, text) = plan(&["--rates", "1000,2.5", "--seconds", "9", "--repetitions", "2"]);
    assert_eq!(code, Some(0), "{text}");
    let measured: Vec<&str> = text.lines().filter(|line| line.contains("measure")).collect();
    let expected = ["rate-1000", "rate-2.5"].map(|point| format!("measure toy, point {point}, repetition"));
    assert_eq!(measured.len(), 4, "{text}");
    for (line, number) in measured.iter().zip(0..) {
        let expected = format!("\"{} {}\",24", expected[number % 2], number / 2 + 1);
        assert!(line.ends_with(&expected), "expected {expected} in {line}");
    }
    for (options, problem) in [
        (["--points", "moon"], "no point is called \"moon\"; there are: rate-2, rate-4, quiet"),
        (["--rates", "0"], "expected a rate above 0 per second"),
        (["--minutes", "3"], "load.minutes: `minutes` belongs to a load of kind trace, and this one is of kind rate"),
    ] {
        let (code, text) = plan(&options);
        assert!(code == Some(2) && text.contains(problem), "expected {problem} in {text}");
        // clap writes the option with its value.
        let named = [format!("{}: ", options[0]), format!("'{} <", options[0])];
        assert!(named.iter().any(|name| text.contains(name)), "expected {} in {text}", options[0]);
    }
    toy.edit("experiments/definitions/sweep.toml", "load.rate = [2, 4]", "load.rates = [2, 4]");
    let (code, text) = plan(&[]);
    assert!(code == Some(2) && text.contains("sweep.toml:9:6: vary.load.rates: unknown field `rates`"), "{text}");
}
