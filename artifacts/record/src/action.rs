//! `actions.csv`: what the parts of a control plane did, one row each, where a system can tell; and what comes of it per
//! cold start.

use serde::{Deserialize, Serialize};

/// A request that a part made, an object that a part was shown before it was stored, or a change in a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// The function it was about; empty: none, or several.
    pub function: String,
    /// Who did it: the part's name, [`Action::ADMISSION`], or [`Action::STORE`].
    pub actor: String,
    /// What was done: `get`, `list`, `create`, `update`, `patch`, `delete`; by the store `put` or `delete`.
    pub action: String,
    /// To what: a kind of object, with its part after a slash (`pods/status`).
    pub object: String,
    /// When it began, in nanoseconds since the Unix epoch as the system writes it; a harvested file has nanoseconds from
    /// the run's start instant, negative before it.
    pub at_ns: i64,
    /// How long it took, in microseconds; of requests only.
    pub took_us: Option<u64>,
    /// Bytes that were stored; of changes in a store only.
    pub bytes: Option<u64>,
    /// HTTP status; of requests only.
    pub status: Option<u16>,
}

impl Action {
    /// Who changes what is stored.
    pub const STORE: &str = "store";
    /// Who is shown what is to be stored and may change or refuse it: a webhook.
    pub const ADMISSION: &str = "admission";
}

/// What a cold start makes the parts of a control plane do, on average over the cold starts of a repetition.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Anatomy {
    /// Cold starts that were answered: what is told `until_answer` is per one of these.
    pub cold_starts: u64,
    /// Those of them after which the function was called again: what is told of a `cycle`, from one call to the next, with
    /// the end of the sandbox, is per one of these.
    pub cycles: u64,
    /// Requests to the API server, by who made them; most of a cycle first.
    pub requests: Vec<PerColdStart>,
    /// Objects that webhooks are shown before they are stored, by kind; most of a cycle first.
    #[serde(default)]
    pub admissions: Vec<PerColdStart>,
    /// Changes in the store, by kind of object; most of a cycle first.
    pub changes: Vec<PerColdStart>,
    /// Requests in the order in which they begin, of those that most cold starts make until the answer or soon after it.
    pub steps: Vec<Step>,
}

/// How many there are of something per cold start.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PerColdStart {
    /// Whose, or of what.
    pub name: String,
    /// From the call to the answer.
    pub until_answer: f64,
    /// From one call to the next; empty when no function was called twice.
    pub cycle: Option<f64>,
    /// Of a cycle's requests, those that change something; of changes, 0.
    pub writes: Option<f64>,
    /// Of a cycle's requests, those that were refused because somebody else had changed the object (status 409).
    pub conflicts: Option<f64>,
    /// Bytes that were stored in a cycle; of requests, 0.
    pub bytes: Option<f64>,
}

/// A request that most cold starts make.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Who makes it.
    pub actor: String,
    /// What is asked: the verb.
    pub action: String,
    /// For what: kind of object.
    pub object: String,
    /// The how manieth of this kind in a cold start, from 1.
    pub ordinal: u32,
    /// From the call to its beginning, in microseconds: the median over cold starts that make it.
    pub at_us: u64,
    /// How long it takes, in microseconds: the median.
    pub took_us: u64,
    /// Share of cold starts that make it, in thousandths.
    pub share_permille: u64,
}
