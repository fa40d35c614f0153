//! Cold starts as the client saw them, and their join to the system's own record of creations.

use std::collections::{HashMap, HashSet};

use record::{ColdJoin, ColdStart, ColdSummary, CreationPhase, Outcome};

use crate::{
    rows::{ColdRow, Row, Rows},
    spread::{signed, spread},
};

/// `delay_ns`: the modelled start time of a sandbox, if it is modelled.
pub(crate) fn summary(rows: &Rows, creations: Option<&[ColdStart]>, delay_ns: Option<u64>) -> ColdSummary {
    let known = rows.measured.iter().filter(|row| row.cold.is_some()).count() as u64;
    let cold = rows.cold.len() as u64;
    let by_sandbox: Option<HashMap<&str, &ColdStart>> =
        creations.map(|creations| creations.iter().map(|row| (row.sandbox.as_str(), row)).collect());
    let cold_rows = || rows.measured.iter().filter(|row| row.cold == Some(true)).zip(&rows.cold);
    let ok = || cold_rows().filter(|(row, _)| row.outcome == Outcome::Ok);
    // Who waited for less than a whole creation says nothing of what a creation adds to the modelled start.
    let whole = || {
        ok().filter(|(_, cold)| {
            by_sandbox.as_ref().is_none_or(|known| {
                let creation = cold.sandbox.as_deref().and_then(|sandbox| known.get(sandbox));
                creation.is_some_and(|creation| !begun_earlier(cold, creation))
            })
        })
    };
    ColdSummary {
        known,
        cold,
        share: (known > 0).then(|| cold as f64 / known as f64),
        latency_ns: spread(ok().filter_map(|(row, _)| row.latency_ns()).map(signed).collect()),
        wait_us: spread(rows.cold.iter().filter_map(|row| row.wait_us).map(signed).collect()),
        overhead_permille: delay_ns
            .and_then(|delay_ns| spread(whole().filter_map(|(row, _)| overhead_permille(row, delay_ns)).collect())),
        join: by_sandbox.as_ref().and_then(|by_sandbox| join(&rows.cold, by_sandbox)),
    }
}

/// Returns true if the creation that a row waited for had begun before the row was sent.
fn begun_earlier(row: &ColdRow, creation: &ColdStart) -> bool {
    row.sent_ns.is_some_and(|sent| creation.requested_ns < signed(sent))
}

fn join(cold: &[ColdRow], by_sandbox: &HashMap<&str, &ColdStart>) -> Option<ColdJoin> {
    // A system that does not name sandboxes has no join, which differs from one in which nothing could be joined.
    if cold.iter().all(|row| row.sandbox.is_none()) {
        return None;
    }
    let (mut join, mut served) = (ColdJoin::default(), HashSet::new());
    let (mut residuals, mut own, mut shares) = (Vec::new(), Vec::new(), Vec::new());
    for row in cold {
        let creation = row.sandbox.as_deref().and_then(|sandbox| by_sandbox.get(sandbox));
        join.repeated += u64::from(row.sandbox.as_deref().is_some_and(|sandbox| !served.insert(sandbox)));
        let Some(creation) = creation else {
            join.unjoined += 1;
            continue;
        };
        join.joined += 1;
        let begun_earlier = begun_earlier(row, creation);
        join.begun_earlier += u64::from(begun_earlier);
        let (Some(wait), Some(phases)) = (row.wait_us, phases_us(creation)) else { continue };
        residuals.push(signed(wait) - phases);
        if !begun_earlier {
            own.push(signed(wait) - phases);
            shares.extend(manager_share_permille(wait, creation));
        }
    }
    (join.residual_us, join.residual_own_us) = (spread(residuals), spread(own));
    join.manager_share_permille = spread(shares);
    Some(join)
}

/// The part of a row's latency, without its execution, that is not the modelled start of its sandbox, in thousandths.
fn overhead_permille(row: &Row, delay_ns: u64) -> Option<i64> {
    let waited_ns = row.scheduling_ns().filter(|waited_ns| *waited_ns > 0)?;
    Some(1_000 - signed(delay_ns).saturating_mul(1_000) / waited_ns)
}

/// Sum of the measured phases that an invocation waits for; `None` when none was measured. `net_dataplane` is not one of
/// them: it holds the way back of the data plane's acknowledgement.
fn phases_us(creation: &ColdStart) -> Option<i64> {
    let waited_for = CreationPhase::ALL.into_iter().filter(|phase| *phase != CreationPhase::NetDataPlane);
    waited_for.filter_map(|phase| creation.phase_us(phase)).map(signed).reduce(i64::saturating_add)
}

/// The part of the wait that is not the sandbox's own start, in thousandths.
fn manager_share_permille(wait_us: u64, creation: &ColdStart) -> Option<i64> {
    let start_us = creation.create_us?.saturating_add(creation.ready_us.unwrap_or(0));
    (wait_us > 0).then(|| 1_000 - signed(start_us.saturating_mul(1_000) / wait_us))
}
