//! Runs of earlier versions of this program: paths of programs counted in their fingerprints, and some keys of their files
//! had other names. Such results stay valid as long as what they were measured with is the same, wherever that lies.

use experiments::{
    checksum,
    definition::points,
    run::{
        plan::{Action, Plan},
        repetition::RepetitionFacts,
    },
};
use record::{Invariant, read_json, write_json};

use crate::{
    checking::check,
    resuming::{expect_rows_come_back, finished, resume},
    toy::Toy,
};

/// The fingerprint of a repetition as earlier versions made it.
fn fingerprint_of_paths(toy: &Toy, action: &Action, repetition: u32) -> String {
    let manifest = toy.manifest();
    let settings = points::read(&manifest.definition).unwrap().remove(0).settings;
    let inputs = toy.path(&format!("out/schedules/replay/{repetition}"));
    let parts = [
        serde_json::to_string(action).unwrap(),
        settings.of_repetition(repetition).to_toml(),
        serde_json::to_string(&manifest.systems["toy"]).unwrap(),
        checksum::of_file(&inputs.join("schedule.csv")).unwrap(),
        checksum::of_file(&inputs.join("functions.ndjson")).unwrap(),
        manifest.checksums["loadgen"].clone(),
    ];
    checksum::of_text(&parts.join("\n"))
}

/// Has a run say what it was measured with as earlier versions did.
fn make_earlier(toy: &Toy) {
    let mut plan: Plan = read_json(&toy.out().plan()).unwrap();
    for step in &mut plan.steps {
        let Action::Measure { repetition, .. } = step.action else { continue };
        let fingerprint = fingerprint_of_paths(toy, &step.action, repetition);
        let path = toy.out().point("toy", "replay", repetition).facts();
        let mut facts: RepetitionFacts = read_json(&path).unwrap();
        let basis = facts.measured_with.as_mut().unwrap();
        assert_ne!(basis.fingerprint, fingerprint, "a path is no part of it now");
        basis.fingerprint.clone_from(&fingerprint);
        write_json(&path, &facts).unwrap();
        step.fingerprint = Some(fingerprint);
    }
    write_json(&toy.out().plan(), &plan).unwrap();
}

#[test]
fn results_of_earlier_versions_stay_valid() {
    let toy = finished();
    make_earlier(&toy);
    let before = toy.pids().len();
    let (code, text) = resume(&toy, &[]);
    assert_eq!((code, toy.pids().len()), (Some(0), before), "nothing is measured: {text}");
    assert_eq!(text.matches("already done").count(), 3, "{text}");
    assert!(toy.manifest().discarded.is_empty());
}

#[test]
fn archived_results_of_earlier_versions_return_with_programs_in_another_directory() {
    expect_rows_come_back(make_earlier);
}

#[test]
fn files_with_the_keys_of_earlier_versions_are_read() {
    let toy = Toy::new("well");
    toy.edit("experiments/definitions/toy.toml", "failed_share_max = 0.0", "unresponded_share_max = 0.0");
    assert_eq!(toy.run(&[]).status.code(), Some(0));
    toy.edit("out/manifest.json", "unresponded_share_max", "silent_share_max");
    toy.edit("out/toy/replay/1/repetition.json", "\"early_exits\": []", "\"deaths\": []");
    assert_eq!(check(&toy, "every invocation got a response"), (Some(0), "held".to_owned()));
    toy.edit("out/toy/replay/1/repetition.json", "\"deaths\": []", "\"deaths\": [\"toy-1\"]");
    assert_eq!(check(&toy, Invariant::LIVED), (Some(3), "not held".to_owned()));
}
