//! Buffers that the threads of a team write to at the same time, each its own part.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice that can be lent to several threads.
///
/// It is as good as the `&mut [T]` that it was made from, but the borrow checker no longer sees
/// that parts are apart: who asks for a part promises it.
pub(crate) struct Shared<'a, T> {
    start: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

// SAFETY: it stands for a `&mut [T]`, which may go to another thread where `T` may; that no two
// threads have the same part at the same time is what the callers of `part` and `read` promise.
#[expect(unsafe_code, reason = "the pointer stands for a slice")]
unsafe impl<T: Send> Send for Shared<'_, T> {}
// SAFETY: as above. `read` gives several threads `&T`, hence `T: Sync`.
#[expect(unsafe_code, reason = "the pointer stands for a slice")]
unsafe impl<T: Send + Sync> Sync for Shared<'_, T> {}

impl<'a, T> Shared<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { start: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// The same buffer from element `start` on; panics if it ends before.
    #[inline(always)]
    #[expect(unsafe_code, reason = "the pointer stands for a slice")]
    pub(crate) fn from(self, start: usize) -> Self {
        assert!(start <= self.length, "a part beyond the buffer");
        // SAFETY: the start is within the slice or its end.
        Self { start: unsafe { self.start.add(start) }, length: self.length - start, slice: PhantomData }
    }

    /// Some elements, to write to; panics if they are not there.
    ///
    /// # Safety
    /// While the part lives, no other part that is written to or read has an element of it.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a part of the slice, for one thread")]
    pub(crate) unsafe fn part(self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "a part beyond the buffer");
        // SAFETY: the range is within the slice, which is borrowed for 'a; the caller promises
        // that nothing else uses it meanwhile.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// Some elements, to read; panics if they are not there.
    ///
    /// # Safety
    /// While the part lives, no part that is written to has an element of it.
    #[inline(always)]
    #[expect(unsafe_code, reason = "a part of the slice, for readers")]
    pub(crate) unsafe fn read(self, range: Range<usize>) -> &'a [T] {
        assert!(range.start <= range.end && range.end <= self.length, "a part beyond the buffer");
        // SAFETY: the range is within the slice, which is borrowed for 'a; the caller promises
        // that nothing writes to it meanwhile.
        unsafe { std::slice::from_raw_parts(self.start.add(range.start), range.len()) }
    }
}
