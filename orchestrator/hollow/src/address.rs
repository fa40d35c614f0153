//! Addresses for sandboxes that share one listener. Each sandbox has its own, because clients pool connections by
//! address.

use std::{collections::VecDeque, net::Ipv4Addr};

/// Daemons and name services use 127.0.0.0/16.
const FIRST: Ipv4Addr = Ipv4Addr::new(127, 1, 0, 0);
/// The very last address of the network is its broadcast address.
const LAST: Ipv4Addr = Ipv4Addr::new(127, 255, 255, 254);

/// Allocates the addresses of a range, each to one sandbox at a time.
///
/// Unused addresses come first, then the one released longest ago, so that a late packet for an ended sandbox does not
/// reach a new one.
#[derive(Debug)]
pub struct AddressPool {
    /// The next unused address, as a number; greater than `last` if there is none.
    next: u64,
    last: u64,
    /// Released addresses, oldest first. Bounded by the range.
    released: VecDeque<Ipv4Addr>,
}

impl AddressPool {
    /// The loopback network without 127.0.0.0/16: some 16 million addresses.
    #[must_use]
    pub fn loopback() -> Self {
        Self::new(FIRST, LAST)
    }

    /// The addresses from `first` to `last`, both included; none if `last` is smaller.
    #[must_use]
    pub fn new(first: Ipv4Addr, last: Ipv4Addr) -> Self {
        Self { next: first.to_bits().into(), last: last.to_bits().into(), released: VecDeque::new() }
    }

    /// Allocates an address; `None` if all are in use.
    pub fn take(&mut self) -> Option<Ipv4Addr> {
        if self.next > self.last {
            return self.released.pop_front();
        }
        let address = u32::try_from(self.next).expect("at most `last`, which came from an address");
        self.next += 1;
        Some(Ipv4Addr::from_bits(address))
    }

    /// Releases an address that [`take`](Self::take) returned and that is no longer in use.
    pub fn release(&mut self, address: Ipv4Addr) {
        debug_assert!(u64::from(address.to_bits()) < self.next, "{address} was never taken");
        self.released.push_back(address);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Any order of allocations and releases, over a range small enough to run out.
        #[test]
        fn no_address_is_held_twice_and_none_is_lost(steps in prop::collection::vec(any::<Option<u8>>(), 0..200)) {
            let (first, last) = (Ipv4Addr::new(127, 1, 255, 250), Ipv4Addr::new(127, 2, 0, 9));
            let mut pool = AddressPool::new(first, last);
            let mut held = BTreeSet::new();
            let mut released = VecDeque::new();
            for step in steps {
                match step {
                    Some(choice) if !held.is_empty() => {
                        let address = *held.iter().nth(usize::from(choice) % held.len()).unwrap();
                        held.remove(&address);
                        pool.release(address);
                        released.push_back(address);
                    }
                    _ => {
                        let taken = pool.take();
                        prop_assert_eq!(taken.is_none(), held.len() == 16, "there are 16 addresses");
                        let Some(address) = taken else { continue };
                        prop_assert!((first..=last).contains(&address) && held.insert(address), "{} again", address);
                        if let Some(position) = released.iter().position(|r| *r == address) {
                            prop_assert_eq!(position, 0, "{} was not released longest ago", address);
                            released.pop_front();
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn loopback_excludes_reserved_addresses() {
        let mut pool = AddressPool::loopback();
        assert_eq!(pool.take(), Some(Ipv4Addr::new(127, 1, 0, 0)));
        let mut taken = 1u32;
        while let Some(address) = pool.take() {
            assert!(address.is_loopback() && address != Ipv4Addr::new(127, 255, 255, 255));
            taken += 1;
        }
        assert_eq!(taken, 255 * 65536 - 1);
    }
}
