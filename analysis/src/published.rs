//! Figures published by others, each with its source: shown next to the run's results, never mixed with them.

use serde::Deserialize;

/// One published value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Published {
    pub(crate) system: String,
    /// The machines that it was measured on.
    pub(crate) setup: String,
    /// The published experiment.
    pub(crate) experiment: String,
    /// The experiment of ours on whose page it stands: the nearest one where the published experiment has none of its
    /// name here.
    pub(crate) page: String,
    /// The quantity, in the words of the source.
    pub(crate) metric: String,
    /// Id of the statistic of ours that is defined in the same way, where there is one: only then may the value stand in
    /// that statistic's row and figure.
    pub(crate) statistic: Option<String>,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// `text`, `abstract`, `read off figure` …
    pub(crate) how_known: String,
    pub(crate) source: String,
}

const FILE: &str = include_str!("../data/published.csv");

/// The values that the page of this experiment shows, in the file's order.
pub(crate) fn about(experiment: &str) -> Vec<Published> {
    let mut rows = rows().expect("a test reads the file that is built in");
    rows.retain(|row| row.page == experiment);
    rows
}

fn rows() -> Result<Vec<Published>, csv::Error> {
    csv::Reader::from_reader(FILE.as_bytes()).into_deserialize().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistic::Statistic;

    /// Rows of the list of published figures that this project compares itself with.
    const ALL: usize = 32;

    #[test]
    fn every_row_is_read_and_stands_on_the_page_of_an_experiment_that_exists() {
        let rows = rows().unwrap();
        assert_eq!((rows.len(), FILE.lines().count() - 1), (ALL, ALL));
        let definitions = concat!(env!("CARGO_MANIFEST_DIR"), "/../experiments/definitions");
        for row in rows {
            let definition = std::path::Path::new(definitions).join(format!("{}.toml", row.page));
            assert!(definition.is_file(), "{}, {}: no experiment `{}`", row.system, row.metric, row.page);
            let facts = [&row.system, &row.setup, &row.experiment, &row.metric, &row.unit, &row.how_known, &row.source];
            assert!(facts.iter().all(|fact| !fact.trim().is_empty()), "a fact is missing: {row:?}");
            assert!(row.value.is_finite() && row.value > 0.0, "{row:?}");
        }
    }

    #[test]
    fn a_row_with_a_statistic_is_in_its_unit() {
        let of_ours: Vec<Published> = rows().unwrap().into_iter().filter(|row| row.statistic.is_some()).collect();
        assert_eq!(of_ours.len(), 10);
        for row in of_ours {
            let id = row.statistic.unwrap();
            let statistic = Statistic::find(&id).unwrap_or_else(|| panic!("no statistic `{id}`"));
            let symbol = if row.unit == "ratio" { "" } else { row.unit.as_str() };
            assert_eq!(statistic.unit.symbol(), symbol, "unit of `{id}`");
        }
    }
}
