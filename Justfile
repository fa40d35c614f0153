# The commands of README.md, and longer ones. Everything here also works without just.

# Lists the recipes.
default:
    @just --list

# The published comparison on this machine; `just repro --quick` takes minutes.
repro *ARGUMENTS:
    cargo repro {{ARGUMENTS}}

# All tests.
test *ARGUMENTS:
    cargo test --workspace {{ARGUMENTS}}

# Everything a change must pass, as on the build machine.
gate:
    .ci/run

# Formats the sources.
fmt:
    cargo fmt --all

# Lints as the gate does.
lint:
    cargo clippy --workspace --all-targets --locked -- -D warnings

# Every program, optimised.
build:
    cargo build --release --locked --workspace --bins

# A cluster on this machine, until Ctrl-C.
up *ARGUMENTS:
    cargo run --release --locked --package dirigent -- up {{ARGUMENTS}}
