//! Writes what a run is read by: `summary.json`, `claims.json`, the page and the figures.

mod staging;

use std::{io, path::PathBuf};

use record::{Claims, RatePoint, RecordError, SCHEMA_VERSION, Summary};
use thiserror::Error;

use self::staging::Staging;
use crate::{
    FigureName, GIT_REVISION, Palette, ReadError, Run, evaluate,
    figure::{self, FigureData},
    page::Page,
    published, rates,
    series::Series,
    summarise::PointResult,
    verification::Verification,
};

/// A report could not be made.
#[derive(Debug, Error)]
pub enum ReportError {
    /// The run could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file of the report could not be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A JSON document of the report could not be written.
    #[error("cannot write the report")]
    Document(#[source] RecordError),
}

/// The computed results, and the path of the page.
#[derive(Debug)]
pub struct RunReport {
    /// Every repetition's statistics.
    pub summary: Summary,
    /// Every claim about the experiment, evaluated.
    pub claims: Claims,
    /// Every broken invariant of the run, in a line each.
    pub broken: Vec<String>,
    /// `report/index.html`.
    pub page: PathBuf,
}

/// Computes everything about the run and writes it into the run's directory. What an earlier call wrote stays until all is
/// written, and is replaced then.
///
/// # Errors
/// If a file of the run cannot be read or one of the report cannot be written.
pub fn write_report(run: &Run) -> Result<RunReport, ReportError> {
    let results = run.summarise()?;
    let settings = run.settings()?;
    let verification = Verification::read(run)?;
    let plan = run.plan();
    let claims = evaluate::evaluate(&run.manifest, &Series::group(&results), &verification);
    // Claims apply invariants themselves, with reasons; page and tables show what is left.
    let results = verification.applied(results);
    let series = Series::group(&results);
    let summary = summary(run, &results);
    let staging = Staging::begin(&run.dir)?;
    staging.documents(&summary, &claims)?;

    let published = published::about(&run.manifest.experiment);
    let shown = shown(&series, &summary.rates);
    let data = FigureData { series: &shown, published: &published, rates: &summary.rates };
    let figures = draw_figures(&staging, FigureName::of(plan), &data)?;
    let page = Page {
        manifest: &run.manifest,
        plan,
        settings: &settings,
        summary: &summary,
        series: &shown,
        claims: &claims,
        verification: &verification,
        published: &published,
        figures: &figures,
    };
    staging.write_page(&page.render())?;
    let path = staging.page();
    staging.finish()?;
    let broken = verification.broken().map(|one| format!("{}: {}", one.scope, one.sentence())).collect();
    Ok(RunReport { summary, claims, broken, page: path })
}

/// Judges every claim about the run's experiment, and writes nothing.
///
/// # Errors
/// If a file of the run cannot be read.
pub fn evaluate_claims(run: &Run) -> Result<Claims, ReadError> {
    let results = run.summarise()?;
    let verification = Verification::read(run)?;
    Ok(evaluate::evaluate(&run.manifest, &Series::group(&results), &verification))
}

/// Each figure as the page holds it, or why there is none; those that can be drawn are also written for a paper.
type Figures = Vec<(FigureName, Result<String, String>)>;

fn draw_figures(staging: &Staging<'_>, names: &[FigureName], data: &FigureData<'_>) -> Result<Figures, ReportError> {
    let mut figures = Vec::new();
    for name in names {
        if let Ok(svg) = figure::draw(*name, data, Palette::Paper) {
            staging.write_figure(name.as_str(), &svg)?;
        }
        let svg = figure::draw(*name, data, Palette::Page);
        figures.push((*name, svg.map_err(|error| error.to_string())));
    }
    Ok(figures)
}

/// The series of the figures and sentences about cold starts: all of a trace; of constant rates, which may have dozens,
/// the highest of each line that was not found too high.
fn shown<'a>(series: &[Series<'a>], rates: &[RatePoint]) -> Vec<Series<'a>> {
    if rates.is_empty() {
        return series.to_vec();
    }
    let kept: Vec<&RatePoint> = rates::lines(rates).iter().filter_map(rates::Line::highest_kept_up).collect();
    let is_kept = |one: &&Series<'_>| kept.iter().any(|rate| rate.system == one.system && rate.point == one.point);
    series.iter().filter(is_kept).cloned().collect()
}

/// Draws one figure of the run.
///
/// # Errors
/// If the run cannot be read or has nothing that the figure shows.
pub fn draw_figure(run: &Run, name: FigureName, palette: Palette) -> Result<String, ReadError> {
    let results = checked(run)?;
    let (series, published) = (Series::group(&results), published::about(&run.manifest.experiment));
    let rates = rates::points(run.plan(), &series);
    let shown = shown(&series, &rates);
    figure::draw(name, &FigureData { series: &shown, published: &published, rates: &rates }, palette)
}

/// Every repetition's statistics, as they may be shown.
pub(crate) fn checked(run: &Run) -> Result<Vec<PointResult>, ReadError> {
    Ok(Verification::read(run)?.applied(run.summarise()?))
}

pub(crate) fn summary(run: &Run, results: &[PointResult]) -> Summary {
    let points: Vec<_> = results.iter().map(|result| result.summary.clone()).collect();
    let missing = run.manifest.systems.keys().filter(|system| !points.iter().any(|point| point.system == **system));
    Summary {
        schema_version: SCHEMA_VERSION,
        git_revision: GIT_REVISION.to_owned(),
        experiment: run.manifest.experiment.clone(),
        scale: run.manifest.scale.clone(),
        not_measured: missing.map(|system| (system.clone(), "it has no rows in this run".to_owned())).collect(),
        points,
        rates: rates::points(run.plan(), &Series::group(results)),
    }
}
