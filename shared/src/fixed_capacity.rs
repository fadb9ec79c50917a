//! Lists and texts that live in place, without a heap. Thin wrappers: the
//! library behind them is no part of the contract.

use core::fmt;
use core::ops::Deref;

use serde::{Deserialize, Serialize};

/// More than the fixed capacity holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {capacity} entries")]
pub struct CapacityError {
    pub capacity: usize,
}

/// Up to `N` values; reads as a slice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
#[serde(bound(serialize = "T: Serialize", deserialize = "T: Deserialize<'de>"))]
pub struct List<T, const N: usize>(heapless::Vec<T, N>);

impl<T, const N: usize> List<T, N> {
    /// No values.
    #[must_use]
    pub const fn new() -> Self {
        Self(heapless::Vec::new())
    }

    /// Adds a value at the end.
    ///
    /// # Errors
    /// If `N` values are there already.
    pub fn push(&mut self, value: T) -> Result<(), CapacityError> {
        self.0.push(value).map_err(|_| CapacityError { capacity: N })
    }
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a List<T, N> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A text of up to `N` bytes of UTF-8; reads as `str`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Text<const N: usize>(heapless::String<N>);

impl<const N: usize> Text<N> {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = CapacityError;

    fn try_from(text: &str) -> Result<Self, CapacityError> {
        heapless::String::try_from(text).map(Self).map_err(|_| CapacityError { capacity: N })
    }
}

impl<const N: usize> fmt::Display for Text<N> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn say_no_when_full() {
        let mut list = List::<u8, 2>::new();
        assert_eq!(list.push(1), Ok(()));
        assert_eq!(list.push(2), Ok(()));
        assert_eq!(list.push(3), Err(CapacityError { capacity: 2 }));
        assert_eq!(&*list, &[1, 2]);
        assert_eq!(Text::<3>::try_from("Orin"), Err(CapacityError { capacity: 3 }));
        assert_eq!(Text::<4>::try_from("Orin").as_deref(), Ok("Orin"));
    }
}
