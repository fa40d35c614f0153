//! A function's own source of randomness for one purpose. Derived by hashing, so that adding or dropping a function, or
//! drawing more for one purpose, changes no other draw; and from whole-number arithmetic, so that it is the same
//! everywhere.

use rand::{Rng, SeedableRng};
use rand_pcg::Pcg64;
use sha2::{Digest, Sha256};

/// One stream of random numbers.
pub(crate) struct Stream(Pcg64);

impl Stream {
    /// The stream for `purpose` of the thing named by `identity`, under `seed`.
    pub(crate) fn new(seed: u64, purpose: &str, identity: &[&str]) -> Self {
        let mut hash = Sha256::new();
        hash.update(seed.to_le_bytes());
        for part in std::iter::once(&purpose).chain(identity) {
            // The length keeps ("ab", "c") apart from ("a", "bc").
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part.as_bytes());
        }
        Self(Pcg64::from_seed(hash.finalize().into()))
    }

    /// Uniform in 0 (included) to 1 (excluded), on a grid of 2^-53.
    pub(crate) fn unit(&mut self) -> f64 {
        crate::quantity::real(self.0.next_u64() >> 11) * (1.0 / 9_007_199_254_740_992.0)
    }

    /// Uniform in `0..bound`; 0 when the bound is 0. The bias is at most bound/2^64, 3e-9 for a minute in nanoseconds.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(product >> 64).expect("the upper half of a 128-bit product fits 64 bits")
    }

    /// Uniform index into something of length `length`; 0 when it is empty.
    pub(crate) fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.below(length as u64)).expect("less than a length of this machine")
    }

    /// The generator itself, for distributions of other libraries.
    pub(crate) fn generator(&mut self) -> &mut Pcg64 {
        &mut self.0
    }
}
