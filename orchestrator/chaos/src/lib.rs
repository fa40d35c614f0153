//! The whole cluster in one thread, on a simulated network with faults: the real components, reproducible from a seed.
//!
//! `cargo test -p chaos` runs the seeds of `tests/seeds.rs`. To see one run with its events and the components' logs:
//! `RUST_LOG=info cargo run -p chaos --example reproduce -- --reproduce 7`; to try many: `… -- --from 100 --count 50`.
//! The code is in `tests/simulation`, so that no measured program is ever built with a simulated clock.
