//! A stream of the data plane under test, as its simulated control plane sees it.

use api::{PROTOCOL_VERSION, wire};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::Sender;
use crate::WAIT_TIMEOUT;

/// An open stream. Dropping it breaks it.
pub struct DataPlaneStream {
    sender: Option<Sender<wire::ToDataPlane>>,
    messages: Streaming<wire::FromDataPlane>,
    /// The first message.
    pub hello: wire::DataPlaneHello,
    demand: Vec<wire::Demand>,
    /// Samples received and not awaited yet.
    pub samples: Vec<wire::Sample>,
    acks: Vec<wire::EndpointAck>,
    /// Failures received and not awaited yet.
    pub failures: Vec<wire::EndpointFailure>,
    limit_acks: Vec<wire::LimitAck>,
    applied: u64,
}

impl DataPlaneStream {
    pub(super) fn new(
        hello: wire::DataPlaneHello,
        sender: Sender<wire::ToDataPlane>,
        messages: Streaming<wire::FromDataPlane>,
    ) -> Self {
        Self {
            sender: Some(sender),
            messages,
            hello,
            demand: Vec::new(),
            samples: Vec::new(),
            acks: Vec::new(),
            failures: Vec::new(),
            limit_acks: Vec::new(),
            applied: 0,
        }
    }

    /// Sends a message, unless the data plane is gone.
    pub fn send(&self, message: wire::ToDataPlane) {
        let _ = self.sender.as_ref().expect("the stream is open").send(Ok(message));
    }

    /// Sends the welcome and a snapshot of `functions`.
    pub fn welcome(&self, epoch: u32, functions: Vec<wire::FunctionConfig>) {
        let welcome = Some(wire::Welcome { protocol_version: PROTOCOL_VERSION, epoch, ..Default::default() });
        self.send(wire::ToDataPlane { welcome, ..Default::default() });
        self.send(wire::ToDataPlane { functions, sequence: 1, snapshot_end: true, ..Default::default() });
    }

    /// Sends a change of an endpoint.
    pub fn delta(&self, delta: wire::EndpointDelta) {
        self.send(wire::ToDataPlane { endpoints: vec![delta], ..Default::default() });
    }

    /// Sends a cap on granted slots.
    pub fn limit(&self, limit: wire::GrantLimit) {
        self.send(wire::ToDataPlane { limits: vec![limit], ..Default::default() });
    }

    /// Refuses the data plane.
    pub fn refuse(&self, status: Status) {
        let _ = self.sender.as_ref().expect("the stream is open").send(Err(status));
    }

    /// Ends the stream.
    pub fn close(&mut self) {
        self.sender = None;
    }

    /// Receives messages until `find` returns something.
    async fn until<T>(&mut self, expected: &str, mut find: impl FnMut(&mut Self) -> Option<T>) -> T {
        let received = async {
            loop {
                if let Some(found) = find(self) {
                    return found;
                }
                match self.messages.message().await {
                    Ok(Some(message)) => self.receive(message),
                    end => panic!("the stream ended ({end:?}) before {expected}"),
                }
            }
        };
        timeout(WAIT_TIMEOUT, received).await.unwrap_or_else(|_| panic!("not received in time: {expected}"))
    }

    fn receive(&mut self, message: wire::FromDataPlane) {
        self.demand.extend(message.demand);
        self.samples.extend(message.samples);
        self.acks.extend(message.acks);
        self.failures.extend(message.failures);
        self.limit_acks.extend(message.limit_acks);
        self.applied = self.applied.max(message.applied);
    }

    /// Waits for an acknowledgement of `sandbox` that fits.
    pub async fn ack(&mut self, sandbox: u64, fits: impl Fn(&wire::EndpointAck) -> bool) -> wire::EndpointAck {
        self.until("an endpoint ack", |stream| {
            let index = stream.acks.iter().position(|ack| ack.sandbox == sandbox && fits(ack))?;
            Some(stream.acks.remove(index))
        })
        .await
    }

    /// Waits for the acknowledgement of a cap.
    pub async fn limit_ack(&mut self, version: u64) -> wire::LimitAck {
        self.until("a limit ack", |stream| {
            let index = stream.limit_acks.iter().position(|ack| ack.version == version)?;
            Some(stream.limit_acks.remove(index))
        })
        .await
    }

    /// Waits for a failure of `sandbox`.
    pub async fn failure(&mut self, sandbox: u64) -> wire::EndpointFailure {
        self.until("an endpoint failure", |stream| {
            let index = stream.failures.iter().position(|failure| failure.sandbox == sandbox)?;
            Some(stream.failures.remove(index))
        })
        .await
    }

    /// Waits until the newest reported demand is `waiting`.
    pub async fn waiting(&mut self, waiting: u32) {
        let expected = format!("a demand of {waiting} waiting");
        self.until(&expected, |stream| (stream.demand.last()?.waiting == waiting).then_some(())).await;
    }

    /// Waits for a sample that fits.
    pub async fn sample(&mut self, fits: impl Fn(&wire::Sample) -> bool) -> wire::Sample {
        self.until("a sample", |stream| {
            let index = stream.samples.iter().position(&fits)?;
            Some(stream.samples.remove(index))
        })
        .await
    }

    /// Waits until the functions up to `sequence` are applied.
    pub async fn applied(&mut self, sequence: u64) {
        self.until("an applied sequence", |stream| (stream.applied >= sequence).then_some(())).await;
    }

    /// Receives until the data plane ends the stream.
    pub async fn ended(&mut self) {
        let end = async {
            while let Ok(Some(message)) = self.messages.message().await {
                self.receive(message);
            }
        };
        timeout(WAIT_TIMEOUT, end).await.expect("the data plane ends its stream");
    }
}
