//! Durations in configurations: written `250ms`, `2s`, `5m`, and at most a year.
//!
//! A point in time plus a configured duration must exist. A deadline of a million years is a mistake, and would
//! overflow to "now": so every configuration reads its durations here, and the mistake is refused with its key.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// Longest duration that can be configured: more than any deadline needs, and far from where clocks overflow.
pub const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);

/// [`MAX_DURATION`] as messages show it.
pub(crate) const MAX_DURATION_TEXT: &str = "366d";

/// A duration, or none, that is bounded by [`MAX_DURATION`].
pub trait Bounded: Sized {
    /// Returns it if it is within the bound.
    ///
    /// # Errors
    /// Returns the problem in a user's terms.
    fn bounded(self) -> Result<Self, String>;
}

impl Bounded for Duration {
    fn bounded(self) -> Result<Self, String> {
        if self <= MAX_DURATION {
            return Ok(self);
        }
        // `humantime` itself cannot say how long the greatest ones are.
        Err(format!("a duration of {} s is too long: expected at most {MAX_DURATION_TEXT}", self.as_secs()))
    }
}

impl Bounded for Option<Duration> {
    fn bounded(self) -> Result<Self, String> {
        self.map(Duration::bounded).transpose()
    }
}

/// Parses a duration as a user types it.
///
/// # Errors
/// Returns an error if it is not a duration, or above [`MAX_DURATION`].
pub fn parse(text: &str) -> Result<Duration, String> {
    let read = humantime_serde::re::humantime::parse_duration(text);
    read.map_err(|error| format!("{error}: expected a duration such as 250ms, 2s or 5m"))?.bounded()
}

/// For `#[serde(with = "model::duration")]`, on a [`Duration`] or an `Option` of one.
///
/// # Errors
/// Returns an error if the value is not a duration, or above [`MAX_DURATION`].
pub fn deserialize<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Bounded,
    humantime_serde::Serde<T>: Deserialize<'de>,
    D: Deserializer<'de>,
{
    humantime_serde::deserialize::<T, D>(deserializer)?.bounded().map_err(D::Error::custom)
}

/// The inverse of [`deserialize`].
///
/// # Errors
/// Returns the serializer's errors.
pub fn serialize<T, S>(duration: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    for<'a> humantime_serde::Serde<&'a T>: serde::Serialize,
    S: Serializer,
{
    humantime_serde::serialize(duration, serializer)
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Example {
        #[serde(with = "crate::duration")]
        some: Duration,
        #[serde(with = "crate::duration", default)]
        maybe: Option<Duration>,
    }

    #[test]
    fn durations_up_to_a_year_are_read_and_longer_ones_refused() {
        let read = |text: &str| serde_json::from_str::<Example>(text);
        let example = Example { some: MAX_DURATION, maybe: Some(Duration::from_millis(250)) };
        assert_eq!(read(r#"{"some":"366d","maybe":"250ms"}"#).unwrap(), example);
        assert_eq!(read(&serde_json::to_string(&example).unwrap()).unwrap(), example);
        for text in [r#"{"some":"1000000years"}"#, r#"{"some":"366d 1s"}"#, r#"{"some":"1s","maybe":"400d"}"#] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains("too long: expected at most 366d"), "{text}: {error}");
        }
    }

    #[test]
    fn a_flag_is_held_to_the_same_bound() {
        assert_eq!(parse("2s"), Ok(Duration::from_secs(2)));
        assert!(parse("1000000years").unwrap_err().contains("at most 366d"));
        assert!(parse("9999999999999years").is_err());
        assert!(parse("soon").unwrap_err().contains("250ms"));
    }
}
