//! State of the live view between two drawings: the newest snapshot, the order, the scroll position, what went
//! wrong. Plain state, changed by snapshots and keys.

use std::cmp::Reverse;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::{
    rates::{FunctionRates, Rates},
    snapshot::Snapshot,
};

/// Rows that a page key scrolls.
const PAGE: usize = 10;

/// The order of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// As the control plane chose them: waiting and running, then the last active.
    Activity,
    Invocations,
    Creations,
    ColdShare,
    Waiting,
    Ready,
    Failed,
    Name,
}

/// The live view.
#[derive(Debug)]
pub(super) struct View {
    newest: Option<Snapshot>,
    pub(super) rates: Option<Rates>,
    /// The reason why the newest snapshot failed.
    pub(super) problem: Option<String>,
    pub(super) sort: Sort,
    /// Rows scrolled past.
    pub(super) scrolled: usize,
}

/// The command of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    GoOn,
    Quit,
}

impl Sort {
    const ALL: [Self; 8] = [
        Self::Activity,
        Self::Invocations,
        Self::Creations,
        Self::ColdShare,
        Self::Waiting,
        Self::Ready,
        Self::Failed,
        Self::Name,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Activity => "activity",
            Self::Invocations => "invocations/s",
            Self::Creations => "creations/s",
            Self::ColdShare => "cold share",
            Self::Waiting => "waiting",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Name => "name",
        }
    }

    fn next(self) -> Self {
        let position = Self::ALL.iter().position(|sort| *sort == self).unwrap_or(0);
        Self::ALL[(position + 1) % Self::ALL.len()]
    }

    /// Sorts, the greatest first; equal ones stay in the control plane's order.
    fn apply(self, functions: &mut [FunctionRates]) {
        let by_rate = |functions: &mut [FunctionRates], of: fn(&FunctionRates) -> Option<f64>| {
            functions.sort_by(|one, other| of(other).unwrap_or(-1.0).total_cmp(&of(one).unwrap_or(-1.0)));
        };
        match self {
            Self::Activity => {}
            Self::Invocations => by_rate(functions, |function| function.invocations_per_s),
            Self::Creations => by_rate(functions, |function| function.creations_per_s),
            Self::ColdShare => by_rate(functions, |function| function.cold_share),
            Self::Waiting => functions.sort_by_key(|function| Reverse(function.waiting)),
            Self::Ready => functions.sort_by_key(|function| Reverse(function.ready)),
            Self::Failed => functions.sort_by_key(|function| Reverse(function.creations_failed)),
            Self::Name => functions.sort_by(|one, other| one.name.cmp(&other.name)),
        }
    }
}

impl View {
    pub(super) fn new() -> Self {
        Self { newest: None, rates: None, problem: None, sort: Sort::Activity, scrolled: 0 }
    }

    /// Takes over a snapshot. After a failed one the last rates stay, next to the error.
    pub(super) fn on_snapshot(&mut self, snapshot: anyhow::Result<Snapshot>) {
        match snapshot {
            Ok(snapshot) => {
                self.rates = Some(Rates::between(self.newest.as_ref(), &snapshot));
                self.newest = Some(snapshot);
                self.problem = None;
            }
            Err(error) => self.problem = Some(format!("{error:#}")),
        }
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::GoOn;
        }
        let last = self.rates.as_ref().map_or(0, |rates| rates.functions.len().saturating_sub(1));
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Char('c' | 'd') if key.modifiers.contains(KeyModifiers::CONTROL) => return Wish::Quit,
            KeyCode::Char('s') => self.sort = self.sort.next(),
            KeyCode::Up | KeyCode::Char('k') => self.scrolled = self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled += 1,
            KeyCode::PageUp => self.scrolled = self.scrolled.saturating_sub(PAGE),
            KeyCode::PageDown => self.scrolled += PAGE,
            KeyCode::Home => self.scrolled = 0,
            KeyCode::End => self.scrolled = last,
            _ => {}
        }
        self.scrolled = self.scrolled.min(last);
        Wish::GoOn
    }

    /// The functions that the user has not scrolled past, in the chosen order.
    pub(super) fn functions(&self) -> Vec<FunctionRates> {
        let mut functions = self.rates.as_ref().map_or_else(Vec::new, |rates| rates.functions.clone());
        self.sort.apply(&mut functions);
        let passed = self.scrolled.min(functions.len().saturating_sub(1));
        functions.split_off(passed)
    }
}

#[cfg(test)]
mod tests {
    use super::{super::rates::tests::snapshot, *};

    fn key(code: KeyCode) -> KeyEvent {
        KeyEvent::new(code, KeyModifiers::NONE)
    }

    /// A view of functions with these names and waiting invocations.
    fn view(functions: &[(&str, u32)]) -> View {
        let mut seen = snapshot(1, (0, 0, 0));
        let one = seen.functions.remove(0);
        let row = |(name, waiting): &(&str, u32)| super::super::snapshot::FunctionCounts {
            name: (*name).to_owned(),
            waiting: *waiting,
            ..one.clone()
        };
        seen.functions = functions.iter().map(row).collect();
        let mut view = View::new();
        view.on_snapshot(Ok(seen));
        view
    }

    fn names(view: &View) -> Vec<String> {
        view.functions().into_iter().map(|function| function.name).collect()
    }

    #[test]
    fn keys_scroll_within_the_rows() {
        let mut view = view(&[("a", 1), ("b", 2), ("c", 3)]);
        for (code, expected) in [
            (KeyCode::Up, "a"),
            (KeyCode::Down, "b"),
            (KeyCode::PageDown, "c"),
            (KeyCode::Down, "c"),
            (KeyCode::Up, "b"),
            (KeyCode::Home, "a"),
            (KeyCode::End, "c"),
        ] {
            assert_eq!(view.press(key(code)), Wish::GoOn);
            assert_eq!(names(&view)[0], expected, "after {code:?}");
        }
    }

    #[test]
    fn the_sort_key_goes_through_all_orders_and_comes_back() {
        let mut view = view(&[("b", 1), ("c", 5), ("a", 0)]);
        let mut seen = Vec::new();
        for _ in Sort::ALL {
            view.press(key(KeyCode::Char('s')));
            seen.push((view.sort.name(), names(&view).concat()));
        }
        assert!(seen.contains(&("waiting", "cba".to_owned())), "{seen:?}");
        assert!(seen.contains(&("name", "abc".to_owned())), "{seen:?}");
        assert_eq!(seen.last(), Some(&("activity", "bca".to_owned())));
    }

    #[test]
    fn q_and_control_c_quit_and_c_alone_does_not() {
        let mut view = view(&[]);
        assert_eq!(view.press(key(KeyCode::Char('q'))), Wish::Quit);
        assert_eq!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)), Wish::Quit);
        assert_eq!(view.press(key(KeyCode::Char('c'))), Wish::GoOn);
    }

    #[test]
    fn a_failed_snapshot_keeps_the_last_and_the_next_clears_the_error() {
        let mut view = view(&[("a", 1)]);
        view.on_snapshot(Err(anyhow::anyhow!("refused")));
        assert_eq!((view.problem.as_deref(), names(&view)), (Some("refused"), vec!["a".to_owned()]));
        view.on_snapshot(Ok(snapshot(3, (8, 0, 0))));
        assert_eq!((&view.problem, view.rates.as_ref().and_then(|rates| rates.span_s)), (&None, Some(2.0)));
    }
}
