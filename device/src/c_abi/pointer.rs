//! The only place where a caller's pointers become references. What can be checked is checked here.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;

use super::status::{Failure, HeadroomStatus};

fn check<T>(pointer: *const T, name: &str) -> Result<(), Failure> {
    let wrong = |what: &str| Err(Failure::new(HeadroomStatus::InvalidPointer, format!("`{name}` is {what}")));
    if pointer.is_null() {
        return wrong("null");
    }
    if !pointer.is_aligned() {
        return wrong("not aligned");
    }
    Ok(())
}

/// What a handle or a structure of the caller points to.
///
/// # Safety
/// `pointer` is null, or points to a `T` that nobody changes or frees during `'a`.
pub(super) unsafe fn reference<'a, T>(pointer: *const T, name: &str) -> Result<&'a T, Failure> {
    check(pointer, name)?;
    // SAFETY: not null and aligned, as just checked; the rest is the caller's promise.
    Ok(unsafe { &*pointer })
}

/// `expected` values that the caller gives.
///
/// # Safety
/// `pointer` is null, or points to `count` values that nobody changes or frees during `'a`.
pub(super) unsafe fn values<'a, T>(
    pointer: *const T,
    count: usize,
    expected: usize,
    name: &str,
) -> Result<&'a [T], Failure> {
    check(pointer, name)?;
    sized(count, expected, name)?;
    // SAFETY: not null and aligned, as just checked, and no longer than a model's input; the rest is the caller's
    // promise.
    Ok(unsafe { std::slice::from_raw_parts(pointer, count) })
}

pub(super) fn sized(count: usize, expected: usize, name: &str) -> Result<(), Failure> {
    if count == expected {
        return Ok(());
    }
    let message = format!("`{name}` has {count} values, expected {expected}");
    Err(Failure::new(HeadroomStatus::WrongSize, message))
}

/// A path that the caller gives.
///
/// # Safety
/// `pointer` is null, or points to a text that ends in 0.
pub(super) unsafe fn path(pointer: *const c_char, name: &str) -> Result<PathBuf, Failure> {
    check(pointer, name)?;
    // SAFETY: not null, as just checked; the rest is the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    let not_utf8 = |_| Failure::new(HeadroomStatus::InvalidArgument, format!("`{name}` is not UTF-8"));
    text.to_str().map(PathBuf::from).map_err(not_utf8)
}

/// Room of the caller for one result.
pub(super) struct Output<T>(*mut T);

impl<T> Output<T> {
    /// Checked before any work is done.
    ///
    /// # Safety
    /// `pointer` is null, or points to room for a `T` that is the caller's until the call returns.
    pub(super) unsafe fn new(pointer: *mut T, name: &str) -> Result<Self, Failure> {
        check(pointer, name)?;
        Ok(Self(pointer))
    }

    pub(super) fn write(self, value: T) {
        // SAFETY: not null and aligned, as `new` checked, and with room for a `T`, as its caller promised.
        unsafe { self.0.write(value) };
    }
}

/// Room of the caller for some values, or none where the caller does not want them.
pub(super) struct Outputs<T>(Option<(*mut T, usize)>);

impl<T: Copy> Outputs<T> {
    /// Checked before any work is done: either null and 0, or room for exactly `expected`.
    ///
    /// # Safety
    /// `pointer` is null, or points to room for `count` values that is the caller's until the call returns.
    pub(super) unsafe fn new(pointer: *mut T, count: usize, expected: usize, name: &str) -> Result<Self, Failure> {
        if pointer.is_null() && count == 0 {
            return Ok(Self(None));
        }
        check(pointer, name)?;
        sized(count, expected, name)?;
        Ok(Self(Some((pointer, count))))
    }

    /// Writes the values where they are wanted. They are as many as were expected.
    pub(super) fn write(self, values: &[T]) {
        let Some((pointer, count)) = self.0 else { return };
        debug_assert_eq!(values.len(), count);
        // SAFETY: not null and aligned with room for `count` values, as `new` checked and its caller promised; `values`
        // are the library's own and so do not overlap.
        unsafe { std::ptr::copy_nonoverlapping(values.as_ptr(), pointer, count.min(values.len())) };
    }
}

/// Ends a handle; null is none.
///
/// # Safety
/// `handle` is null, or came from `Box::into_raw` and is not used any more.
pub(super) unsafe fn close<T>(handle: *mut T) {
    if !handle.is_null() && handle.is_aligned() {
        // SAFETY: the caller's promise.
        drop(unsafe { Box::from_raw(handle) });
    }
}
