//! One quantum removed, in one byte: `(block << 2) | kind`.
//!
//! ```text
//! bit   7 6 5 4 3 2   1 0
//!       block 0..63   kind
//! ```
//!
//! | kind | removes |
//! |---|---|
//! | 0 | the last group of 8 neurons that the block still has |
//! | 1 | the last head that the block still has |
//! | 2 | the last 8 value dimensions that each head of the block still has, and what the projection reads of them |
//! | 3 | the last 8 query and key dimensions that each head of the block still has; only where positions are not rotary |
//!
//! Neurons are grouped in array order: group `g` is neurons `8g..min(8g + 8, N)`.
//! The group at the end, the first to go, may be smaller; after it every count
//! is a multiple of 8. Dimensions inside heads are grouped alike, in every head of
//! the block at once.

use crate::shape::MAX_BLOCKS;

/// What a step removes from its block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// A group of neurons.
    Neurons,
    /// An attention head.
    Head,
    /// A group of value dimensions of every head.
    ValueDims,
    /// A group of query and key dimensions of every head.
    QueryDims,
}

/// One quantum of one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Step {
    block: u8,
    kind: StepKind,
}

impl Step {
    /// A step of `block`; `None` from [`MAX_BLOCKS`] on.
    #[must_use]
    pub fn new(block: usize, kind: StepKind) -> Option<Self> {
        if block < MAX_BLOCKS { Some(Self { block: block as u8, kind }) } else { None }
    }

    /// The block that loses the quantum.
    #[must_use]
    pub fn block(self) -> usize {
        usize::from(self.block)
    }

    /// What the block loses.
    #[must_use]
    pub fn kind(self) -> StepKind {
        self.kind
    }

    /// The byte of the structure map.
    #[must_use]
    pub fn to_byte(self) -> u8 {
        let kind = match self.kind {
            StepKind::Neurons => 0,
            StepKind::Head => 1,
            StepKind::ValueDims => 2,
            StepKind::QueryDims => 3,
        };
        (self.block << 2) | kind
    }

    /// Reads a byte of the structure map: every byte is a step.
    #[must_use]
    pub fn from_byte(byte: u8) -> Self {
        let kind = match byte & 0b11 {
            0 => StepKind::Neurons,
            1 => StepKind::Head,
            2 => StepKind::ValueDims,
            _ => StepKind::QueryDims,
        };
        Self { block: byte >> 2, kind }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_a_step() {
        for byte in 0..=u8::MAX {
            let step = Step::from_byte(byte);
            assert_eq!(step.to_byte(), byte);
            assert_eq!(Step::new(step.block(), step.kind()), Some(step));
        }
        assert_eq!(Step::new(MAX_BLOCKS, StepKind::Head), None);
        assert_eq!(Step::new(11, StepKind::Head).map(Step::to_byte), Some(0b0010_1101));
        assert_eq!(Step::new(11, StepKind::ValueDims).map(Step::to_byte), Some(0b0010_1110));
        assert_eq!(Step::new(11, StepKind::QueryDims).map(Step::to_byte), Some(0b0010_1111));
    }
}
