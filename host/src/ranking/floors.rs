//! How much of each block is never removed.

use headroom_shared::ModelShape;

use crate::ranking::RankingError;

/// The share of each block's structures that is never removed.
///
/// The default is that of the published scripts: 5 % of the neurons, 20 % of the heads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Floors {
    /// Share of a block's neurons, 0 to 1.
    pub neurons: f64,
    /// Share of a block's heads, 0 to 1.
    pub heads: f64,
}

impl Default for Floors {
    fn default() -> Self {
        Self { neurons: 0.05, heads: 0.2 }
    }
}

impl Floors {
    /// Sets the floors of `shape`: each count times its share, rounded down. A
    /// block of few heads may so lose all of them (0.2 x 4 heads is 0).
    ///
    /// # Errors
    /// If a share is not from 0 to 1.
    pub fn apply(&self, shape: &mut ModelShape) -> Result<(), RankingError> {
        for (what, value) in [("neurons", self.neurons), ("heads", self.heads)] {
            if !(0.0..=1.0).contains(&value) {
                return Err(RankingError::Floor { what, value });
            }
        }
        // In range: a share of at most 1 of a count that fits.
        shape.floor_neurons = (f64::from(shape.neurons) * self.neurons) as u16;
        shape.floor_heads = (f64::from(shape.heads) * self.heads) as u8;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::quanta::tests::shape;

    #[test]
    fn the_default_floors_of_vit_b16() {
        let mut vit = shape(12, 12, 3072);
        Floors::default().apply(&mut vit).expect("valid shares");
        assert_eq!((vit.floor_neurons, vit.floor_heads), (153, 2));
    }

    #[test]
    fn refuses_what_is_not_a_share() {
        for value in [-0.1, 1.5, f64::NAN] {
            let floors = Floors { heads: value, ..Floors::default() };
            assert!(matches!(floors.apply(&mut shape(1, 2, 8)), Err(RankingError::Floor { what: "heads", .. })));
        }
    }
}
