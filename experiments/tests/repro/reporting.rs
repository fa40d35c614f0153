//! `repro report` and `repro verify` after a run: what they leave of what was judged before, and when it still counts.

use std::{fs, os::unix::fs::PermissionsExt};

use crate::{ending::claims, toy::Toy};

#[test]
fn a_failed_report_keeps_the_previous_one() {
    let toy = Toy::new("well");
    toy.write("bin/claims.json", &claims("held"));
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    let run = toy.out();
    fs::create_dir(run.report()).unwrap();
    toy.write("out/report/index.html", "a page");
    toy.write("out/summary.json", "{}");
    let checked = [run.invariants(), run.claims(), run.summary(), run.report().join("index.html")];
    let texts = || checked.each_ref().map(|path| fs::read_to_string(path).unwrap_or_default());
    let before = texts();
    for (place, from, to) in [
        ("out/manifest.json", "failed_share_max", "of_a_later_version"),
        ("out/toy/replay/1/coldstarts.csv", "requested_ns", "asked_ns"),
    ] {
        toy.edit(place, from, to);
        let (code, text) = toy.again("report");
        assert!(code != Some(0) && !text.contains("analysed"), "{place}: {text}");
        assert!(texts() == before, "{place}: what was judged before has changed");
        toy.edit(place, to, from);
    }
    // Invariants that differ from those on record, and an analysis that is missing or fails halfway.
    toy.edit("out/toy/replay/1/loadgen.json", "\"sent\":3", "\"sent\":2");
    let analysis = toy.path("bin/analysis");
    let program = fs::read_to_string(&analysis).unwrap();
    let halfway = "#!/bin/sh\nmkdir -p $2/report\necho half >$2/report/index.html\necho half >$2/claims.json\nexit 1\n";
    for text in [None, Some(halfway)] {
        match text {
            Some(text) => {
                toy.write("bin/analysis", text);
                fs::set_permissions(&analysis, fs::Permissions::from_mode(0o755)).unwrap();
            }
            None => fs::remove_file(&analysis).unwrap(),
        }
        let (code, printed) = toy.again("report");
        assert!(code == Some(1) || code == Some(2), "{text:?}: {printed}");
        assert!(texts() == before, "{text:?}: what was judged before has changed: {printed}");
        assert!(!run.judged_before().exists());
        let (code, printed) = toy.again("verify");
        assert!(code == Some(3) && printed.contains("and are out of date"), "what is stale is never valid: {printed}");
    }
    toy.write("bin/analysis", &program);
    // What a process left that was killed meanwhile is put back, also if it is the last that was judged.
    fs::create_dir(run.judged_before()).unwrap();
    fs::rename(run.claims(), run.judged_before().join("claims.json")).unwrap();
    fs::write(run.claims(), "half").unwrap();
    fs::remove_file(&analysis).unwrap();
    toy.again("report");
    assert_eq!(fs::read_to_string(run.claims()).unwrap(), before[1]);
    toy.write("bin/analysis", &program);
    fs::set_permissions(&analysis, fs::Permissions::from_mode(0o755)).unwrap();
    toy.edit("out/toy/replay/1/loadgen.json", "\"sent\":2", "\"sent\":3");
    assert_eq!(toy.again("report").0, Some(0));
    assert!(!run.report().exists() && !run.summary().exists(), "the toy's analysis makes neither");
}

#[test]
fn claims_of_an_invalid_run_are_judged_by_its_findings() {
    let toy = Toy::new("well");
    toy.edit("experiments/definitions/toy.toml", "failed_share_max = 0.0", "cold_share_min = 0.99");
    toy.write("bin/claims.json", &claims("held"));
    assert_eq!(toy.run(&[]).status.code(), Some(3), "two of three rows are warm");
    toy.assert_exit(record::ExitState::Invalid);
    for again in ["at once", "after a report"] {
        let (code, text) = toy.again("verify");
        assert!(code == Some(3) && text.contains("toy-rate"), "{again}: {text}");
        assert!(!text.contains("are out of date"), "{again}: {text}");
        toy.again("report");
    }
}
