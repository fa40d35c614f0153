//! The table `[load]` as it is written: the keys of both kinds, and the checks that those of one kind are not mixed with
//! those of the other.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::definition::load::{Bursts, Calls, EQUIDISTANT, Load, Protocol, Rate, Source, Trace};

/// The table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WrittenLoad {
    #[serde(default)]
    kind: Kind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<PathBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    synthetic: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    minutes: Option<u32>,
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    minute: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    start_minute: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    functions: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    max_cores: Option<f64>,
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    max_run: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    every: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seconds: Option<u32>,
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    cooldown: Option<Duration>,
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    run: Option<Duration>,
    #[serde(default, with = "humantime_serde::option", skip_serializing_if = "Option::is_none")]
    warmup: Option<Duration>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    arrivals: Option<String>,
    #[serde(default)]
    protocol: Protocol,
    #[serde(default)]
    connections: u32,
    #[serde(with = "humantime_serde")]
    timeout: Duration,
}

/// Kind of the load.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    /// A trace replayed.
    #[default]
    Trace,
    /// A constant rate.
    Rate,
}

/// Default duration of a minute of a trace.
const REAL_MINUTE: Duration = Duration::from_secs(60);
/// The synthetic trace that is replayed by default.
const SYNTHETIC: &str = "azure-sample";

impl WrittenLoad {
    /// A key that belongs to the other kind.
    fn misplaced(&self) -> Option<&'static str> {
        let of_trace = [
            ("trace", self.trace.is_some()),
            ("synthetic", self.synthetic.is_some()),
            ("minutes", self.minutes.is_some()),
            ("minute", self.minute.is_some()),
            ("start_minute", self.start_minute.is_some()),
            ("max_cores", self.max_cores.is_some()),
            ("max_run", self.max_run.is_some()),
        ];
        let of_rate = [
            ("rate", self.rate.is_some()),
            ("burst", self.burst.is_some()),
            ("every", self.every.is_some()),
            ("seconds", self.seconds.is_some()),
            ("cooldown", self.cooldown.is_some()),
            ("run", self.run.is_some()),
        ];
        let others: &[(&str, bool)] = if self.kind == Kind::Trace { &of_rate } else { &of_trace };
        others.iter().find(|(_, is_there)| *is_there).map(|(key, _)| *key)
    }

    fn trace(&self) -> Result<Trace, String> {
        Ok(Trace {
            trace: self.trace.clone(),
            synthetic: self.synthetic.clone().unwrap_or_else(|| SYNTHETIC.to_owned()),
            minutes: self.minutes.ok_or("missing field `minutes`")?,
            minute: self.minute.unwrap_or(REAL_MINUTE),
            start_minute: self.start_minute.unwrap_or(0),
            functions: self.functions,
            max_cores: self.max_cores,
            max_run: self.max_run,
        })
    }

    fn rate(&self) -> Result<Rate, String> {
        let calls = match (self.functions, self.cooldown) {
            (Some(functions), None) => Calls::Warm { functions },
            (None, Some(cooldown)) => Calls::Cold { cooldown },
            (Some(_), Some(_)) => {
                let why = "how many functions cold calls need follows from the rate";
                return Err(format!("`functions` and `cooldown` exclude each other: {why}"));
            }
            (None, None) => {
                return Err("needs `functions` (warm: so many, called in turn) or `cooldown` (cold)".to_owned());
            }
        };
        let (rate_per_s, bursts) = match (self.rate, self.burst, self.every) {
            (Some(rate), None, None) => (rate, None),
            (None, Some(size), Some(every)) => {
                let bursts = Bursts { size, every };
                (bursts.rate_per_s(), Some(bursts))
            }
            _ => return Err("needs `rate` (one by one), or `burst` and `every` (so many at once, so often)".to_owned()),
        };
        Ok(Rate {
            rate_per_s,
            bursts,
            seconds: self.seconds.ok_or("missing field `seconds`")?,
            calls,
            run: self.run.unwrap_or_default(),
        })
    }
}

impl TryFrom<WrittenLoad> for Load {
    type Error = String;

    fn try_from(written: WrittenLoad) -> Result<Self, String> {
        if let Some(key) = written.misplaced() {
            let (this, other) = if written.kind == Kind::Trace { ("trace", "rate") } else { ("rate", "trace") };
            return Err(format!("`{key}` belongs to a load of kind {other}, and this one is of kind {this}"));
        }
        let (source, arrivals) = match written.kind {
            Kind::Trace => (Source::Trace(written.trace()?), "exponential"),
            Kind::Rate => (Source::Rate(written.rate()?), EQUIDISTANT),
        };
        Ok(Self {
            source,
            warmup: written.warmup,
            arrivals: written.arrivals.unwrap_or_else(|| arrivals.to_owned()),
            protocol: written.protocol,
            connections: written.connections,
            timeout: written.timeout,
        })
    }
}

impl From<Load> for WrittenLoad {
    fn from(load: Load) -> Self {
        let mut written = Self {
            kind: Kind::Rate,
            trace: None,
            synthetic: None,
            minutes: None,
            minute: None,
            start_minute: None,
            functions: None,
            max_cores: None,
            max_run: None,
            rate: None,
            burst: None,
            every: None,
            seconds: None,
            cooldown: None,
            run: None,
            warmup: load.warmup,
            arrivals: Some(load.arrivals),
            protocol: load.protocol,
            connections: load.connections,
            timeout: load.timeout,
        };
        match load.source {
            Source::Trace(trace) => written.set_trace(trace),
            Source::Rate(rate) => written.set_rate(&rate),
        }
        written
    }
}

impl WrittenLoad {
    fn set_trace(&mut self, trace: Trace) {
        self.kind = Kind::Trace;
        self.trace = trace.trace;
        self.synthetic = Some(trace.synthetic);
        self.minutes = Some(trace.minutes);
        self.minute = Some(trace.minute);
        self.start_minute = Some(trace.start_minute);
        self.functions = trace.functions;
        self.max_cores = trace.max_cores;
        self.max_run = trace.max_run;
    }

    fn set_rate(&mut self, rate: &Rate) {
        match rate.bursts {
            None => self.rate = Some(rate.rate_per_s),
            Some(Bursts { size, every }) => (self.burst, self.every) = (Some(size), Some(every)),
        }
        self.seconds = Some(rate.seconds);
        self.run = Some(rate.run);
        match rate.calls {
            Calls::Warm { functions } => self.functions = Some(functions),
            Calls::Cold { cooldown } => self.cooldown = Some(cooldown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Load, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_rate_is_warm_or_cold_and_survives_its_own_toml() {
        let warm = read("kind = \"rate\"\nrate = 500\nseconds = 10\nfunctions = 64\ntimeout = \"5s\"").unwrap();
        assert_eq!(warm.rate().unwrap().calls, Calls::Warm { functions: 64 });
        assert_eq!((warm.length(), warm.warmup()), (Duration::from_secs(10), Duration::ZERO));
        let cold = "kind = \"rate\"\nrate = 0.5\nseconds = 10\nwarmup = \"5s\"\ncooldown = \"4s\"\ntimeout = \"5s\"";
        let cold = read(cold).unwrap();
        assert_eq!(cold.length(), Duration::from_secs(15), "the window begins after the warm-up");
        let bursts = "kind = \"rate\"\nburst = 10\nevery = \"4s\"\nseconds = 10\nfunctions = 10\ntimeout = \"5s\"";
        let bursts = read(bursts).unwrap();
        assert!((bursts.rate().unwrap().rate_per_s - 2.5).abs() < f64::EPSILON);
        for load in [warm, cold, bursts] {
            assert_eq!(read(&toml::to_string(&load).unwrap()), Ok(load));
        }
    }

    #[test]
    fn keys_of_the_other_kind_and_missing_ones_are_named() {
        let refused = |text: &str| read(&format!("{text}\ntimeout = \"5s\"")).unwrap_err();
        let minutes = "kind = \"rate\"\nminutes = 3\nrate = 1\nseconds = 1\nfunctions = 1";
        assert_eq!(refused(minutes), "`minutes` belongs to a load of kind trace, and this one is of kind rate");
        assert!(refused("minutes = 3\nrate = 1").starts_with("`rate` belongs to a load of kind rate"));
        assert!(refused("kind = \"rate\"\nrate = 1\nseconds = 1").starts_with("needs `functions`"));
        assert!(refused("kind = \"rate\"\nseconds = 1\nfunctions = 1").starts_with("needs `rate` (one by one), or"));
        assert!(
            refused("kind = \"rate\"\nrate = 1\nburst = 2\nseconds = 1\nfunctions = 1").starts_with("needs `rate`")
        );
        assert_eq!(refused("synthetic = \"azure\""), "missing field `minutes`");
    }
}
