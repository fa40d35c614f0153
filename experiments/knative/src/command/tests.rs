//! The command line as it is typed.

use super::*;

fn parse(words: &str) -> Result<Command, String> {
    let cli = Cli::try_parse_from(["knative"].into_iter().chain(words.split_whitespace()));
    cli.map(|cli| cli.command).map_err(|error| error.to_string())
}

fn start(words: &str) -> Start {
    match parse(&format!("start --folder /t {words}")) {
        Ok(Command::Start(start)) => start,
        other => panic!("expected a start, found {other:?}"),
    }
}

#[test]
fn a_testbed_is_as_released_unless_something_else_is_typed() {
    let plain = start("");
    assert_eq!(
        (plain.variant, plain.workers.0, plain.form.nodes, plain.delay),
        (Variant::Stock, None, 10, Duration::ZERO)
    );
    assert!(plain.form.windows.0.is_none() && plain.prepared.is_none() && !plain.anatomy);
    assert_eq!(plain.mode, hollow::Mode::Sleep);
    let typed = start(
        "--variant tuned --workers 20 --nodes 3 --delay 40ms --mode spin --windows 6s,1s,2s --prepared /p --anatomy true",
    );
    assert_eq!((typed.variant, typed.workers.0, typed.form.nodes), (Variant::Tuned, Some(20), 3));
    assert_eq!((typed.delay, typed.mode, typed.anatomy), (Duration::from_millis(40), hollow::Mode::Spin, true));
    let windows = typed.form.windows.0.unwrap();
    assert_eq!([&*windows.stable, &windows.grace, &windows.retention], ["6s", "1s", "2s"]);
    assert_eq!(typed.prepared, Some(PathBuf::from("/p")));
}

#[test]
fn values_out_of_bounds_are_refused_with_the_option() {
    for (words, expected) in [
        ("--workers 0", "'--workers <WORKERS>': expected released or a number from 1"),
        ("--workers many", "expected released or a number from 1"),
        ("--windows 6s,1s", "expected released, or three durations such as 6s,1s,1s"),
        ("--delay soon", "'--delay <DURATION>'"),
        ("--variant fast", "'--variant <VARIANT>'"),
        ("--mode idle", "'--mode <MODE>'"),
        ("--anatomy", "a value is required for '--anatomy <true|false>'"),
        ("--nodes -1", "unexpected argument '-1'"),
    ] {
        let error = parse(&format!("start --folder /t {words}")).unwrap_err();
        assert!(error.contains(expected), "{words}: expected {expected:?} in {error}");
    }
    let missing = parse("register --folder /t").unwrap_err();
    assert!(missing.contains("--from <FILE>"), "{missing}");
}

#[test]
fn the_stock_form_with_other_workers_is_refused_before_anything_is_started() {
    let folder = tempfile::tempdir().unwrap();
    let inner = folder.path().join("testbed");
    let words = format!("start --folder {} --workers 5", inner.display());
    let error = run(parse(&words).unwrap()).unwrap_err().to_string();
    assert_eq!(error, "the stock form has the released workers: with --workers comes --variant tuned");
    assert!(!inner.exists());
}

#[test]
fn settings_of_a_testbed_have_its_folder_absolute() {
    let folder = tempfile::tempdir().unwrap();
    let words = format!("start --folder {0}/a/../b --cache {0}/cache", folder.path().display());
    let Ok(Command::Start(start)) = parse(&words) else { panic!("expected a start") };
    std::fs::create_dir(folder.path().join("a")).unwrap();
    let settings = start.form.settings().unwrap();
    assert_eq!(settings.folder, folder.path().canonicalize().unwrap().join("b"));
    assert!(settings.folder.is_dir() && settings.config_maps().iter().all(|setting| !setting.key.contains("window")));
}

#[test]
fn words_are_quoted_as_a_shell_takes_them() {
    assert_eq!(quoted("/a/b-c_d.e=f:1,2+3@4%5"), "/a/b-c_d.e=f:1,2+3@4%5");
    assert_eq!([quoted(""), quoted("a b"), quoted("$HOME")], ["''", "'a b'", "'$HOME'"]);
    assert_eq!(quoted("it's"), r"'it'\''s'");
}
