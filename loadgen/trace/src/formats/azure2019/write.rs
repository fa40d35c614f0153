//! Writing a workload in the Azure 2019 form, so that generated and sampled traces can be read by others, and again by
//! us.

use std::{fs, path::Path};

use csv::Writer;

use super::{DURATIONS, INVOCATIONS, MEMORY};
use crate::{FunctionProfile, Memory, RunTime, TraceError, Workload, table::refusal};

/// Writes the three files into `directory`, which is made when it does not exist. Reading them gives the same workload.
///
/// # Errors
/// [`TraceError::File`] when a file cannot be written.
pub fn write(directory: &Path, workload: &Workload) -> Result<(), TraceError> {
    fs::create_dir_all(directory).map_err(|source| TraceError::File { path: directory.to_owned(), source })?;
    let minutes = (workload.first_minute..).take(workload.minutes as usize).map(|label| label.to_string());
    let header = ["HashOwner", "HashApp", "HashFunction", "Trigger"].map(str::to_owned).into_iter().chain(minutes);
    write_table(&directory.join(INVOCATIONS), header.collect(), workload, |function| {
        let counts = function.counts.iter().map(u32::to_string);
        identity(function).into_iter().chain([function.trigger.clone()]).chain(counts).collect()
    })?;
    let header = ["HashOwner", "HashApp", "HashFunction", "Average", "Count", "Minimum", "Maximum"].map(str::to_owned);
    let percentiles = RunTime::PERCENTILES.map(|percentile| format!("percentile_Average_{percentile}"));
    write_table(&directory.join(DURATIONS), header.into_iter().chain(percentiles).collect(), workload, |function| {
        let values = function.run_time.values_ms();
        let average = function.run_time.average_ms.map(|average| average.to_string()).unwrap_or_default();
        let summary = [average, function.total().to_string(), values[0].to_string(), values[6].to_string()];
        identity(function).into_iter().chain(summary).chain(values.map(|value| value.to_string())).collect()
    })?;
    let header = ["HashOwner", "HashApp", "HashFunction", "SampleCount", "AverageAllocatedMb"].map(str::to_owned);
    let percentiles = Memory::PERCENTILES.map(|percentile| format!("AverageAllocatedMb_pct{percentile}"));
    write_table(&directory.join(MEMORY), header.into_iter().chain(percentiles).collect(), workload, |function| {
        let summary = [function.total().to_string(), function.memory.mean_mib().to_string()];
        let values = function.memory.values_mib().map(|value| value.to_string());
        identity(function).into_iter().chain(summary).chain(values).collect()
    })
}

fn identity(function: &FunctionProfile) -> [String; 3] {
    [function.owner.clone(), function.app.clone(), function.function.clone()]
}

fn write_table(
    path: &Path,
    header: Vec<String>,
    workload: &Workload,
    row: impl Fn(&FunctionProfile) -> Vec<String>,
) -> Result<(), TraceError> {
    let mut writer = Writer::from_path(path).map_err(|error| refusal(path, error))?;
    for record in std::iter::once(header).chain(workload.functions.iter().map(row)) {
        writer.write_record(&record).map_err(|error| refusal(path, error))?;
    }
    writer.flush().map_err(|source| TraceError::File { path: path.to_owned(), source })
}
