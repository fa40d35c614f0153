//! `invoke`: one invocation through a data plane, its response and where its time went.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Args;
use model::FunctionName;
use serde_json::{Value, json};
use terminal::{Format, UsageError};
use ureq::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};

use super::{
    address::{Address, InvocationPath},
    http,
    timeline::Timeline,
};
use crate::{input, output::for_terminal};

/// Largest response printed.
const MAX_RESPONSE_BYTES: u64 = 256 * 1024 * 1024;

const EXAMPLE: &str = "\
Example: run the trace function for 10 ms
  dirigent invoke hello --header 'workload: trace' --header 'requested_cpu: 10'";

#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(crate) struct Arguments {
    /// Name of the function
    name: FunctionName,

    /// Body to send
    #[arg(long, conflicts_with = "data_file")]
    data: Option<String>,

    /// File to send as the body; `-` is standard input
    #[arg(long, value_name = "FILE")]
    data_file: Option<PathBuf>,

    /// Header to send; may be repeated
    #[arg(long, value_parser = parse_header, value_name = "NAME: VALUE")]
    header: Vec<(HeaderName, HeaderValue)>,

    /// HTTP method; POST when there is a body, else GET
    #[arg(long)]
    method: Option<Method>,

    /// Path, with query; begins with `/`
    #[arg(long, default_value = "/")]
    path: InvocationPath,

    /// HTTP address of a data plane
    #[arg(long, value_parser = parse_data_plane, default_value = "http://127.0.0.1:8080", value_name = "URL")]
    data_plane: Address,

    /// Longest wait for the complete response
    #[arg(long, value_parser = model::duration::parse, default_value = "10m", value_name = "DURATION")]
    timeout: Duration,

    /// `table`: the response as it is (to a terminal: as it may be shown) on standard output and its timeline on standard error; `json`: both in one object; `csv`: the timeline alone
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: Format,
}

/// Invokes the function once; any status but 2xx is a failure.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<()> {
    let body = body(arguments.data, arguments.data_file.as_deref()).map_err(UsageError::of)?;
    let method = arguments.method.unwrap_or(if body.is_some() { Method::POST } else { Method::GET });
    let base = http::Server::new(http::Role::DataPlane, &arguments.data_plane, arguments.timeout);
    let mut request = Request::builder().method(method).uri(base.url(arguments.path.as_str()));
    request = request.header(header::HOST, arguments.name.as_str());
    for (name, value) in arguments.header {
        request = request.header(name, value);
    }
    let request = request.body(body.unwrap_or_default());
    let request = request.context("the request").map_err(UsageError::of)?;

    let (mut response, sent) = base.run(&request)?;
    let body = response.body_mut().with_config().limit(MAX_RESPONSE_BYTES).read_to_vec();
    let body = body.map_err(|error| base.failed("reading its response: ", &error))?;
    let total_ms = sent.elapsed().as_secs_f64() * 1e3;
    let timeline = Timeline::read(response.status(), response.headers(), total_ms);
    let is_refused = !response.status().is_success() && !timeline.is_of_data_plane();
    if let Some(error) = is_refused.then(|| base.port_mismatch()).flatten() {
        return Err(error);
    }
    print(arguments.format, &response, &body, &timeline)?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => {
            let hint = timeline.refusal().map(|refusal| hint(refusal, &arguments.name)).unwrap_or_default();
            Err(anyhow!("{}: responded with {status}{hint}", arguments.name))
        }
    }
}

/// The command that shows more about a data plane's `refusal` than its response does.
fn hint(refusal: &str, name: &FunctionName) -> String {
    match refusal {
        "creation-failed" => format!("; `dirigent function show {name}` shows its last error"),
        // There is none where every sandbox is busy, or one runs and does not listen yet.
        "queue-deadline" => {
            format!(
                "; `dirigent function show {name}` shows the state of its sandboxes, and its last error if it has one"
            )
        }
        "queue-full" => {
            format!("; `dirigent function show {name}` shows how many wait and may wait (spec.queue.limit)")
        }
        "timeout" => format!("; `dirigent function show {name}` shows its time-out (spec.timeout)"),
        // That is of one response, which its sandbox may survive: no error of the function is kept.
        "upstream" => {
            format!("; the body of the response says why, and `dirigent function logs {name}` shows what it printed")
        }
        "unknown-function" => format!("; `dirigent function register {name}` makes it known"),
        _ => String::new(),
    }
}

fn print<B>(format: Format, response: &Response<B>, body: &[u8], timeline: &Timeline) -> io::Result<()> {
    let mut out = Vec::new();
    match format {
        Format::Table => {
            match String::from_utf8_lossy(body) {
                text if io::stdout().is_terminal() => out.write_all(for_terminal(&text).as_bytes())?,
                _ => out.write_all(body)?,
            }
            if !body.ends_with(b"\n") && !body.is_empty() {
                writeln!(out)?;
            }
        }
        Format::Json => {
            let body = String::from_utf8_lossy(body);
            let all = json!({"timeline": timeline.to_json(), "headers": fields(response.headers()), "body": body});
            out.write_all(terminal::json(&all)?.as_bytes())?;
        }
        Format::Csv => out.write_all(timeline.csv().as_bytes())?,
    }
    terminal::print(out)?;
    if format == Format::Table {
        terminal::note!("{timeline}");
    }
    Ok(())
}

/// Header fields by name: a text, or a list of texts where a name occurs more than once.
fn fields(headers: &HeaderMap) -> Value {
    let text = |value: &HeaderValue| json!(String::from_utf8_lossy(value.as_bytes()));
    let values = |name| match headers.get_all(name).iter().map(text).collect::<Vec<_>>() {
        mut one if one.len() == 1 => one.remove(0),
        several => Value::Array(several),
    };
    headers.keys().map(|name| (name.to_string(), values(name))).collect::<serde_json::Map<_, _>>().into()
}

fn body(data: Option<String>, file: Option<&Path>) -> anyhow::Result<Option<Vec<u8>>> {
    let Some(path) = file else { return Ok(data.map(String::into_bytes)) };
    Ok(Some(input::read("--data-file", path)?))
}

/// A data plane passes every path on to the function, so its own address has none.
fn parse_data_plane(text: &str) -> anyhow::Result<Address> {
    let address: Address = text.parse()?;
    if address.has_path() {
        bail!("expected HOST:PORT or http://HOST:PORT without a path: --path names that of the invocation");
    }
    Ok(address)
}

fn parse_header(text: &str) -> anyhow::Result<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':').context("expected NAME: VALUE")?;
    let name: HeaderName = name.trim().parse()?;
    // What ureq writes itself would be there twice, and the host says which function is meant.
    if [header::HOST, header::CONTENT_LENGTH, header::TRANSFER_ENCODING].contains(&name) {
        bail!("{name} is written by the command itself; the host is the function's name");
    }
    Ok((name, value.trim().parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_leads_to_what_is_kept() {
        let name: FunctionName = "f".parse().unwrap();
        for (refusal, expected) in [
            (
                "queue-deadline",
                "`dirigent function show f` shows the state of its sandboxes, and its last error if it has one",
            ),
            ("creation-failed", "`dirigent function show f` shows its last error"),
            ("queue-full", "`dirigent function show f` shows how many wait"),
            ("timeout", "`dirigent function show f` shows its time-out"),
            ("upstream", "the body of the response says why, and `dirigent function logs f`"),
            ("unknown-function", "`dirigent function register f`"),
        ] {
            assert!(hint(refusal, &name).contains(expected), "{refusal}: {}", hint(refusal, &name));
        }
        assert_eq!(hint("upstream", &name).find("function show"), None, "it keeps no error of one response");
    }

    #[test]
    fn fields_of_one_name_are_all_kept() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("set-cookie", "a=1; Expires=Wed, 01 Jan 2031 00:00:00 GMT"),
            ("set-cookie", "b=2"),
            ("content-type", "text/plain"),
        ] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let expected = json!({
            "set-cookie": ["a=1; Expires=Wed, 01 Jan 2031 00:00:00 GMT", "b=2"],
            "content-type": "text/plain",
        });
        assert_eq!(fields(&headers), expected);
    }
}
