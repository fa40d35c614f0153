//! The evaluated claims about a run's experiment: the last output of a run.

use std::io;

use anyhow::Context;
use record::{ClaimOutcome, Claims, EvaluatedClaim, RunDir, read_json};
use terminal::{Format, Table};

use crate::exit::Exit;

/// Digits of a number that is found.
const DIGITS: i32 = 4;

/// The evaluated claims of a run; `None` if there is no analysis of it yet.
///
/// # Errors
/// If the file is malformed.
pub fn read(dir: &RunDir) -> anyhow::Result<Option<Claims>> {
    let path = dir.claims();
    path.is_file().then(|| read_json(&path)).transpose().context("reading the evaluated claims")
}

/// Prints the claims of a run on standard output, if there are any, and returns their exit code.
///
/// # Errors
/// If the file is malformed, or standard output is closed for another reason than that its reader has seen enough.
pub fn print_of(dir: &RunDir) -> anyhow::Result<Exit> {
    let Some(claims) = read(dir)? else { return Ok(Exit::Done) };
    print(&claims)?;
    Ok(exit(&claims))
}

fn print(claims: &Claims) -> io::Result<()> {
    let mut table = Table::new(["claim", "outcome", "found", "published", "reason"]);
    for claim in &claims.claims {
        let id = claim.id.clone();
        let outcome = claim.outcome.as_str().to_owned();
        table.row([id, outcome, found(claim), claim.published.clone(), claim.reason.clone()]);
    }
    // Notes come first, so that the outcomes are the last output of a run.
    for claim in claims.claims.iter().filter(|claim| !claim.note.is_empty()) {
        terminal::print(terminal::visible_lines(&format!("{}: {}\n", claim.id, claim.note)))?;
    }
    if claims.claims.is_empty() { Ok(()) } else { table.print(Format::Table) }
}

/// The estimate of a claim with its interval, for people.
#[must_use]
pub fn found(claim: &EvaluatedClaim) -> String {
    let Some(value) = claim.found else { return "–".to_owned() };
    let interval = claim.interval.map(|(lower, upper)| format!(" [{}; {}]", number(lower), number(upper)));
    format!("{}{} {}", number(value), interval.unwrap_or_default(), claim.unit)
}

/// A number with its significant digits.
fn number(value: f64) -> String {
    #[allow(clippy::cast_possible_truncation, reason = "the logarithm of a finite number is small")]
    let before = if value == 0.0 { 1 } else { value.abs().log10().floor() as i32 + 1 };
    let decimals = usize::try_from(DIGITS - before.max(1)).unwrap_or(0);
    format!("{value:.decimals$}")
}

/// Exit code of evaluated claims: invalid, or not held.
#[must_use]
pub fn exit(claims: &Claims) -> Exit {
    let of_claim = |claim: &EvaluatedClaim| {
        if claim.outcome == ClaimOutcome::Invalid {
            Exit::Invalid
        } else if matches!(claim.outcome, ClaimOutcome::Held | ClaimOutcome::NotMeasured) {
            Exit::Done
        } else {
            Exit::NotHeld
        }
    };
    claims.claims.iter().map(of_claim).fold(Exit::Done, Exit::or)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(outcomes: &[&str]) -> Claims {
        let claim = |outcome: &&str| {
            serde_json::json!({
                "id": "rate", "sentence": "It is faster.", "source": "s", "published": "1250 times",
                "statistic": "rate.sustained", "verdict": outcome, "reason": "", "found": 1461.4, "unit": "times",
                "interval": [1299.0, 1467.25], "p": null
            })
        };
        let claims: Vec<_> = outcomes.iter().map(claim).collect();
        serde_json::from_value(serde_json::json!({ "schema_version": 1, "claims": claims })).unwrap()
    }

    #[test]
    fn a_claim_that_does_not_hold_decides_and_one_that_was_not_measured_does_not() {
        assert_eq!(exit(&claims(&[])), Exit::Done);
        assert_eq!(exit(&claims(&["held", "not measured"])), Exit::Done);
        assert_eq!(exit(&claims(&["held", "not held"])), Exit::NotHeld);
        assert_eq!(exit(&claims(&["held", "inconclusive"])), Exit::NotHeld);
        assert_eq!(exit(&claims(&["not held", "invalid"])), Exit::Invalid);
    }

    #[test]
    fn what_was_found_is_short_and_has_its_interval() {
        let mut claim = claims(&["held"]).claims.remove(0);
        assert_eq!(found(&claim), "1461 [1299; 1467] times");
        (claim.found, claim.interval) = (Some(0.25), None);
        assert_eq!(found(&claim), "0.250 times");
        claim.found = None;
        assert_eq!(found(&claim), "–");
    }
}
