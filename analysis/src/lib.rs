//! Turns the files of a run into statistics, verdicts, figures and a page.
//!
//! Everything is computed from the raw rows, never from the histograms a live view shows. Reads only record files, so
//! that a run can be analysed on any machine with nothing else built.

mod claims;
mod columns;
mod compare;
mod curves;
mod design;
mod export;
mod figure;
mod format;
mod judge;
mod judged;
mod output;
mod page;
mod palette;
mod published;
mod rates;
mod read;
mod report;
mod rows;
mod run;
mod series;
mod spread;
mod statistic;
mod summarise;
mod timeout;
mod verification;

pub use compare::{Change, ChangeKind, Comparison, compare};
pub use export::{ExportError, ExportTable, export};
pub use figure::{FigureName, Ink};
pub use judged::{print_claims, print_comparison};
pub use output::{TableFormat, print_summary};
pub use read::ReadError;
pub use report::{Report, ReportError, draw_figure, judge_claims, write_report};
pub use run::Run;
pub use timeout::Timeouts;

/// Git revision this was built from, `-dirty` appended when files differed from it.
pub const GIT_REVISION: &str = env!("SOURCE_REVISION");
