//! `actions.csv`: the actions of the components of a control plane, one row each, of systems that record them, and the
//! summary of a cold start's actions.

use serde::{Deserialize, Serialize};

/// A request that a component made, an object that a webhook was shown before it was stored, or a change in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The function concerned; empty: none, or several.
    pub function: String,
    /// Name of the component that acted, [`Action::ADMISSION`], or [`Action::STORE`].
    pub actor: String,
    /// The verb: `get`, `list`, `create`, `update`, `patch` or `delete`; of the store `put` or `delete`.
    pub action: String,
    /// Kind of the object, with its subresource after a slash (`pods/status`).
    pub object: String,
    /// Begin, in nanoseconds since the Unix epoch as the system writes it; a harvested file has nanoseconds from the
    /// run's start instant, negative before it.
    pub at_ns: i64,
    /// Duration in microseconds; of requests only.
    pub took_us: Option<u64>,
    /// Bytes that were stored; of changes in a store only.
    pub bytes: Option<u64>,
    /// HTTP status; of requests only.
    pub status: Option<u16>,
}

impl Action {
    /// Actor of changes in the store.
    pub const STORE: &str = "store";
    /// Actor of admission reviews: a webhook that may change or refuse an object before it is stored.
    pub const ADMISSION: &str = "admission";
}

/// The work of a control plane's components per cold start, on average over the cold starts of a repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// Cold starts that got a response: values of `until_answer` are per one of these.
    pub cold_starts: u64,
    /// Cold starts after which the function was invoked again. Values of a `cycle`, from one invocation to the next
    /// with the end of the sandbox, are per one of these.
    pub cycles: u64,
    /// Requests to the API server, by actor; most of a cycle first.
    pub requests: Vec<PerColdStart>,
    /// Objects that webhooks are shown before they are stored, by kind; most of a cycle first.
    #[serde(default)]
    pub admissions: Vec<PerColdStart>,
    /// Changes in the store, by kind of object; most of a cycle first.
    pub changes: Vec<PerColdStart>,
    /// Requests in the order in which they begin, of those that most cold starts make until the response or soon after
    /// it.
    pub steps: Vec<Step>,
}

/// A count per cold start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerColdStart {
    /// The actor, or the kind of object.
    pub name: String,
    /// Between the invocation and its response.
    pub until_answer: f64,
    /// From one invocation to the next; empty if no function was invoked twice.
    pub cycle: Option<f64>,
    /// Of a cycle's requests, those that change something; of changes, 0.
    pub writes: Option<f64>,
    /// Of a cycle's requests, those that were refused because another client had changed the object (status 409).
    pub conflicts: Option<f64>,
    /// Bytes that were stored in a cycle; of requests, 0.
    pub bytes: Option<f64>,
}

/// A request that most cold starts make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Name of the component that makes the request.
    pub actor: String,
    /// The verb.
    pub action: String,
    /// Kind of the object.
    pub object: String,
    /// Its number among equal requests of a cold start, from 1.
    pub ordinal: u32,
    /// From the invocation to the begin of the request, in microseconds: the median over cold starts that make it.
    pub at_us: u64,
    /// Duration in microseconds: the median over cold starts that make it.
    pub took_us: u64,
    /// Share of cold starts that make it, in thousandths.
    pub share_permille: u64,
}
