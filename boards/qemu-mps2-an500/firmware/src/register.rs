//! Registers of peripherals.
#![expect(unsafe_code, reason = "registers are read and written at their addresses")]

/// A 32-bit register of a peripheral of this board.
#[derive(Clone, Copy)]
pub struct Register(*mut u32);

impl Register {
    /// The register at an address of this board's memory map (QEMU 7.2, hw/arm/mps2.c).
    ///
    /// # Safety
    /// There must be a register, and nothing else must use it.
    pub const unsafe fn at(address: usize) -> Self {
        Self(core::ptr::without_provenance_mut(address))
    }

    pub fn read(self) -> u32 {
        // SAFETY: whoever made the register guarantees that it is one.
        unsafe { self.0.read_volatile() }
    }

    pub fn write(self, value: u32) {
        // SAFETY: whoever made the register guarantees that it is one, and that nothing else uses it.
        unsafe { self.0.write_volatile(value) }
    }
}
