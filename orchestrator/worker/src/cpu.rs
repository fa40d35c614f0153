//! An amount of CPU in a configuration: `"64"` or `"1.5"` cores, or `"500m"` millicores.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// An amount of CPU, in millicores: 1000 is one core.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "CpuValue", into = "String")]
pub struct Cpu {
    /// Thousandths of a core, at least 1.
    pub millicores: u64,
}

/// A text that is no amount of CPU.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0:?} is not an amount of CPU: expected cores such as \"64\" or \"1.5\", or millicores such as \"500m\"")]
pub struct CpuError(String);

/// A value in TOML. Users write both `cpu = 64` and `cpu = "64"`.
#[derive(Deserialize)]
#[serde(untagged)]
enum CpuValue {
    Number(f64),
    Text(String),
}

/// A million cores. A larger number has the wrong unit.
const MAX_MILLICORES: f64 = 1e9;

impl FromStr for Cpu {
    type Err = CpuError;

    fn from_str(text: &str) -> Result<Self, CpuError> {
        let (number, unit) = match text.strip_suffix('m') {
            Some(number) => (number, 1.0),
            None => (text, 1000.0),
        };
        let millicores = number.parse::<f64>().map(|number| (number * unit).round());
        match millicores {
            Ok(millicores) if (1.0..=MAX_MILLICORES).contains(&millicores) => {
                #[allow(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "the range is checked above"
                )]
                let millicores = millicores as u64;
                Ok(Self { millicores })
            }
            _ => Err(CpuError(text.to_owned())),
        }
    }
}

impl fmt::Display for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.millicores.is_multiple_of(1000) {
            write!(f, "{}", self.millicores / 1000)
        } else {
            write!(f, "{}m", self.millicores)
        }
    }
}

impl TryFrom<CpuValue> for Cpu {
    type Error = CpuError;

    fn try_from(value: CpuValue) -> Result<Self, CpuError> {
        match value {
            CpuValue::Number(cores) => cores.to_string().parse(),
            CpuValue::Text(text) => text.parse(),
        }
    }
}

impl From<Cpu> for String {
    fn from(cpu: Cpu) -> Self {
        cpu.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_and_millicores_are_parsed_and_displayed() {
        for (text, millicores, written) in
            [("64", 64_000, "64"), ("1.5", 1500, "1500m"), ("500m", 500, "500m"), ("2000m", 2000, "2")]
        {
            let cpu: Cpu = text.parse().unwrap();
            assert_eq!((cpu.millicores, cpu.to_string().as_str()), (millicores, written), "{text}");
        }
        let natural: std::collections::BTreeMap<String, Cpu> = toml::from_str("a = 64\nb = 1.5\nc = \"64\"").unwrap();
        assert_eq!(natural.values().map(|cpu| cpu.millicores).collect::<Vec<_>>(), [64_000, 1500, 64_000]);
        for bad in ["", "m", "0", "-1", "64 cores", "inf", "NaN", "1e300", "0.0001"] {
            assert!(bad.parse::<Cpu>().unwrap_err().to_string().contains("500m"), "{bad}");
        }
    }
}
