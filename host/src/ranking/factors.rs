//! The global term of importance: how blocks and heads compare across the network.

use headroom_shared::ModelShape;

use crate::ranking::RankingError;

/// One factor for each MLP block, then one for each head, block by block.
///
/// For ViT-B/16 that is 12 + 12 x 12 = 156 numbers, none negative.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors {
    blocks: usize,
    heads: usize,
    values: Vec<f64>,
}

impl Factors {
    /// The published start of the search: 1.2 at the first block, falling
    /// linearly to 0.8 at the last, for MLPs and heads alike.
    #[must_use]
    pub fn start(shape: &ModelShape) -> Self {
        let (blocks, heads) = (usize::from(shape.blocks), usize::from(shape.heads));
        let of_block = |block: usize| 1.2 - 0.4 * block as f64 / (blocks - 1).max(1) as f64;
        let mlps = (0..blocks).map(of_block);
        let values = mlps.chain((0..blocks * heads).map(|head| of_block(head / heads))).collect();
        Self { blocks, heads, values }
    }

    /// All factors one: local scores alone decide.
    #[must_use]
    pub fn ones(shape: &ModelShape) -> Self {
        let (blocks, heads) = (usize::from(shape.blocks), usize::from(shape.heads));
        Self { blocks, heads, values: vec![1.0; blocks * (1 + heads)] }
    }

    /// The absolute values of a point that an optimiser proposes.
    ///
    /// # Errors
    /// If the number of values does not fit the shape or one is not finite.
    pub fn from_point(shape: &ModelShape, point: &[f64]) -> Result<Self, RankingError> {
        let (blocks, heads) = (usize::from(shape.blocks), usize::from(shape.heads));
        let expected = blocks * (1 + heads);
        if point.len() != expected {
            return Err(RankingError::Length { what: "factors".to_owned(), expected, found: point.len() });
        }
        if let Some(index) = point.iter().position(|value| !value.is_finite()) {
            return Err(RankingError::Factor { index, value: point[index] });
        }
        Ok(Self { blocks, heads, values: point.iter().map(|value| value.abs()).collect() })
    }

    /// All factors, in the order of the type's description.
    #[must_use]
    pub fn values(&self) -> &[f64] {
        &self.values
    }

    /// The factor of the MLP of `block`.
    #[must_use]
    pub fn mlp(&self, block: usize) -> f64 {
        self.values[block]
    }

    /// The factor of `head` of `block`.
    #[must_use]
    pub fn head(&self, block: usize, head: usize) -> f64 {
        self.values[self.blocks + block * self.heads + head]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::quanta::tests::shape;

    #[test]
    fn the_start_falls_from_1_2_to_0_8() {
        let start = Factors::start(&shape(3, 2, 8));
        let expected = [1.2, 1.0, 0.8, 1.2, 1.2, 1.0, 1.0, 0.8, 0.8];
        assert_eq!(start.values().len(), expected.len());
        for (found, expected) in start.values().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        assert_eq!(start.head(2, 1), start.mlp(2));
        assert_eq!(Factors::start(&shape(1, 1, 8)).values(), [1.2, 1.2]);
    }

    #[test]
    fn a_point_gives_absolute_values_or_an_error() {
        let tiny = shape(1, 1, 8);
        assert_eq!(Factors::from_point(&tiny, &[-2.0, 0.5]).expect("finite").values(), [2.0, 0.5]);
        assert!(matches!(Factors::from_point(&tiny, &[1.0]), Err(RankingError::Length { expected: 2, found: 1, .. })));
        assert!(matches!(Factors::from_point(&tiny, &[1.0, f64::NAN]), Err(RankingError::Factor { index: 1, .. })));
    }
}
