//! The colours of page and figures, each in a light and a dark form, and the contrast they keep.
//!
//! One list serves the page's style sheet, the figures inside it (which name the variables, so that they follow the
//! reader's colour scheme) and the figures for a paper (which hold the light form).

use std::fmt::Write;

/// One colour.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tone {
    /// Name of its variable.
    pub(crate) name: &'static str,
    pub(crate) light: &'static str,
    pub(crate) dark: &'static str,
}

const fn tone(name: &'static str, light: &'static str, dark: &'static str) -> Tone {
    Tone { name, light, dark }
}

pub(crate) const PAPER: Tone = tone("paper", "#ffffff", "#101418");
pub(crate) const PANEL: Tone = tone("panel", "#f5f7f9", "#181e24");
pub(crate) const TEXT: Tone = tone("text", "#1b2128", "#e6eaee");
pub(crate) const MUTED: Tone = tone("muted", "#55606b", "#a3aeb9");
pub(crate) const RULE: Tone = tone("rule", "#d5dbe1", "#323b45");
const GOOD: Tone = tone("good", "#156c3b", "#62d493");
const BAD: Tone = tone("bad", "#b3202c", "#ff8f8f");
const WARN: Tone = tone("warn", "#8a5300", "#f2b557");

/// Colours of series and phases: distinguishable also with a red-green deficiency, by lightness and order.
pub(crate) const SERIES: [Tone; 8] = [
    tone("s1", "#0b62c4", "#6cb2ff"),
    tone("s2", "#c05200", "#ffa24d"),
    tone("s3", "#12805c", "#4fd6a8"),
    tone("s4", "#7a3fc4", "#c7a2ff"),
    tone("s5", "#7d7000", "#dccb4f"),
    tone("s6", "#c0307c", "#ff94cb"),
    tone("s7", "#0e7a94", "#62d3ee"),
    tone("s8", "#5f6b78", "#b4bfca"),
];

const OTHERS: [Tone; 8] = [PAPER, PANEL, TEXT, MUTED, RULE, GOOD, BAD, WARN];

/// The variables as a style sheet, dark on request of the reader's system, always light on paper.
pub(crate) fn style_sheet() -> String {
    let light = variables(|tone| tone.light);
    let dark = variables(|tone| tone.dark);
    format!(
        ":root{{color-scheme:light dark;{light}}}\
         @media (prefers-color-scheme:dark){{:root{{{dark}}}}}\
         @media print{{:root{{color-scheme:light;{light}}}}}"
    )
}

fn variables(form: impl Fn(&Tone) -> &'static str) -> String {
    OTHERS.iter().chain(&SERIES).fold(String::new(), |mut text, tone| {
        let _ = write!(text, "--{}:{};", tone.name, form(tone));
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, WCAG 2.
    fn luminance(colour: &str) -> f64 {
        let channel = |at: usize| {
            let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
            if value <= 0.04045 { value / 12.92 } else { ((value + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
    }

    fn contrast(a: &str, b: &str) -> f64 {
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    fn keeps(tone: Tone, ground: Tone, least: f64) {
        for (a, b) in [(tone.light, ground.light), (tone.dark, ground.dark)] {
            let found = contrast(a, b);
            assert!(
                found >= least,
                "{} on {}: contrast {found:.2} is below {least} ({a} on {b})",
                tone.name,
                ground.name
            );
        }
    }

    #[test]
    fn text_keeps_a_contrast_of_seven_or_four_and_a_half() {
        for ground in [PAPER, PANEL] {
            keeps(TEXT, ground, 7.0);
            for tone in [MUTED, GOOD, BAD, WARN] {
                keeps(tone, ground, 4.5);
            }
        }
    }

    #[test]
    fn lines_and_bars_keep_a_contrast_of_three() {
        for tone in SERIES {
            keeps(tone, PAPER, 3.0);
        }
    }
}
