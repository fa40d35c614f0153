//! The responses: JSON with a status, never empty, as existing trace replayers expect them.

use std::{borrow::Cow, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::Full;

pub(crate) type FunctionResponse = Response<Full<Bytes>>;

/// The machine that responds: the same for every response of a function, and so escaped once.
#[derive(Debug)]
pub(crate) struct Signature {
    machine_name_json: String,
}

impl Signature {
    pub(crate) fn new(machine_name: &str) -> Self {
        Self { machine_name_json: json_text(machine_name.as_bytes()).into_owned() }
    }

    /// A response for `function` (the request's header of that name), after running for `execution`.
    pub(crate) fn response(
        &self,
        code: StatusCode,
        status: &str,
        function: &[u8],
        execution: Duration,
    ) -> FunctionResponse {
        let (status, function) = (json_text(status.as_bytes()), json_text(function));
        let body = format!(
            r#"{{"Status":"{status}","Function":"{function}","MachineName":"{}","ExecutionTime":{}}}"#,
            self.machine_name_json,
            execution.as_micros()
        );
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = code;
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        response
    }
}

/// `text` as it is between the quotes of a JSON string. Names are plain as a rule and then not copied.
fn json_text(text: &[u8]) -> Cow<'_, str> {
    let text = String::from_utf8_lossy(text);
    if text.bytes().all(|byte| byte >= 0x20 && byte != b'"' && byte != b'\\') {
        return text;
    }
    let quoted = serde_json::Value::from(text.as_ref()).to_string();
    Cow::Owned(quoted[1..quoted.len() - 1].to_owned())
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_name_survives_as_json(machine in ".{0,20}", function in prop::collection::vec(any::<u8>(), 0..20)) {
            let response = Signature::new(&machine).response(StatusCode::OK, "OK", &function, Duration::from_micros(7));
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let body = runtime.block_on(response.into_body().collect()).unwrap().to_bytes();
            let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(json["MachineName"].as_str(), Some(machine.as_str()));
            let function = String::from_utf8_lossy(&function);
            prop_assert_eq!(json["Function"].as_str(), Some(function.as_ref()));
            prop_assert_eq!(json["ExecutionTime"].as_u64(), Some(7));
        }
    }
}
