//! Gives `--version` the git revision that the program is built from.

fn main() {
    revision::emit();
}
