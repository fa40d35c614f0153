//! Placement `kubernetes`: the node that the default scores of kube-scheduler prefer.
//!
//! The sum of two scores from 0 to 100, each with weight 1 as in the default profile of Kubernetes 1.29
//! (pkg/scheduler/framework/plugins/noderesources: least_allocated.go, balanced_allocation.go), reimplemented from
//! their formulas. With what would be reserved after the placement, and resources of which a node has none left out:
//!
//!  * LeastAllocated: the mean over CPU and memory of `(capacity − reserved) × 100 / capacity`, each rounded down;
//!  * BalancedAllocation: `(1 − σ) × 100` rounded down, σ the standard deviation of the reserved shares, which for
//!    two resources is half of their difference.
//!
//! Among equals a random one. kube-scheduler scores half of a large cluster (at least 100 nodes); here the sample is
//! bounded like that of every policy.

use super::{Candidates, NodeKey, Policy};

pub(super) const POLICY: Policy = Policy {
    name: "kubernetes",
    about: "of up to 64 nodes the one that LeastAllocated + BalancedAllocation prefer, as kube-scheduler does",
    pick: |candidates| candidates.best_of_sample(score),
};

/// kube-scheduler's greatest score of one plugin.
const MAX_SCORE: u64 = 100;

fn score(candidates: &Candidates<'_>, node: NodeKey) -> u64 {
    let reserved = candidates.reserved_after(node);
    least_allocated(reserved) + balanced_allocation(reserved)
}

/// Of what would be reserved and the capacity, for each resource.
fn least_allocated(reserved: [(u64, u64); 2]) -> u64 {
    let scores = reserved.into_iter().filter(|(_, capacity)| *capacity > 0);
    let scores = scores.map(|(part, whole)| whole.saturating_sub(part) * MAX_SCORE / whole);
    let (sum, count) = scores.fold((0, 0), |(sum, count), score| (sum + score, count + 1));
    sum / count.max(1)
}

fn balanced_allocation(reserved: [(u64, u64); 2]) -> u64 {
    let share = |(part, whole): (u64, u64)| (part as f64 / whole as f64).min(1.0);
    // With one resource there is nothing to balance: its deviation is 0.
    let deviation = match reserved {
        [(_, 0), _] | [_, (_, 0)] => 0.0,
        [cpu, memory] => (share(cpu) - share(memory)).abs() / 2.0,
    };
    whole((1.0 - deviation) * MAX_SCORE as f64)
}

/// Rounded down, as Go converts; the scores are between 0 and 100.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 100")]
fn whole(score: f64) -> u64 {
    score as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_are_those_computed_by_hand() {
        for (cpu, memory, least, balanced) in [
            // (1000 − 500) × 100 / 1000 = 50 and (1000 − 250) × 100 / 1000 = 75: 125 / 2 = 62.5, rounded down.
            // Shares 0.5 and 0.25, σ = 0.125: 87.5, rounded down.
            ((500, 1000), (250, 1000), 62, 87),
            // Shares 0.75 both: 25 and 25; σ = 0.
            ((3000, 4000), (6144, 8192), 25, 100),
            // 2 × 100 / 3 = 66.7 → 66, 100 → 100; 166 / 2 = 83. Shares 1/3 and 0: σ = 1/6, 83.3 → 83.
            ((1, 3), (0, 10), 83, 83),
            // Full of CPU, no memory used: 0 and 100; shares 1 and 0: σ = 0.5.
            ((10, 10), (0, 10), 50, 50),
            // A node without memory: CPU counts alone, 90 × 100 / 100, and is in balance with itself.
            ((10, 100), (0, 0), 90, 100),
            // Without anything at all: no score of the first kind.
            ((0, 0), (0, 0), 0, 100),
        ] {
            let reserved = [cpu, memory];
            assert_eq!(least_allocated(reserved), least, "LeastAllocated of {reserved:?}");
            assert_eq!(balanced_allocation(reserved), balanced, "BalancedAllocation of {reserved:?}");
        }
    }
}
