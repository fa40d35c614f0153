//! Placement `random`: any open node with room.

use super::Policy;

pub(super) const POLICY: Policy =
    Policy { name: "random", about: "a random node with room", pick: |candidates| candidates.draw(None) };
