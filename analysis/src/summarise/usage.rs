//! What each process used, per invocation.

use record::{ProcessSummary, ProcessUsage};

/// `sent` is the number of measured invocations that were sent.
pub(crate) fn processes(usage: Vec<ProcessUsage>, sent: u64) -> Vec<ProcessSummary> {
    usage
        .into_iter()
        .map(|process| {
            let cpu_us = process.cpu_user_us + process.cpu_sys_us;
            ProcessSummary {
                process: process.process,
                cpu_us,
                cpu_us_per_invocation: (sent > 0).then(|| cpu_us as f64 / sent as f64),
                rss_bytes: process.rss_bytes,
                ctx_switches: process.ctx_switches,
            }
        })
        .collect()
}
