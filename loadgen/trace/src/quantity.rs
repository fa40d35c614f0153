//! Conversions between whole and real quantities, saturating, so that no other file casts a real number.

/// The whole number nearest to `value`; 0 below zero or for NaN, the greatest above the range.
#[allow(clippy::cast_possible_truncation, reason = "a cast from a real number saturates, which is the contract here")]
#[allow(clippy::cast_sign_loss, reason = "a cast from a negative number gives 0, which is the contract here")]
pub(crate) fn whole(value: f64) -> u64 {
    value.round() as u64
}

/// As [`whole`], for quantities held in 32 bits.
pub(crate) fn whole_u32(value: f64) -> u32 {
    u32::try_from(whole(value)).unwrap_or(u32::MAX)
}

/// `value` as a real number; exact below 2^53, which is 104 days in nanoseconds.
#[allow(clippy::cast_precision_loss, reason = "everything counted here stays below 2^53")]
pub(crate) fn real(value: u64) -> f64 {
    value as f64
}

/// A length or an index as a real number.
pub(crate) fn real_len(value: usize) -> f64 {
    real(u64::try_from(value).unwrap_or(u64::MAX))
}

/// A duration in nanoseconds, saturating at 584 years.
pub(crate) fn nanoseconds(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A duration in milliseconds.
pub(crate) fn milliseconds(duration: std::time::Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
