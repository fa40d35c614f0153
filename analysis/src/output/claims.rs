//! Evaluated claims on standard output.

use std::io::{self, Write};

use record::{Claims, EvaluatedClaim};

use terminal::{Format, Table, json};

use super::{plain, with_header};
use crate::format::number;

/// Prints claims with their outcomes; a table is fitted to a `terminal` of so many columns.
///
/// # Errors
/// If the output cannot be written.
pub fn print_claims(claims: &Claims, format: Format, terminal: Option<u16>, mut out: impl Write) -> io::Result<()> {
    let rows = claims.claims.iter().map(|claim| {
        let (lower, upper) = claim.interval.unzip();
        [
            claim.id.clone(),
            claim.outcome.as_str().to_owned(),
            plain(claim.found),
            plain(lower),
            plain(upper),
            claim.unit.clone(),
            plain(claim.p),
            claim.published.clone(),
            claim.reason.clone(),
        ]
    });
    let heads = ["claim", "outcome", "found", "lower", "upper", "unit", "p", "published", "reason"];
    match format {
        Format::Json => out.write_all(json(claims)?.as_bytes()),
        Format::Csv => out.write_all(with_header(heads, rows).as_bytes()),
        Format::Table => {
            let rows = claims.claims.iter().map(|claim| {
                let of = |text: &str| text.to_owned();
                [of(&claim.id), of(claim.outcome.as_str()), found(claim), of(&claim.published), of(&claim.reason)]
            });
            let mut table = Table::new(["claim", "outcome", "found", "published", "reason"]);
            rows.for_each(|row| table.row(row));
            write!(out, "{}", table.text(terminal))?;
            let mut noted = claims.claims.iter().filter(|claim| !claim.note.is_empty());
            noted.try_for_each(|claim| writeln!(out, "{}: {}", claim.id, claim.note))
        }
    }
}

fn found(claim: &EvaluatedClaim) -> String {
    let interval = claim.interval.map(|(lower, upper)| format!(" [{}; {}]", number(lower), number(upper)));
    claim.found.map_or_else(
        || "–".to_owned(),
        |found| format!("{}{} {}", number(found), interval.unwrap_or_default(), claim.unit),
    )
}
