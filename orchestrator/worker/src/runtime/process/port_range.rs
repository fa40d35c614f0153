//! The kernel's range of local ports, and the initial order in which a worker gives them out.

use std::{collections::VecDeque, fs, ops::RangeInclusive};

/// The kernel's range of local ports, for IPv4 and IPv6.
pub(super) const RANGE_FILE: &str = "/proc/sys/net/ipv4/ip_local_port_range";
/// The ports of that range that the kernel does not give out, for programs with fixed ports.
const RESERVED_FILE: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";
/// The kernel's default, if the file cannot be read.
const DEFAULT_RANGE: RangeInclusive<u16> = 32_768..=60_999;

/// The kernel's local ports without the reserved ones, in their initial order.
pub(super) fn usable() -> VecDeque<u16> {
    let range = fs::read_to_string(RANGE_FILE).ok().and_then(|text| read_range(&text)).unwrap_or(DEFAULT_RANGE);
    let reserved = fs::read_to_string(RESERVED_FILE).map(|text| read_reserved(&text)).unwrap_or_default();
    let mut ports = in_order(range, api::random_instance());
    ports.retain(|port| !reserved.iter().any(|reserved| reserved.contains(port)));
    ports
}

/// All ports of `range`. `offset` rotates the order, so that a restarted worker and other workers of the machine begin
/// elsewhere. Every second port comes first: the kernel prefers the others for outgoing connections, and its search
/// gets slower the more ports in a row are bound.
pub(super) fn in_order(range: RangeInclusive<u16>, offset: u64) -> VecDeque<u16> {
    let (low, high) = (*range.start(), *range.end());
    let mut ports = VecDeque::with_capacity(range.len());
    for first in [low.saturating_add(1), low] {
        let mut half: VecDeque<u16> = (first..=high).step_by(2).collect();
        let length = u64::try_from(half.len()).unwrap_or(u64::MAX).max(1);
        half.rotate_left(usize::try_from(offset % length).unwrap_or(0));
        ports.extend(half);
    }
    ports
}

/// Parses the first and the last port.
fn read_range(text: &str) -> Option<RangeInclusive<u16>> {
    let mut numbers = text.split_whitespace().map(str::parse::<u16>);
    let (low, high) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    (0 < low && low < high).then_some(low..=high)
}

/// Parses ports and ranges of ports, separated by commas.
fn read_reserved(text: &str) -> Vec<RangeInclusive<u16>> {
    let read = |entry: &str| {
        let (low, high) = entry.split_once('-').unwrap_or((entry, entry));
        Some(low.parse().ok()?..=high.parse().ok()?)
    };
    text.trim().split(',').filter_map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_ranges_are_parsed() {
        assert_eq!(read_range("32768\t60999\n"), Some(DEFAULT_RANGE));
        assert_eq!(
            (read_range(""), read_range("9 8"), read_range("x 9"), read_range("1 65536")),
            (None, None, None, None)
        );
        assert_eq!(read_reserved("\n"), []);
        assert_eq!(read_reserved("8080,40000-40010,65535\n"), [8080..=8080, 40_000..=40_010, 65_535..=65_535]);
        assert_eq!(in_order(10..=16, 1), [13, 15, 11, 12, 14, 16, 10]);
        assert_eq!(in_order(65_534..=65_535, 7), [65_535, 65_534]);
    }
}
