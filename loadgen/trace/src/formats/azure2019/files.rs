//! The files of a trace in a directory: by the names that samplers give them, or as they are downloaded, with a day.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{DURATIONS, INVOCATIONS, MEMORY};
use crate::{TraceError, formats::with_cause};

/// Prefixes of the published files' names; a day of two digits and `.csv` follow.
const DOWNLOADED: [&str; 3] =
    ["invocations_per_function_md.anon.d", "function_durations_percentiles.anon.d", "app_memory_percentiles.anon.d"];
/// Most names of other files that a message lists.
const MAX_LISTED: usize = 10;
/// Bytes in which the header of a file in another form ends: it has four short names.
const MAX_HEADER_BYTES: u64 = 4096;
/// A column that only files in another form have, and how such a file is given.
const OTHER_FORMS: [(&str, &str); 2] = [
    ("end_timestamp", "has every call with its start: --trace takes the file itself"),
    ("setting", "is a schedule: --schedule takes it"),
];

/// The files of one trace.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) counts: PathBuf,
    pub(super) run_times: PathBuf,
    /// The published trace has none for its last days.
    pub(super) memory: Option<PathBuf>,
}

/// Succeeds if a directory has counts of this format, under either name; otherwise returns what was found.
pub(super) fn detect(directory: &Path) -> Result<(), String> {
    if !directory.is_dir() {
        return Err("expected a directory, found a file".to_owned());
    }
    let names = names(directory).map_err(|error| with_cause(&error))?;
    let has_counts = |name: &String| name == INVOCATIONS || name.starts_with(DOWNLOADED[0]);
    if names.iter().any(has_counts) {
        return Ok(());
    }
    Err(with_hint(directory, &names, choose(&names, None).err().unwrap_or_default()))
}

/// Finds the trace in `directory`; `day` chooses one of those downloaded.
pub(super) fn find(directory: &Path, day: Option<u32>) -> Result<Files, TraceError> {
    let names = names(directory)?;
    let refused = |problem| TraceError::Folder { path: directory.to_owned(), problem };
    let wanted = if names.contains(INVOCATIONS) && day.is_none() {
        [INVOCATIONS, DURATIONS, MEMORY].map(str::to_owned)
    } else {
        let day = choose(&names, day).map_err(|problem| refused(with_hint(directory, &names, problem)))?;
        DOWNLOADED.map(|start| format!("{start}{day:02}.csv"))
    };
    let [counts, run_times, memory] = wanted;
    for name in [&counts, &run_times] {
        if !names.contains(name) {
            return Err(refused(format!("expected {name} beside the others, found {}", listed(&names))));
        }
    }
    let memory = names.contains(&memory).then(|| directory.join(memory));
    Ok(Files { counts: directory.join(counts), run_times: directory.join(run_times), memory })
}

fn choose(names: &BTreeSet<String>, day: Option<u32>) -> Result<u32, String> {
    let of_counts =
        names.iter().filter_map(|name| name.strip_prefix(DOWNLOADED[0])?.strip_suffix(".csv")?.parse().ok());
    let days: Vec<u32> = of_counts.collect();
    let found = || days.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    match (day, &days[..]) {
        (None, []) => {
            let own = [INVOCATIONS, DURATIONS, MEMORY].join(", ");
            let downloaded = format!("{}NN.csv", DOWNLOADED[0]);
            Err(format!("expected {own}, or {downloaded} and the like as downloaded, found {}", listed(names)))
        }
        (Some(day), _) if days.contains(&day) => Ok(day),
        (Some(day), []) => Err(format!("expected files of day {day} as downloaded, found {}", listed(names))),
        (Some(day), _) => Err(format!("expected files of day {day}, found days {}: --day chooses one", found())),
        (None, [day]) => Ok(*day),
        (None, _) => Err(format!("expected one day, found days {}: --day chooses one", found())),
    }
}

/// The problem, and how to give a file in another form that the directory has.
fn with_hint(directory: &Path, names: &BTreeSet<String>, problem: String) -> String {
    other_form(directory, names).map_or_else(|| problem.clone(), |hint| format!("{problem}; {hint}"))
}

/// A hint for a file in another format, if the directory has one.
fn other_form(directory: &Path, names: &BTreeSet<String>) -> Option<String> {
    names.iter().take(MAX_LISTED).find_map(|name| {
        let path = directory.join(name);
        // Anything else, such as a pipe, might never end.
        let file = path.is_file().then(|| File::open(&path).ok()).flatten()?;
        let mut start = Vec::new();
        file.take(MAX_HEADER_BYTES).read_to_end(&mut start).ok()?;
        let start = String::from_utf8_lossy(&start);
        let header = start.lines().next()?.trim_start_matches('\u{feff}');
        let has = |column: &str| header.split(',').any(|cell| cell.trim().trim_matches('"') == column);
        let (_, hint) = OTHER_FORMS.into_iter().find(|(column, _)| has(column))?;
        Some(format!("{name} {hint}, {}", path.display()))
    })
}

fn names(directory: &Path) -> Result<BTreeSet<String>, TraceError> {
    let list = || -> io::Result<BTreeSet<String>> {
        fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
    };
    list().map_err(|source| TraceError::File { path: directory.to_owned(), source })
}

fn listed(names: &BTreeSet<String>) -> String {
    let shown: Vec<&str> = names.iter().take(MAX_LISTED).map(String::as_str).collect();
    match names.len() {
        0 => "nothing".to_owned(),
        count if count > MAX_LISTED => format!("{} and {} more", shown.join(", "), count - MAX_LISTED),
        _ => shown.join(", "),
    }
}
