//! Tables on a terminal: wrapped to its width, and as they are in a file where it tells none.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod program;

use program::loadgen;

#[test]
fn tables_are_wrapped_to_the_width_of_a_terminal() {
    let inspect = ["inspect", "--rate", "5", "--duration", "1s"];
    let piped = program::run(&inspect).1;
    let longest = |text: &str| text.lines().map(|line| line.chars().count()).max().unwrap();
    assert!(longest(&piped) > 80, "or nothing would have to be wrapped:\n{piped}");
    let on_a_terminal = |columns| programs::on_a_terminal(loadgen(&inspect), columns).unwrap().1;
    assert_eq!(on_a_terminal(0), piped, "one that tells no width");
    let wrapped = on_a_terminal(80);
    assert!(longest(&wrapped) <= 80 && wrapped.lines().count() > piped.lines().count(), "{wrapped}");
}
