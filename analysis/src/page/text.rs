//! Small pieces of markup that several sections share.

use maud::{Markup, html};

/// Renders text between backquotes as code.
pub(super) fn ticked(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// A statement that nothing was measured, never to be mistaken for a result.
pub(super) fn not_measured(reason: &str) -> Markup {
    html! { span.quiet { "not measured: " (ticked(reason)) } }
}
