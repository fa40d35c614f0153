//! Wait for an idle control plane. That functions are ready and no sandbox exists does not mean that its controllers
//! have caught up, or that the tokens of their rate limits are back: they are when nothing but leases has been written
//! for a while. Writes are counted as requests, because many change nothing in the store and cost all the same.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::ListParams};
use prometheus_parse::{Scrape, Value};
use tokio::time::{Instant, sleep};

use crate::creations;

/// A window in which writes are counted.
const WINDOW: Duration = Duration::from_secs(5);
/// Most writes in a window of a cluster at rest: what nodes and the API server itself renew.
const MAX_WRITES: f64 = 10.0;
/// So many calm windows in a row: by then the largest of the limits' bursts, 100 tokens at 50 a second, is back too.
const WINDOWS: u32 = 2;
/// Longest wait.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Interval of progress messages.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// Waits until nothing but leases is written any more and no sandbox of a function is there.
///
/// # Errors
/// If the API server does not answer, or it does not become quiet in time.
pub async fn wait(client: &Client) -> anyhow::Result<()> {
    let pods: Api<Pod> = Api::all(client.clone());
    let ours = ListParams::default().labels(creations::FUNCTION);
    let began = Instant::now();
    let mut said = began;
    let mut before = writes(client).await?;
    let mut calm = 0;
    while calm < WINDOWS {
        sleep(WINDOW).await;
        let now = writes(client).await?;
        let sandboxes = pods.list(&ours).await.context("listing sandboxes")?.items.len();
        let written = now - before;
        calm = if written <= MAX_WRITES && sandboxes == 0 { calm + 1 } else { 0 };
        before = now;
        let state = format!("{written} writes in the last {} s, {sandboxes} sandboxes", WINDOW.as_secs());
        if calm == 0 && began.elapsed() >= TIMEOUT {
            bail!("the cluster is not quiet after {} s: {state}", TIMEOUT.as_secs());
        }
        if said.elapsed() >= PROGRESS_INTERVAL {
            said = Instant::now();
            terminal::note!("not quiet yet: {state}");
        }
    }
    terminal::note!("quiet after {} s", began.elapsed().as_secs());
    Ok(())
}

/// Requests that write something other than a lease, since the API server began.
async fn writes(client: &Client) -> anyhow::Result<f64> {
    let request = http::Request::get("/metrics").body(Vec::new())?;
    let text = client.request_text(request).await.context("asking the API server for its metrics")?;
    count(&text)
}

fn count(text: &str) -> anyhow::Result<f64> {
    let total = "apiserver_request_total";
    let lines = text.lines().filter(|line| line.starts_with(total)).map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).context("reading the API server's metrics")?;
    let writes = scrape.samples.iter().filter(|sample| {
        let label = |name: &str| sample.labels.get(name).unwrap_or_default();
        matches!(label("verb"), "POST" | "PUT" | "PATCH" | "APPLY" | "DELETE" | "DELETECOLLECTION")
            && label("resource") != "leases"
    });
    Ok(writes
        .map(|sample| match sample.value {
            Value::Counter(value) | Value::Gauge(value) | Value::Untyped(value) => value,
            Value::Histogram(_) | Value::Summary(_) => 0.0,
        })
        .sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_writes_count_and_no_leases() {
        let line = |verb: &str, resource: &str, count: u32| {
            format!(
                "apiserver_request_total{{code=\"200\",component=\"apiserver\",dry_run=\"\",group=\"\",\
                 resource=\"{resource}\",scope=\"resource\",subresource=\"\",verb=\"{verb}\",version=\"v1\"}} {count}\n"
            )
        };
        let text = [
            "# TYPE apiserver_request_total counter\n".to_owned(),
            line("GET", "pods", 1000),
            line("PUT", "pods", 20),
            line("POST", "events", 3),
            line("PUT", "leases", 400),
            "apiserver_request_body_size_bytes_bucket{verb=\"create\",le=\"50000\"} 5\n".to_owned(),
        ];
        assert!((count(&text.concat()).unwrap() - 23.0).abs() < f64::EPSILON);
        assert!(count("").unwrap().abs() < f64::EPSILON, "nothing was written yet");
    }
}
