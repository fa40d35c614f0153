//! The claims that published work makes, as they are defined in `data/claims.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

/// One claim: a ratio of one statistic between two systems.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Claim {
    pub(crate) id: String,
    pub(crate) sentence: String,
    pub(crate) source: String,
    pub(crate) published: String,
    pub(crate) experiment: String,
    /// Id of the statistic compared.
    pub(crate) statistic: String,
    /// The system said to be better, in the denominator.
    pub(crate) system: String,
    /// The system it is compared with.
    pub(crate) against: String,
    /// What the ratio must reach, by scale.
    pub(crate) at_least: BTreeMap<String, f64>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    claim: Vec<Claim>,
}

const FILE: &str = include_str!("../data/claims.toml");

/// The claims about one experiment, in the file's order.
pub(crate) fn about(experiment: &str) -> Vec<Claim> {
    let file: File = toml::from_str(FILE).expect("a test reads the file that is built in");
    file.claim.into_iter().filter(|claim| claim.experiment == experiment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistic::Statistic;

    #[test]
    fn every_claim_is_read_and_names_a_statistic() {
        let claims = about("azure-500");
        assert_eq!(claims.len(), FILE.matches("[[claim]]").count(), "every claim is about azure-500");
        for claim in claims {
            assert!(Statistic::find(&claim.statistic).is_some(), "{}: no statistic `{}`", claim.id, claim.statistic);
        }
    }
}
