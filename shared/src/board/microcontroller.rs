//! The memory map of a board without an operating system.

use serde::Deserialize;

use crate::origin::Sourced;
use crate::units::Frequency;

/// What firmware and bundle may use of a microcontroller.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Microcontroller {
    /// The clock of the core while it infers.
    #[serde(rename = "clock_hertz")]
    pub clock: Sourced<Frequency>,
    /// Flash for the firmware.
    pub firmware_flash: Sourced<MemoryRegion>,
    /// Flash for the bundle region: structure map, integer weights and limits,
    /// read in place. It begins and ends with an erasable sector, so that a new
    /// bundle needs no new firmware.
    pub bundle_flash: Sourced<MemoryRegion>,
    /// RAM for the firmware's variables and its stack.
    pub main_ram: Sourced<MemoryRegion>,
    /// The part of `main_ram` that the stack may use at most.
    pub stack_bytes: Sourced<u32>,
    /// RAM for the scratch memory of the engine, in one piece.
    pub scratch_ram: Sourced<MemoryRegion>,
}

/// A piece of the address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryRegion {
    pub address: u32,
    pub bytes: u32,
}

impl MemoryRegion {
    /// The first address behind it.
    #[must_use]
    pub fn end(&self) -> u64 {
        u64::from(self.address) + u64::from(self.bytes)
    }

    /// Whether an address is in both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        u64::from(self.address) < other.end() && u64::from(other.address) < self.end()
    }
}
