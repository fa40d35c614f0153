//! Invocations at a constant rate. A millisecond's worth goes out together; what a late tick missed follows at once.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::data_plane::DataPlane;

const TICK: Duration = Duration::from_millis(1);

/// Invokes the data plane's functions in turn, for ever.
pub(crate) async fn pace(data_plane: DataPlane, rate_per_s: f64) -> anyhow::Result<()> {
    let began = Instant::now();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut sent = 0;
    loop {
        ticks.tick().await;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count that grows from 0")]
        let due = (began.elapsed().as_secs_f64() * rate_per_s) as u64;
        data_plane.invoke(sent, due);
        sent = due;
    }
}
