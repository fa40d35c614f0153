//! Every published figure stands on the page of an experiment that exists here, with its source.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod fixture;

use std::fs;

use assert_cmd::Command;
use fixture::Fixture;

/// Quantities and values on the page of `cold-start-sweep`.
const OF_THE_SWEEP: [(&str, &str, &str); 17] = [
    ("Dirigent (Go)", "sustained creation rate", "1,750 1/s"),
    ("Dirigent (Go)", "sustained creation rate", "2,500 1/s"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "sustained creation rate", "2 1/s"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "p50 latency at 1/s", "1,782 ms"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "p50 latency at 2/s", "2,487 ms"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "p99 latency at 1/s", "3,319 ms"),
    ("Dirigent (Go)", "p50 latency at 1/s", "174 ms"),
    ("Dirigent (Go)", "p50 latency at 100/s", "185 ms"),
    ("Dirigent (Go)", "p50 latency at 150/s", "233 ms"),
    ("Dirigent (Go)", "p50 latency at 200/s", "376 ms"),
    ("Dirigent (Go)", "p99 latency at 100/s", "416 ms"),
    ("Dirigent (Go)", "p99 latency at 150/s", "1,052 ms"),
    ("Azure Functions trace", "sandbox creations", "300 1/s (about)"),
    ("Azure Functions trace", "functions with only cold starts", "52 %"),
    ("Knative on Kubernetes (tuned)", "sustained creation rate", "50 1/s"),
    ("Nomad", "containers started", "3,750 1/s"),
    ("Kubernetes on GKE", "pods created", "1,000 1/s"),
];

/// Quantities and values on the page of `azure-500`.
const OF_AZURE: [(&str, &str, &str); 14] = [
    ("Dirigent (Go)", "slowdown p50 over functions (artifact definition)", "2.5"),
    ("Dirigent (Go)", "slowdown p99 over functions (artifact definition)", "227"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "slowdown p50 over functions (artifact definition)", "9.7"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "slowdown p99 over functions (artifact definition)", "6,550"),
    ("Dirigent (Go)", "scheduling latency per invocation p50", "1.9 ms"),
    ("Dirigent (Go)", "scheduling latency per invocation p90", "242 ms"),
    ("Dirigent (Go)", "scheduling latency per invocation p99", "1,160 ms"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "scheduling latency per invocation p50", "3 ms"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "scheduling latency per invocation p90", "86 ms"),
    ("Knative 1.13.1 / Kubernetes 1.29.1", "scheduling latency per invocation p99", "71,500 ms"),
    ("Dirigent (Go)", "p99 slowdown vs AWS Lambda", "6.9 times lower"),
    ("Dirigent (Go)", "p99 slowdown vs Knative", "1,000 times lower (order of magnitude)"),
    ("Dirigent (Go)", "p99 per-function scheduling latency vs AWS Lambda", "2.79 times lower"),
    ("PulseNet", "tail slowdown vs Dirigent", "35 % lower"),
];

/// Quantities and values on the page of `overhead`.
const OF_OVERHEAD: [(&str, &str, &str); 1] =
    [("Knative on Kubernetes", "cluster manager share of end-to-end latency (maximum)", "65 %")];

/// A definition at constant rates with cold starts.
const SWEEP: &str = "[load]\nkind = \"rate\"\ncooldown = \"5s\"\ntimeout = \"1s\"\nrate = 2\n";

/// The section with published figures of the report on this run.
fn published(fixture: &Fixture) -> String {
    Command::new(assert_cmd::cargo::cargo_bin!("analysis")).arg("report").arg(fixture.path()).assert().success();
    let page = fs::read_to_string(fixture.path().join("report/index.html")).unwrap();
    let section = page.split("<section id=\"published\">").nth(1).expect("the page has published figures");
    section.split("</section>").next().unwrap().to_owned()
}

fn at_rate(experiment: &str) -> Fixture {
    let fixture = Fixture::of_rates(experiment, SWEEP, &["dirigent"]);
    fixture.minute(("dirigent", "rate-2", 1), 2, true);
    fixture
}

/// Checks that these rows, and no others, stand in the section, in their order.
fn assert_shown(section: &str, expected: &[(&str, &str, &str)]) {
    let rows: Vec<&str> = section.split("<tbody>").nth(1).unwrap().split("<tr>").skip(1).collect();
    assert_eq!(rows.len(), expected.len(), "{section}");
    for (row, (system, metric, value)) in rows.iter().zip(expected) {
        for part in [format!("<td>{system}</td>"), format!("<td>{metric}<"), format!("<td class=\"n\">{value}</td>")] {
            assert!(row.contains(&part), "expected {part} in {row}");
        }
    }
}

#[test]
fn all_thirty_two_published_figures_are_shown() {
    assert_eq!(OF_THE_SWEEP.len() + OF_AZURE.len() + OF_OVERHEAD.len(), 32);
    let sweep = published(&at_rate("cold-start-sweep"));
    assert_shown(&sweep, &OF_THE_SWEEP);
    assert!(sweep.contains("of the published experiment placement"), "a figure of another experiment says so");
    assert!(sweep.contains("arXiv 2505.24551 section 3.3"), "each figure has its source");
    assert_shown(&published(&Fixture::by_hand()), &OF_AZURE);
    assert_shown(&published(&at_rate("overhead")), &OF_OVERHEAD);
}
