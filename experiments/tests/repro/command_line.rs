//! The command line: plans, lists, and mistakes, which end with exit code 2 and the location of the mistake.

use std::path::Path;

use experiments::{
    definition::{self, overrides::Overrides},
    run::resolved::PlannedExperiment,
    system::Systems,
};

use crate::toy::{Toy, said};

fn own(place: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(place)
}

/// The plan of the committed main experiment.
fn plan(overrides: Overrides) -> String {
    plan_of("azure-500", overrides)
}

/// The plan of a committed experiment.
fn plan_of(experiment: &str, overrides: Overrides) -> String {
    let definition = definition::find(&own("definitions"), experiment).unwrap();
    let systems = Systems::read(&own("systems.toml")).unwrap();
    let PlannedExperiment { experiment, plan } =
        PlannedExperiment::new(definition, &systems, "laptop", &overrides).unwrap();
    plan.text(&experiment.points)
}

#[test]
fn the_main_experiment_matches_its_page() {
    insta::assert_snapshot!(plan(Overrides::default()), @r"
    azure-500 at scale laptop
      load     30 min of the synthetic trace azure-sample from minute 0, the first 10m warm-up, seed 1
      sandbox  hollow, sleep mode, 2 workers × 50 nodes of 64 cores and 256GiB, creation delay 100ms
      1  build the programs                                             0:05
      2  make each repetition's schedule, the same for all systems      0:10
      3  measure dirigent, point replay, repetition 1                  30:15
      4  check the rows, compute statistics, draw the report            0:15
         in all, after a first build of some minutes                   30:45
    ");
}

#[test]
fn the_few_minute_version_runs_real_processes() {
    insta::assert_snapshot!(plan(Overrides { quick: true, ..Overrides::default() }), @r"
    azure-500 at scale laptop
      load     3 min of the synthetic trace azure-sample from minute 0, the first 1m warm-up, seed 1
      sample   20 functions, mean execution at most 0.5 cores
      sandbox  process, spin mode, 2 workers of 64 cores and 64GiB, creation delay 0s
      1  build the programs                                             0:05
      2  make each repetition's schedule, the same for all systems      0:10
      3  measure dirigent, point replay, repetition 1                   3:15
      4  check the rows, compute statistics, draw the report            0:02
         in all, after a first build of some minutes                    3:32
    ");
}

#[test]
fn the_cold_start_sweep_matches_its_page() {
    let plan = plan_of(
        "cold-start-sweep",
        Overrides { rates: vec![500.0, 8000.0], repetitions: Some(2), ..Overrides::default() },
    );
    insta::assert_snapshot!(plan, @r"
    cold-start-sweep at scale laptop
      load     500 to 8000 per second for 60 s after 5s of warm-up, every one cold: no function again within 5s
      points   4: delay-0ms-rate-500, delay-0ms-rate-8000, delay-40ms-rate-500, delay-40ms-rate-8000
      sandbox  hollow, sleep mode, 2 workers × 50 nodes of 64 cores and 256GiB
      1  build the programs                                             0:05
      2  make each repetition's schedule, the same for all systems      0:08
      3  measure dirigent, point delay-0ms-rate-500, repetition 1       1:20
      4  measure dirigent, point delay-0ms-rate-8000, repetition 1      1:20
      5  measure dirigent, point delay-40ms-rate-500, repetition 1      1:20
      6  measure dirigent, point delay-40ms-rate-8000, repetition 1     1:20
      7  measure dirigent, point delay-0ms-rate-500, repetition 2       1:20
      8  measure dirigent, point delay-0ms-rate-8000, repetition 2      1:20
      9  measure dirigent, point delay-40ms-rate-500, repetition 2      1:20
     10  measure dirigent, point delay-40ms-rate-8000, repetition 2     1:20
     11  check the rows, compute statistics, draw the report            0:05
         in all, after a first build of some minutes                   10:58
    ");
}

#[test]
fn the_warm_sweep_alternates_with_the_machine_floor() {
    let plan = plan_of("warm-sweep", Overrides { quick: true, ..Overrides::default() });
    insta::assert_snapshot!(plan, @r"
    warm-sweep at scale laptop
      load     200 to 4000 per second for 10 s after 2s of warm-up, functions as the point says
      points   3: rate-1000, rate-4000, one-connection
      sandbox  hollow, sleep mode, 2 workers of 64 cores and 256GiB, creation delay 0s
      1  build the programs                                             0:05
      2  make each repetition's schedule, the same for all systems      0:03
      3  measure dirigent, point rate-1000, repetition 1                0:27
      4  measure floor, point rate-1000, repetition 1                   0:27
      5  measure dirigent, point rate-4000, repetition 1                0:27
      6  measure floor, point rate-4000, repetition 1                   0:27
      7  measure dirigent, point one-connection, repetition 1           0:27
      8  measure floor, point one-connection, repetition 1              0:27
      9  check the rows, compute statistics, draw the report            0:01
         in all, after a first build of some minutes                    2:51
    ");
}

#[test]
fn every_committed_definition_and_system_can_be_read() {
    Systems::read(&own("systems.toml")).unwrap();
    let files = definition::files(&own("definitions")).unwrap();
    assert!(!files.is_empty());
    for file in files {
        definition::Definition::read(&file).unwrap();
    }
}

#[test]
fn plan_runs_nothing_and_list_shows_all_definitions() {
    let toy = Toy::new("well");
    let plan = toy.command(&["plan", "toy", "--repetitions", "2", "--format", "csv"]).output().unwrap();
    assert_eq!(plan.status.code(), Some(0), "{}", said(&plan));
    let text = String::from_utf8_lossy(&plan.stdout);
    assert!(text.contains("4,\"measure toy, point replay, repetition 2\",75"), "{text}");
    assert!(!toy.path("artifacts").exists() && toy.pids().is_empty());
    let list = toy.command(&["list"]).output().unwrap();
    let text = String::from_utf8_lossy(&list.stdout);
    assert!(text.contains("Does it start and stop? (scales: laptop)") && text.contains("a toy"), "{text}");
}

#[test]
fn help_names_the_load_of_each_option() {
    let toy = Toy::new("well");
    let help = toy.command(&["plan", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    for (option, expected) in [
        ("trace", "a load that is a trace"),
        ("minutes", "a load that is a trace"),
        ("start-minute", "a load that is a trace"),
        ("max-cores", "a load that is a trace"),
        ("functions", "at a constant warm rate"),
        ("rates", "a load at a constant rate"),
        ("seconds", "a load at a constant rate"),
    ] {
        let (_, about) = help.split_once(&format!("--{option} <")).unwrap_or_else(|| panic!("no --{option} in {help}"));
        let about = about.split("\n\n").next().unwrap().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(about.contains(expected), "--{option}: expected {expected:?} in {about:?}");
    }
}

#[test]
fn usage_errors_name_file_and_line() {
    let toy = Toy::new("well");
    let refused = |arguments: &[&str]| {
        let output = toy.command(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", said(&output));
        said(&output)
    };
    assert!(refused(&["plan", "moon"]).contains("no experiment is called \"moon\"; there are: sweep, toy"));
    assert!(refused(&["plan", "toy", "--systems", "moon"]).contains("no system is called \"moon\"; there are: toy"));
    assert!(refused(&["plan", "toy", "--scale", "moon"]).contains("it has: laptop"));
    assert!(refused(&["plan", "toy", "--trace", "/nonexistent"]).contains("--trace /nonexistent"));
    assert!(refused(&["plan", "toy", "--minutes", "0"]).contains("--minutes"));
    toy.edit("experiments/definitions/toy.toml", "cpu = 500", "cpus = 500");
    assert!(refused(&["plan", "toy"]).contains("toy.toml:6:14: function.cpus: unknown field `cpus`"));
    toy.edit("experiments/definitions/toy.toml", "cpus = 500", "cpu = 500");
    toy.edit("experiments/systems.toml", "about =", "runtimes = [\"hollow\"]\nabout =");
    assert!(refused(&["plan", "toy"]).contains("toy has no runtime toy: add --runtime hollow, for all systems"));
    toy.edit("experiments/systems.toml", "runtimes = [\"hollow\"]\nabout =", "abuot =");
    assert!(refused(&["plan", "toy"]).contains("systems.toml:3:1: toy.abuot: unknown field `abuot`"));
}

#[test]
fn a_directory_that_is_not_empty_is_not_overwritten() {
    let toy = Toy::new("well");
    std::fs::create_dir(toy.path("out")).unwrap();
    toy.write("out/mine", "precious");
    let output = toy.run(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(said(&output).contains("is not empty"), "{}", said(&output));
}

#[test]
fn print_config_shows_the_settings_with_all_overrides() {
    let toy = Toy::new("well");
    let output = toy.command(&["run", "toy", "--quick", "--minutes", "7", "--print-config"]).output().unwrap();
    let settings: experiments::definition::settings::Settings =
        toml::from_str(&String::from_utf8_lossy(&output.stdout)).unwrap();
    assert_eq!((settings.load.trace().unwrap().minutes, settings.repetitions), (7, 2));
}

#[test]
fn doctor_lists_available_programs_and_systems() {
    let toy = Toy::new("well");
    let output = toy.command(&["doctor", "--format", "json"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    for expected in ["\"cores\"", "\"sleeping\"", "\"open files\"", "\"system toy\""] {
        assert!(text.contains(expected), "expected {expected} in {text}");
    }
}
