//! Each sub-network is run once.
//!
//! Different factors often keep the same structures, most of all at mild
//! sparsities and late in a search.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::ranking::Selection;
use crate::search::exact;

/// The similarity of every selection that was run.
///
/// A sorted map, so that the same memo is written as the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Vec<Entry>", into = "Vec<Entry>")]
pub(super) struct Memo(BTreeMap<Selection, f64>);

#[derive(Serialize, Deserialize)]
struct Entry {
    kept: Selection,
    #[serde(with = "exact::number")]
    similarity: f64,
}

/// What the memo saved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statistics {
    /// Sub-networks whose similarity was asked for: evaluations times sparsities.
    pub asked: usize,
    /// Sub-networks that were run over the calibration images.
    pub embedded: usize,
}

impl Statistics {
    /// Sub-networks that the memo knew already.
    #[must_use]
    pub fn saved(&self) -> usize {
        self.asked - self.embedded
    }
}

impl fmt::Display for Statistics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (asked, embedded, saved) = (self.asked, self.embedded, self.saved());
        write!(formatter, "{asked} sub-networks asked for, {embedded} run, {saved} saved by the memo")
    }
}

impl Memo {
    pub(super) fn get(&self, kept: &Selection) -> Option<f64> {
        self.0.get(kept).copied()
    }

    pub(super) fn extend(&mut self, entries: impl IntoIterator<Item = (Selection, f64)>) {
        self.0.extend(entries);
    }
}

impl From<Vec<Entry>> for Memo {
    fn from(entries: Vec<Entry>) -> Self {
        Self(entries.into_iter().map(|entry| (entry.kept, entry.similarity)).collect())
    }
}

impl From<Memo> for Vec<Entry> {
    fn from(memo: Memo) -> Self {
        memo.0.into_iter().map(|(kept, similarity)| Entry { kept, similarity }).collect()
    }
}
