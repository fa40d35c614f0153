//! Scaling parameters: bounds, policy and the policy's parameters.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Scaling parameters of one function. The defaults are those of Knative 1.13 where Knative has the parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Scaling {
    /// Minimum number of sandboxes, kept without demand as well.
    pub min: u32,
    /// Maximum number of sandboxes; `None` is no bound.
    pub max: Option<u32>,
    /// Autoscaling policy by name (`reactive`, `kpa`, `dirigent`); `None` is the cluster's default.
    pub policy: Option<String>,
    /// `kpa`, `dirigent`: invocations that one sandbox should run at once; `None` is the function's concurrency.
    pub target: Option<f64>,
    /// `kpa`, `dirigent`: share of the target aimed at, greater than 0 and at most 1.
    pub target_utilization: f64,
    /// Window over which demand is averaged (`kpa`, `dirigent`) or its peak held (`reactive`) before scaling down.
    #[serde(with = "humantime_serde")]
    pub stable_window: Duration,
    /// `kpa`, `dirigent`: window that decides about panic mode; `None` is a tenth of the stable window, rounded to
    /// seconds, at least 1 s.
    #[serde(with = "humantime_serde")]
    pub panic_window: Option<Duration>,
    /// `kpa`, `dirigent`: panic when the panic window wants at least this many times the ready sandboxes.
    pub panic_threshold: f64,
    /// `kpa`, `dirigent`: scale at most to this many times the ready sandboxes in one decision.
    pub max_scale_up_rate: f64,
    /// `kpa`, `dirigent`: scale at least to the ready sandboxes divided by this in one decision.
    pub max_scale_down_rate: f64,
    /// `kpa`: a lower count is acted on only when it has held for this long.
    #[serde(with = "humantime_serde")]
    pub scale_down_delay: Duration,
    /// `kpa`: minimum number of sandboxes of an active function.
    pub activation_scale: u32,
    /// `kpa`: how long the last sandbox outlives the decision to scale to zero.
    #[serde(with = "humantime_serde")]
    pub scale_to_zero_grace: Duration,
    /// `reactive`: how long the last sandbox lives after the last request; `None` is the stable window.
    #[serde(with = "humantime_serde")]
    pub keep_alive: Option<Duration>,
}

impl Default for Scaling {
    fn default() -> Self {
        Self {
            min: 0,
            max: None,
            policy: None,
            target: None,
            target_utilization: 0.7,
            stable_window: Duration::from_secs(60),
            panic_window: None,
            panic_threshold: 2.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay: Duration::ZERO,
            activation_scale: 1,
            scale_to_zero_grace: Duration::from_secs(30),
            keep_alive: None,
        }
    }
}

impl Scaling {
    /// `max` as a number: its absence is no bound.
    #[must_use]
    pub fn upper_bound(&self) -> u32 {
        self.max.unwrap_or(u32::MAX)
    }

    /// The window that decides about panic mode (Knative: `max(1 s, round(stable window × 10 %))`).
    #[must_use]
    pub fn panic_window(&self) -> Duration {
        self.panic_window
            .unwrap_or_else(|| Duration::from_secs_f64((self.stable_window.as_secs_f64() / 10.0).round().max(1.0)))
    }

    /// Time for which `reactive` keeps the last sandbox after the last request.
    #[must_use]
    pub fn keep_alive(&self) -> Duration {
        self.keep_alive.unwrap_or(self.stable_window)
    }

    /// Checks the bounds of all fields.
    ///
    /// # Errors
    /// Returns the path of the first field out of bounds in a specification, with the expectation and the given value.
    pub fn check(&self) -> Result<(), (&'static str, String)> {
        let positive = |field, value: f64| {
            if value.is_finite() && value > 0.0 {
                Ok(())
            } else {
                Err((field, format!("expected a number above 0, got {value}")))
            }
        };
        if let Some(max) = self.max.filter(|max| *max == 0 || *max < self.min) {
            let expected = format!("expected at least 1 and not below scale.min ({})", self.min);
            return Err(("scale.max", format!("{expected}, got {max}")));
        }
        if self.stable_window < Duration::from_secs(1) {
            return Err(("scale.stable_window", format!("expected at least 1s, got {:?}", self.stable_window)));
        }
        if self.panic_window() < Duration::from_secs(1) || self.panic_window() > self.stable_window {
            return Err(("scale.panic_window", {
                let expected = format!("expected 1s to scale.stable_window ({:?})", self.stable_window);
                format!("{expected}, got {:?}", self.panic_window())
            }));
        }
        // Negated as a whole, so that NaN is refused.
        if !(self.target_utilization > 0.0 && self.target_utilization <= 1.0) {
            return Err((
                "scale.target_utilization",
                format!("expected above 0 and at most 1, got {}", self.target_utilization),
            ));
        }
        self.target.map_or(Ok(()), |target| positive("scale.target", target))?;
        positive("scale.panic_threshold", self.panic_threshold)?;
        positive("scale.max_scale_up_rate", self.max_scale_up_rate)?;
        positive("scale.max_scale_down_rate", self.max_scale_down_rate)
    }
}
