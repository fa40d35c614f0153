//! Memory that an invocation holds while it runs: really touched, so that it is resident.

use std::{collections::TryReserveError, hint::black_box, mem::MaybeUninit};

const MIB: usize = 1024 * 1024;
/// The smallest page of the platforms in use; on larger ones some writes are superfluous.
const PAGE: usize = 4096;

/// Memory with at least one byte written in every page. Freed when dropped.
#[derive(Debug)]
pub(crate) struct Touched(Vec<u8>);

impl Touched {
    /// Touches `mib` MiB.
    ///
    /// # Errors
    /// If the system does not give that much.
    pub(crate) fn new(mib: u32) -> Result<Self, TryReserveError> {
        let bytes = usize::try_from(mib).unwrap_or(usize::MAX).saturating_mul(MIB);
        let mut memory = Vec::new();
        // Only reserved: the writes below make the pages resident, at one byte each.
        memory.try_reserve_exact(bytes)?;
        for page in memory.spare_capacity_mut().chunks_mut(PAGE) {
            page[0] = MaybeUninit::new(1);
        }
        Ok(Self(black_box(memory)))
    }

    /// Memory it holds.
    #[cfg(test)]
    pub(crate) fn mib(&self) -> usize {
        self.0.capacity() / MIB
    }
}

impl Drop for Touched {
    fn drop(&mut self) {
        // Without a use at the end the compiler may leave out the memory as a whole.
        black_box(self.0.as_ptr());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resident memory of this process in KiB.
    fn resident_kib() -> usize {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    #[test]
    fn touched_memory_is_resident_and_freed_on_drop() {
        let before = resident_kib();
        let memory = Touched::new(256).unwrap();
        let during = resident_kib();
        assert_eq!(memory.mib(), 256);
        drop(memory);
        let after = resident_kib();
        assert!(during >= before + 200 * 1024, "256 MiB were touched, resident went from {before} to {during} KiB");
        assert!(after < before + 64 * 1024, "they were dropped, {after} KiB are still resident");
    }

    #[test]
    fn an_impossible_amount_is_an_error() {
        assert!(Touched::new(u32::MAX).is_err() || usize::BITS > 32 && resident_kib() > 0);
        assert_eq!(Touched::new(0).unwrap().mib(), 0);
    }
}
