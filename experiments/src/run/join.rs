//! Coldness of rows whose system does not report it in responses: rows are joined to the creations that the system
//! recorded, by the sandbox that responded.
//!
//! A row is cold when its sandbox became ready only after the row was sent; it is warm when the sandbox was ready
//! before. A row without a sandbox, or with one without a creation, stays unknown.

use std::{collections::HashMap, fs};

use anyhow::Context;
use record::{ColdStart, Invocation, InvocationReader, InvocationWriter, PointDir, read_table};

/// Fills the column `cold` of a point's rows from its creations; returns the number of rows that were filled. The file is
/// replaced when all are written.
///
/// # Errors
/// If a file is missing, malformed, or cannot be written: the rows are as they were then.
pub fn rows_to_creations(point: &PointDir) -> anyhow::Result<usize> {
    let creations: Vec<ColdStart> = read_table(&point.coldstarts())?;
    let ready: HashMap<(&str, &str), i64> = creations
        .iter()
        .filter_map(|row| Some(((row.function.as_str(), row.sandbox.as_str()), ready_ns(row)?)))
        .collect();
    let path = point.invocations();
    let joined = path.with_extension("joining");
    let mut writer = InvocationWriter::create(&joined)?;
    let mut filled = 0;
    for row in InvocationReader::open(&path)? {
        let mut row = row?;
        if row.cold.is_none() {
            row.cold = coldness(&row, &ready);
            filled += usize::from(row.cold.is_some());
        }
        writer.write(&row)?;
    }
    writer.flush()?;
    drop(writer);
    fs::rename(&joined, &path).with_context(|| format!("replacing {}", path.display()))?;
    Ok(filled)
}

fn coldness(row: &Invocation, ready: &HashMap<(&str, &str), i64>) -> Option<u8> {
    let ready_ns = *ready.get(&(row.function.as_str(), row.sandbox.as_deref()?))?;
    let sent_ns = i64::try_from(row.sent_ns?).ok()?;
    Some(u8::from(ready_ns >= sent_ns))
}

/// Instant at which a creation was ready, in nanoseconds from the run's start.
fn ready_ns(row: &ColdStart) -> Option<i64> {
    let us = i64::try_from(row.to_ready_us()?).ok()?;
    Some(row.requested_ns.saturating_add(us.saturating_mul(1000)))
}

#[cfg(test)]
mod tests {
    use record::{Outcome, Phase, RunDir, TableWriter};

    use super::*;

    fn creation(function: &str, sandbox: &str, requested_ms: i64) -> ColdStart {
        ColdStart {
            function: function.to_owned(),
            sandbox: sandbox.to_owned(),
            node: "n".to_owned(),
            requested_ns: requested_ms * 1_000_000,
            decide_us: Some(15_000),
            place_us: Some(5_000),
            dispatch_us: None,
            create_us: Some(40_000),
            ready_us: Some(5_000),
            publish_us: Some(10_000),
            net_worker_us: None,
            net_dataplane_us: None,
            outcome: record::CreationOutcome::Ready,
            create_steps: None,
        }
    }

    fn row(index: u64, function: &str, sandbox: Option<&str>, sent_ms: u64) -> Invocation {
        Invocation {
            function: function.to_owned(),
            index,
            phase: Phase::Measured,
            scheduled_ns: sent_ms * 1_000_000,
            sent_ns: Some(sent_ms * 1_000_000),
            first_byte_ns: None,
            done_ns: None,
            requested_us: 0,
            memory_mib: 0,
            executed_us: None,
            queue_us: None,
            cold_us: None,
            exec_us: None,
            status: Some(200),
            outcome: Outcome::Ok,
            cold: None,
            sandbox: sandbox.map(str::to_owned),
            attempts: None,
            error: None,
            address: None,
        }
    }

    #[test]
    fn a_row_is_cold_when_its_own_sandbox_was_ready_only_later() {
        let folder = tempfile::tempdir().unwrap();
        let point = RunDir(folder.path().to_owned()).point("s", "p", 1);
        fs::create_dir_all(&point.path).unwrap();
        let mut creations = TableWriter::create(&point.coldstarts()).unwrap();
        creations.write(&creation("f", "f-1", 100)).unwrap();
        creations.flush().unwrap();
        let mut rows = InvocationWriter::create(&point.invocations()).unwrap();
        for row in [
            row(0, "f", Some("f-1"), 90),
            row(1, "f", Some("f-1"), 160),
            row(2, "f", Some("f-1"), 200),
            row(3, "g", Some("f-1"), 90),
            row(4, "f", Some("f-2"), 90),
            row(5, "f", None, 90),
            Invocation { cold: Some(0), ..row(6, "f", Some("f-1"), 90) },
        ] {
            rows.write(&row).unwrap();
        }
        rows.flush().unwrap();
        drop(rows);
        assert_eq!(rows_to_creations(&point).unwrap(), 3);
        let read: Vec<_> = InvocationReader::open(&point.invocations()).unwrap().map(|row| row.unwrap().cold).collect();
        let expected = [Some(1), Some(1), Some(0), None, None, None, Some(0)];
        assert_eq!(
            read, expected,
            "cold, cold with the sandbox under way, warm, another's, unknown, none, said already"
        );
    }
}
