//! Memory that the linker knows nothing of: the image's flash and the engine's scratch memory.
#![expect(unsafe_code, reason = "this memory is at fixed addresses")]

/// A range of a board's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    pub address: usize,
    pub bytes: usize,
}

/// Flash that is mapped into memory.
///
/// # Safety
/// The board has flash in this range, and nothing changes it while the firmware runs.
#[must_use]
pub unsafe fn flash(range: MemoryRange) -> &'static [u8] {
    // SAFETY: the caller guarantees that it is there and stays as it is; every byte is a `u8`.
    unsafe { core::slice::from_raw_parts(core::ptr::without_provenance(range.address), range.bytes) }
}

/// RAM, of zeros.
///
/// # Safety
/// The board has RAM in this range, and nothing else uses it: neither the
/// linker, nor another caller.
#[must_use]
pub unsafe fn ram(range: MemoryRange) -> &'static mut [u8] {
    let start: *mut u8 = core::ptr::without_provenance_mut(range.address);
    // SAFETY: the caller guarantees that it is there and nobody else's. Memory with error correction must be written
    // before it is read, which `write_bytes` does.
    unsafe {
        start.write_bytes(0, range.bytes);
        core::slice::from_raw_parts_mut(start, range.bytes)
    }
}
