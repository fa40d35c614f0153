//! Collects the results of a system after the load: its creations, its nodes, and the resources of its processes.

use std::{fs, path::Path};

use anyhow::{Context, bail};
use record::{Action, ColdStart, LoadSummary, NodeUsage, PointDir, SampledWindow, TableWriter, read_table};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    definition::template::Values,
    machine::{disk, usage},
    system::{NodesSource, readiness},
};

/// Copies the rows of creations that `from` holds, their times turned into nanoseconds from the run's start.
///
/// # Errors
/// If the file is missing or malformed, or the copy cannot be written.
pub fn coldstarts(from: &Path, to: &PointDir, started_unix_ns: i64) -> anyhow::Result<usize> {
    copy(from, &to.coldstarts(), |row: &mut ColdStart| {
        row.requested_ns = row.requested_ns.saturating_sub(started_unix_ns);
    })
}

/// Copies the rows of a table, each changed by `adjust`; returns their number.
fn copy<T: Serialize + DeserializeOwned>(from: &Path, to: &Path, adjust: impl Fn(&mut T)) -> anyhow::Result<usize> {
    let mut rows: Vec<T> = read_table(from)?;
    let mut writer = TableWriter::create(to)?;
    for row in &mut rows {
        adjust(row);
        writer.write(row)?;
    }
    writer.flush()?;
    Ok(rows.len())
}

/// Copies the actions of a system's components, with times as in [`coldstarts`]; returns their number.
///
/// # Errors
/// If the file is malformed, or the copy cannot be written.
pub fn actions(from: &Path, to: &PointDir, started_unix_ns: i64) -> anyhow::Result<usize> {
    if !from.exists() {
        return Ok(0);
    }
    copy(from, &to.actions(), |row: &mut Action| row.at_ns = row.at_ns.saturating_sub(started_unix_ns))
}

/// Copies a file as it is, under its own name.
///
/// # Errors
/// If it is missing or cannot be copied.
pub fn keep(from: &Path, to: &PointDir) -> anyhow::Result<()> {
    let name = from.file_name().context("a file has a name")?;
    fs::copy(from, to.path.join(name)).map(drop).with_context(|| format!("copying {}", from.display()))
}

/// Requests the list of nodes from a system and writes it.
///
/// # Errors
/// If it does not respond, or the response lacks what its table in `systems.toml` points to.
pub fn nodes(source: &NodesSource, values: &Values, to: &PointDir) -> anyhow::Result<usize> {
    let address = values.expand(&source.http)?;
    let (status, body) = readiness::get(&address).with_context(|| format!("asking {address}"))?;
    if status != 200 {
        bail!("{address} responds with status {status}");
    }
    let nodes = parse_nodes(source, &body).with_context(|| format!("reading the response of {address}"))?;
    let mut writer = TableWriter::create(&to.nodes())?;
    for node in &nodes {
        writer.write(node)?;
    }
    writer.flush()?;
    Ok(nodes.len())
}

fn parse_nodes(source: &NodesSource, body: &str) -> anyhow::Result<Vec<NodeUsage>> {
    let response: Value = serde_json::from_str(body)?;
    let list = response.pointer(&source.list).and_then(Value::as_array);
    let list = list.with_context(|| format!("no list at {:?}", source.list))?;
    let text = |node: &Value, pointer: &str| -> anyhow::Result<String> {
        let found = node.pointer(pointer).and_then(Value::as_str);
        found.map(str::to_owned).with_context(|| format!("no text at {pointer:?} in {node}"))
    };
    let count = |node: &Value, pointer: &str| -> anyhow::Result<u64> {
        let found = node.pointer(pointer).and_then(Value::as_u64);
        found.with_context(|| format!("no count at {pointer:?} in {node}"))
    };
    list.iter()
        .map(|node| {
            Ok(NodeUsage {
                node: text(node, &source.name)?,
                state: text(node, &source.state)?,
                sandboxes: count(node, &source.sandboxes)?,
                cpu_reserved_millicores: count(node, &source.cpu_reserved_millicores)?,
                memory_reserved_mib: count(node, &source.memory_reserved_mib)?,
            })
        })
        .collect()
}

/// Writes the resource usage of every process over the measured part; `None` if too few samples are in it.
///
/// # Errors
/// If the file cannot be written.
pub fn processes(
    samples: &[usage::Sample],
    load: &LoadSummary,
    warmup_ns: i64,
    to: &PointDir,
) -> anyhow::Result<Option<SampledWindow>> {
    let from = load.started_unix_ns.saturating_add(warmup_ns);
    let end = load.started_unix_ns.saturating_add(i64::try_from(load.span_ns).unwrap_or(i64::MAX));
    let Some((first, last)) = usage::window(samples, from, end) else { return Ok(None) };
    let mut writer = TableWriter::create(&to.processes())?;
    for row in usage::rows(first, last) {
        writer.write(&row)?;
    }
    writer.flush()?;
    let (machine, disks) = (usage::machine_time(first, last), disk::between(&first.disks, &last.disks));
    Ok(Some(SampledWindow { from_unix_ns: first.unix_ns, to_unix_ns: last.unix_ns, machine, disks }))
}

#[cfg(test)]
mod tests {
    use record::RunDir;

    use super::*;

    fn source() -> NodesSource {
        toml::from_str(
            "http = \"x\"\nname = \"/name\"\nstate = \"/state\"\nsandboxes = \"/sandboxes\"\n\
             cpu_reserved_millicores = \"/reserved/cpu\"\nmemory_reserved_mib = \"/reserved/memory\"",
        )
        .unwrap()
    }

    #[test]
    fn nodes_are_found_by_their_pointers() {
        let body = r#"[{"name":"n1","state":"ready","sandboxes":3,"reserved":{"cpu":300,"memory":64}}]"#;
        let expected = NodeUsage {
            node: "n1".to_owned(),
            state: "ready".to_owned(),
            sandboxes: 3,
            cpu_reserved_millicores: 300,
            memory_reserved_mib: 64,
        };
        assert_eq!(parse_nodes(&source(), body).unwrap(), [expected]);
        let missing = parse_nodes(&source(), r#"[{"name":"n1","state":"ready"}]"#).unwrap_err().to_string();
        assert!(missing.starts_with("no count at \"/sandboxes\" in "), "{missing}");
        assert_eq!(parse_nodes(&source(), "{}").unwrap_err().to_string(), "no list at \"\"");
    }

    #[test]
    fn creations_are_timed_from_the_start_of_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let from = folder.path().join("from.csv");
        let header = "function,sandbox,node,requested_ns,decide_us,place_us,dispatch_us,create_us,ready_us,publish_us,\
                      net_worker_us,net_dataplane_us,outcome,create_steps";
        std::fs::write(&from, format!("{header}\nf,1-1,n,1500,1,2,3,4,5,6,,,ready,\ng,1-2,n,900,,,,,,,,,failed,\n"))
            .unwrap();
        let point = RunDir(folder.path().to_owned()).point("s", "p", 1);
        std::fs::create_dir_all(&point.path).unwrap();
        assert_eq!(coldstarts(&from, &point, 1000).unwrap(), 2);
        let rows: Vec<ColdStart> = read_table(&point.coldstarts()).unwrap();
        assert_eq!((rows[0].requested_ns, rows[1].requested_ns), (500, -100));
        assert_eq!((rows[0].create_us, rows[1].create_us), (Some(4), None));
    }

    #[test]
    fn actions_are_timed_from_the_start_of_the_run_and_need_not_exist() {
        let folder = tempfile::tempdir().unwrap();
        let point = RunDir(folder.path().to_owned()).point("s", "p", 1);
        std::fs::create_dir_all(&point.path).unwrap();
        let from = folder.path().join("from.csv");
        assert_eq!(actions(&from, &point, 1000).unwrap(), 0);
        assert!(!point.actions().exists());
        let header = "function,actor,action,object,at_ns,took_us,bytes,status";
        std::fs::write(
            &from,
            format!("{header}\nf,scheduler,create,pods/binding,1500,7,,201\nf,store,put,pods,900,,80,\n"),
        )
        .unwrap();
        assert_eq!(actions(&from, &point, 1000).unwrap(), 2);
        let rows: Vec<Action> = read_table(&point.actions()).unwrap();
        assert_eq!((rows[0].at_ns, rows[0].took_us, rows[0].status), (500, Some(7), Some(201)));
        assert_eq!((rows[1].at_ns, rows[1].bytes, rows[1].status), (-100, Some(80), None));
    }
}
