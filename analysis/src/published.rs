//! Figures published by others, each with its source: shown beside ours, never mixed with them.

use serde::Deserialize;

/// One published value.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub(crate) struct Published {
    pub(crate) system: String,
    /// What it was measured on.
    pub(crate) setup: String,
    /// Experiment it belongs to.
    pub(crate) experiment: String,
    /// Id of the statistic it is a value of.
    pub(crate) statistic: String,
    pub(crate) value: f64,
    pub(crate) unit: String,
    /// `text`, `abstract`, `read off figure` …
    pub(crate) how_known: String,
    pub(crate) source: String,
}

const FILE: &str = include_str!("../data/published.csv");

/// The values published about one experiment.
pub(crate) fn about(experiment: &str) -> Vec<Published> {
    let rows = csv::Reader::from_reader(FILE.as_bytes()).into_deserialize();
    rows.filter_map(Result::ok).filter(|row: &Published| row.experiment == experiment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistic::Statistic;

    #[test]
    fn every_row_is_read_and_names_a_statistic_in_its_unit() {
        let rows = about("azure-500");
        assert_eq!(rows.len(), FILE.lines().count() - 1, "every row belongs to azure-500 and can be read");
        for row in rows {
            let statistic =
                Statistic::find(&row.statistic).unwrap_or_else(|| panic!("no statistic `{}`", row.statistic));
            let symbol = if row.unit == "ratio" { "" } else { row.unit.as_str() };
            assert_eq!(statistic.unit.symbol(), symbol, "unit of `{}`", row.statistic);
            assert!(!row.source.is_empty() && !row.how_known.is_empty() && !row.setup.is_empty());
        }
    }
}
