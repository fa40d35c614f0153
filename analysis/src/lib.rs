//! Turns the files of a run into statistics, claim outcomes, figures and a page.
//!
//! Everything is computed from the raw rows, never from the histograms a live view shows. Reads only record files, so
//! that a run can be analysed on any machine with nothing else built.

mod claims;
mod compare;
mod curves;
mod evaluate;
mod export;
mod figure;
mod format;

mod colours;
mod output;
mod page;
mod plan;
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
mod verification;

pub use compare::{Change, ChangeKind, Comparison, compare};
pub use export::{ExportError, ExportTable, export};
pub use figure::{FigureName, Palette};

pub use output::{claims::print_claims, comparison::print_comparison, print_summary};
pub use read::ReadError;
pub use report::{ReportError, RunReport, draw_figure, evaluate_claims, write_report};
pub use run::Run;

/// Git revision this was built from, `-dirty` appended when files differed from it.
pub const GIT_REVISION: &str = env!("SOURCE_REVISION");
