//! `repro verify` of rows that waited for a sandbox whose creation was under way when they came: what proves that they did.

use record::{ColdStart, Invocation};

use crate::{
    checking::{Case, check_cases, finished, second},
    toy::rows,
};

#[test]
fn only_rows_sent_before_their_sandbox_was_ready_prove_a_cold_start() {
    let toy = finished();
    let sent_ns = i64::try_from(rows()[1].sent_ns.unwrap()).unwrap();
    // It runs 4.3 ms after it was sent.
    let cold = |row: &mut Invocation| {
        (row.cold, row.cold_us, row.sandbox) = (Some(1), Some(4000), Some("1-2".to_owned()));
        row.done_ns = row.done_ns.map(|done| done + 4_000_000);
    };
    let under_way = second(sent_ns - 2_000_000);
    let longer = |phase: Option<u64>, by_us: u64| phase.map(|us| us + by_us);
    let too_long = ColdStart { create_us: longer(under_way.create_us, 8_000), ..under_way.clone() };
    let undated = ColdStart { create_us: None, ..under_way.clone() };
    let ahead = second(sent_ns - 2_000_000_000);
    let late_publish = ColdStart { publish_us: longer(ahead.publish_us, 2_000_000), ..ahead.clone() };
    let late_round = ColdStart { net_dataplane_us: longer(ahead.net_dataplane_us, 2_000_000), ..ahead.clone() };
    let (waits, news) = ("never exceed the wait for it", "sent before their sandbox was ready on its worker");
    let (before, held, silent) = ("cold rows arrived before", (Some(0), "held"), (Some(0), "not measured"));
    let (broken, marked) = ((Some(3), "not held"), (Some(0), "marked"));
    let cases: [Case<'_>; 14] = [
        (&under_way, vec![&cold], before, held),
        (&under_way, vec![&cold], waits, held),
        (&under_way, vec![&cold], news, held),
        (&too_long, vec![&cold], before, (Some(3), "held")),
        (&too_long, vec![&cold], waits, broken),
        (&under_way, vec![&cold, &|row| row.exec_us = None], waits, silent),
        (&undated, vec![&cold], waits, silent),
        (&undated, vec![&cold], news, silent),
        (&under_way, vec![&cold, &|row| row.cold = None], news, silent),
        (&late_publish, vec![&cold], before, held),
        (&late_publish, vec![&cold], news, marked),
        (&late_round, vec![&cold], before, held),
        (&late_round, vec![&cold], waits, held),
        (&late_round, vec![&cold], news, marked),
    ];
    check_cases(&toy, cases);
}
