//! Invocations at a constant rate, in a batch for each millisecond. A late tick sends the missed invocations too.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::data_plane::DataPlane;

const TICK: Duration = Duration::from_millis(1);

/// Invokes the data plane's functions round-robin, for ever.
pub(crate) async fn pace(data_plane: DataPlane, rate_per_s: f64) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut ticks = interval(TICK);
    // Missed ticks need no repetition, since each tick sends whatever is due by then.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = 0;
    loop {
        ticks.tick().await;
        let due = due(began.elapsed(), rate_per_s);
        data_plane.invoke(sent, due);
        sent = due;
    }
}

/// Number of invocations that are due after `elapsed`.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that grows from 0")]
fn due(elapsed: Duration, rate_per_s: f64) -> u64 {
    (elapsed.as_secs_f64() * rate_per_s) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_kept_over_any_time_without_rounding_up() {
        assert_eq!(due(Duration::ZERO, 1e6), 0);
        assert_eq!(due(Duration::from_millis(999), 1.0), 0, "an invocation is not sent before its time");
        assert_eq!(due(Duration::from_secs(3600), 0.5), 1800);
        assert_eq!(due(Duration::from_millis(1), 1e6), 1000);
    }
}
