//! The claim about the trace, from files of the size that it asks for: rows decide it, one way and the other.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::{fs, path::PathBuf};

use assert_cmd::Command;
use fixture::{Fixture, MS, load, row};
use record::{ClaimOutcome, Claims, EvaluatedClaim, InvocationWriter, LoadSummary, RunDir, read_json};

/// Rows that the claim needs of each repetition, and no more.
const FUNCTIONS: u64 = 280;
const ROWS: u64 = 90_000;
const WINDOW_MS: u64 = 1_190_000;

fn place(fixture: &Fixture, system: &str, repetition: u32) -> PathBuf {
    RunDir(fixture.path().to_owned()).point(system, "azure-500", repetition).path
}

/// Five repetitions of a system, each of whose rows runs for 1 ms and is answered after so many milliseconds.
fn replayed(fixture: &Fixture, system: &str, latency_ms: u64) {
    let row = |index: u64| {
        let function = format!("f{}", index % FUNCTIONS);
        row(index, &function, index * WINDOW_MS / ROWS, latency_ms, 1)
    };
    let rows: Vec<_> = (0..ROWS).map(row).collect();
    let load = LoadSummary { span_ns: WINDOW_MS * MS, ..load(&rows) };
    // The fixture makes every row a frame of its own, which is slow for so many.
    let point = fixture.repetition(system, 1, &[], &load);
    let mut writer = InvocationWriter::create(&point.invocations()).unwrap();
    rows.iter().for_each(|row| writer.write(row).unwrap());
    writer.flush().unwrap();
    for repetition in 2..=5 {
        copied(fixture, (system, 1), (system, repetition));
    }
}

/// Gives one repetition the files of another.
fn copied(fixture: &Fixture, from: (&str, u32), to: (&str, u32)) {
    let (from, to) = (place(fixture, from.0, from.1), place(fixture, to.0, to.1));
    fs::create_dir_all(&to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

fn evaluated(fixture: &Fixture) -> EvaluatedClaim {
    fixture.verified();
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    let claims: Claims = read_json(&RunDir(fixture.path().to_owned()).claims()).unwrap();
    claims.claims.into_iter().find(|claim| claim.id == "azure-500-slowdown-knative").unwrap()
}

#[test]
fn slowdowns_of_a_whole_trace_hold_the_claim_and_refute_it() {
    let fixture = Fixture::new("laptop");
    replayed(&fixture, "dirigent-kpa", 2);
    replayed(&fixture, "knative", 2_200);
    let claim = evaluated(&fixture);
    assert_eq!((claim.outcome, claim.reason.as_str()), (ClaimOutcome::Held, ""), "{claim:?}");
    assert_eq!((claim.found, claim.interval), (Some(1100.0), Some((1100.0, 1100.0))), "2,200 ms over 2 ms");
    replayed(&fixture, "knative", 1_800);
    let claim = evaluated(&fixture);
    assert_eq!((claim.outcome, claim.found), (ClaimOutcome::NotHeld, Some(900.0)), "{claim:?}");
}
