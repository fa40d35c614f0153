//! The report as one self-contained page: no script, no network, readable on paper, light and dark.

mod anatomy;
mod answers;
mod checks;
mod claims;

mod facts;
mod left_out;
mod machine;
mod method;
mod published;
mod rate_sentence;
mod rates;
mod sentence;
mod setup;
mod text;

use std::collections::BTreeMap;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use record::{Claims, ExitState, Manifest, PointSummary, Setting, Summary};

use crate::{FigureName, colours, plan::Plan, published::Published, series::Series, verification::Verification};

/// The data of the page.
pub(crate) struct Page<'a> {
    pub(crate) manifest: &'a Manifest,
    /// Load and points by the run's definition.
    pub(crate) plan: Plan<'a>,
    /// Settings of systems that differ from their releases.
    pub(crate) settings: &'a BTreeMap<String, Vec<Setting>>,
    pub(crate) summary: &'a Summary,
    pub(crate) series: &'a [Series<'a>],
    pub(crate) claims: &'a Claims,
    /// Results of the invariants.
    pub(crate) verification: &'a Verification,
    pub(crate) published: &'a [Published],
    /// Each figure as SVG, or why there is none.
    pub(crate) figures: &'a [(FigureName, Result<String, String>)],
}

impl Page<'_> {
    /// The whole page.
    pub(crate) fn render(&self) -> String {
        let title = format!("{} · {}", self.manifest.experiment, self.manifest.scale);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                head {
                    meta charset="utf-8";
                    meta name="viewport" content="width=device-width, initial-scale=1";
                    meta name="color-scheme" content="light dark";
                    title { (title) }
                    style { (PreEscaped(colours::style_sheet())) (PreEscaped(include_str!("page/style.css"))) }
                }
                body {
                    (self.header(&title))
                    main {
                        (self.results())
                        (published::section(self))
                        (checks::section(self))
                        (method::section(self))
                        (facts::sections(self))
                    }
                }
            }
        };
        page.into_string()
    }

    /// Claims, sentences and figures, which differ between a constant rate and a trace.
    fn results(&self) -> Markup {
        if !self.plan.is_at_rate() {
            return html! { (claims::section(self)) (answers::sections(self)) };
        }
        html! {
            @if !self.claims.claims.is_empty() { (claims::claims_section(self)) }
            (rates::sections(self))
            @if self.plan.is_cold() { (answers::phases(self)) (anatomy::section(self)) }
        }
    }

    fn header(&self, title: &str) -> Markup {
        let manifest = self.manifest;
        html! {
            header {
                h1 { (title) }
                p.lead {
                    "Run of " (manifest.started) ", revision " code { (manifest.git_revision) } "."
                }
                p.marks {
                    @let (class, words) = exit_words(manifest.exit);
                    span class={ "mark " (class) } { (words) } " "
                    @let (class, words) = self.validity_words();
                    span class={ "mark " (class) } { (words) } " "
                    @let (class, words) = self.invariant_words();
                    span class={ "mark " (class) } { (words) }
                    @let marks = self.verification.marked().count();
                    @if marks > 0 { " " a.mark.warn href="#machine" { (marks) @if marks == 1 { " mark" } @else { " marks" } } }
                    @if let Some(words) = self.missed_words().filter(|missed| *missed != words) { " " span.mark.bad { (words) } }
                    @if let Some(words) = self.failure_words() { " " span.mark.bad { (words) } }
                    @if manifest.is_quick() { " " span.mark.warn { "quick run: no evidence for claims" } }
                }
                @for text in setup::load(self.plan).iter().chain(&setup::sandboxes(self.plan)) {
                    p.lead { (text::ticked(text)) }
                }
                (self.broken())
            }
        }
    }

    /// Validity of all repetitions, as a CSS class and a few words.
    fn validity_words(&self) -> (&'static str, String) {
        let all = self.summary.points.len();
        let of = |state| self.summary.points.iter().filter(|point| point.validity.valid == state).count();
        match (of(Some(false)), of(None)) {
            (0, 0) => ("good", "measurement valid".to_owned()),
            (0, unknown) => ("warn", format!("validity unknown for {unknown} of {all} repetitions")),
            (invalid, _) => ("bad", format!("{invalid} of {all} repetitions invalid")),
        }
    }

    /// Number of repetitions that could not be measured, in a few words; `None` if none failed.
    fn failure_words(&self) -> Option<String> {
        match self.manifest.failures.len() {
            0 => None,
            1 => Some("1 repetition failed".to_owned()),
            failed => Some(format!("{failed} repetitions failed")),
        }
    }

    /// Results of the invariants, as a CSS class and a few words.
    fn invariant_words(&self) -> (&'static str, String) {
        match (self.verification.broken().count(), self.verification.unchecked()) {
            (0, 0) if self.missed_words().is_some() => ("bad", self.missed_words().unwrap_or_default()),
            (0, 0) => ("good", "every invariant held or not measurable".to_owned()),
            (0, unchecked) => ("warn", format!("invariants not checked for {unchecked} repetitions: nothing is held")),
            (1, _) => ("bad", "1 invariant broken".to_owned()),
            (broken, _) => ("bad", format!("{broken} invariants broken")),
        }
    }

    /// Number of thresholds that were not met, in a few words; `None` if all were.
    fn missed_words(&self) -> Option<String> {
        match self.verification.missed().count() {
            0 => None,
            1 => Some("1 threshold not met".to_owned()),
            missed => Some(format!("{missed} thresholds not met")),
        }
    }

    /// The broken invariants and thresholds, first thing on the page.
    fn broken(&self) -> Markup {
        let all: Vec<_> = self.verification.broken().chain(self.verification.missed()).collect();
        html! {
            @if !all.is_empty() {
                ul.broken { @for one in all {
                    li { span.mark.bad { (one.scope.to_string()) } " " (one.sentence()) }
                } }
            }
        }
    }

    /// A figure's SVG or the reason there is none.
    fn figure(&self, name: FigureName) -> Result<&str, &str> {
        let found = self.figures.iter().find(|(figure, _)| *figure == name);
        found.map_or(Err("not drawn"), |(_, svg)| svg.as_deref().map_err(String::as_str))
    }
}

/// A repetition as tables name it.
fn name(point: &PointSummary) -> String {
    format!("{} · {} · {}", point.system, point.point, point.repetition)
}

fn exit_words(exit: ExitState) -> (&'static str, &'static str) {
    match exit {
        ExitState::Done => ("good", "run complete"),
        ExitState::Running => ("warn", "run not ended"),
        ExitState::Interrupted => ("warn", "run interrupted"),
        ExitState::Failed => ("bad", "run failed"),
        ExitState::Invalid => ("bad", "run invalid"),
    }
}
