//! `invocations.csv`: how often each function was invoked in each minute.

use std::{collections::HashMap, path::Path};

use super::{DUPLICATES_HINT, Duplicates, Identity, Missing, ReadOptions};
use crate::{
    TraceError,
    table::{Column, Row, Table, row_error},
};

/// Most minutes of one trace: two weeks, the length of the published one.
const MAX_MINUTES: usize = 20_160;
/// Most functions of one trace: twenty times the published one.
const MAX_FUNCTIONS: usize = 1_000_000;
/// Most invocations of one function in one minute: 1.7 million per second, beyond any platform; with the two bounds
/// above, sums over a trace fit 64 bits.
const MAX_COUNT: u64 = 100_000_000;
/// Greatest label of a minute; far above the last minute of a year, and far from overflow.
const MAX_LABEL: u32 = 10_000_000;

/// The message about a cell without a count.
const EMPTY_REFUSED: &str = "expected a count, found none: --missing drop leaves such functions out, \
                             --missing default takes such counts as 0";

/// One function's counts.
pub(super) struct CountRow {
    pub(super) identity: Identity,
    pub(super) trigger: String,
    pub(super) counts: Vec<u32>,
    /// Line in the file.
    pub(super) number: u64,
}

/// The whole file.
pub(super) struct Counts {
    pub(super) rows: Vec<CountRow>,
    pub(super) minutes: u32,
    pub(super) first_minute: u32,
    pub(super) ignored: Vec<String>,
    /// Rows of a function that had one before.
    pub(super) duplicates: usize,
    /// Cells without a count, taken as 0.
    pub(super) empty: usize,
    /// Functions left out for a cell without a count.
    pub(super) dropped: usize,
}

pub(super) fn read(path: &Path, options: &ReadOptions) -> Result<Counts, TraceError> {
    let mut table = Table::open(path)?;
    let parts = [table.column("HashOwner")?, table.column("HashApp")?, table.column("HashFunction")?];
    let trigger = table.optional("Trigger");
    let minutes = table.numbered();
    let first_minute = check_labels(&table, &minutes.iter().map(|&(label, _)| label).collect::<Vec<_>>())?;
    let ignored = table.ignored(&[]);
    let mut found = Counts {
        rows: Vec::new(),
        minutes: u32::try_from(minutes.len()).expect("the bound on minutes fits 32 bits"),
        first_minute,
        ignored,
        duplicates: 0,
        empty: 0,
        dropped: 0,
    };
    let mut positions: HashMap<Identity, usize> = HashMap::new();
    while let Some(row) = table.next_row()? {
        let identity = [row.name(parts[0])?, row.name(parts[1])?, row.name(parts[2])?];
        let Some(counts) = found.counts(&row, &minutes, options.missing)? else {
            found.dropped += 1;
            continue;
        };
        if let Some(&position) = positions.get(&identity) {
            found.duplicates += 1;
            match options.duplicates {
                Duplicates::Refuse => {
                    let problem =
                        format!("expected each function once, found {} again: {DUPLICATES_HINT}", identity.join("/"));
                    return Err(row.error(parts[2], problem));
                }
                Duplicates::First => {}
                Duplicates::Merge => add(&mut found.rows[position].counts, &counts),
            }
            continue;
        }
        if found.rows.len() == MAX_FUNCTIONS {
            return Err(row.row_error(format!("expected at most {MAX_FUNCTIONS} functions, found more")));
        }
        let trigger = trigger.map(|column| row.text(column)).transpose()?.unwrap_or_default().to_owned();
        positions.insert(identity.clone(), found.rows.len());
        found.rows.push(CountRow { identity, trigger, counts, number: row.number() });
    }
    if found.rows.is_empty() {
        return Err(row_error(path, 2, "expected at least one function, found none".to_owned()));
    }
    Ok(found)
}

impl Counts {
    /// The counts of a row; nothing when one is missing and the function is to be dropped.
    fn counts(
        &mut self,
        row: &Row<'_>,
        minutes: &[(u32, Column)],
        missing: Missing,
    ) -> Result<Option<Vec<u32>>, TraceError> {
        let mut counts = Vec::with_capacity(minutes.len());
        for &(_, column) in minutes {
            if row.is_missing(column)? {
                match missing {
                    Missing::Refuse => {
                        return Err(row.error(column, EMPTY_REFUSED.to_owned()));
                    }
                    Missing::Drop => return Ok(None),
                    Missing::Default => self.empty += 1,
                }
                counts.push(0);
            } else {
                counts.push(u32::try_from(row.whole(column, MAX_COUNT)?).expect("the bound on a count fits 32 bits"));
            }
        }
        Ok(Some(counts))
    }
}

/// Adds the counts of a second row of a function, each held within the bound of one.
fn add(counts: &mut [u32], more: &[u32]) {
    let most = u32::try_from(MAX_COUNT).expect("the bound on a count fits 32 bits");
    for (count, more) in counts.iter_mut().zip(more) {
        *count = count.saturating_add(*more).min(most);
    }
}

/// The labels, sorted, have to be consecutive; gives the first.
fn check_labels(table: &Table<'_>, labels: &[u32]) -> Result<u32, TraceError> {
    let Some(&first) = labels.first() else {
        return Err(table.header_error(
            "1",
            "expected columns named by minute (1, 2, … or minute_1, minute_2, …), found none".to_owned(),
        ));
    };
    if labels.len() > MAX_MINUTES {
        let problem = format!("expected at most {MAX_MINUTES} minutes, found {}", labels.len());
        return Err(table.header_error(&first.to_string(), problem));
    }
    for (expected, &label) in (first..).zip(labels) {
        if label > MAX_LABEL {
            return Err(table.header_error(&label.to_string(), format!("expected a minute up to {MAX_LABEL}")));
        }
        if label != expected {
            let problem = format!("expected minutes without gaps or repeats, found {label} where {expected} is next");
            return Err(table.header_error(&expected.to_string(), problem));
        }
    }
    Ok(first)
}
