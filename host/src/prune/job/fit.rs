//! What of a model a microcontroller has room for.

use headroom_device::integer::{ArenaSizes, FEW_TOKENS, arena_bytes};
use headroom_device::model::{Corrections, Weights};
use headroom_shared::board::Microcontroller;
use headroom_shared::flash_image::Settings;
use headroom_shared::integer_model::{BlockCounts, IntegerModelParts};
use headroom_shared::shape::DIMENSION_QUANTUM;
use headroom_shared::{FlashImage, IntegerModel, ModelShape, Rung, SubNetwork};

use super::super::report::{FitReport, NeedReport};
use super::super::{Precision, PruneError};
use super::bundle::structure_map;
use super::{Job, Ranked};

/// What is stored for the board, and what each rung would need.
pub(super) struct Fit {
    pub(super) parts: IntegerModelParts,
    pub(super) report: FitReport,
    /// One for each rung of the ladder.
    pub(super) needs: Vec<NeedReport>,
}

impl Job<'_> {
    /// Refuses what no ranking could make fit: the smallest network that the options leave of the model.
    pub(super) fn can_fit(&self, shape: &ModelShape, weights: &Weights) -> Result<(), PruneError> {
        let Some(board) = &self.board.profile.microcontroller else { return Ok(()) };
        if self.precision() != Precision::Int8 {
            return Err(PruneError::OnlyIntegers { board: self.board.name });
        }
        let dims = usize::from(shape.head_dim.min(DIMENSION_QUANTUM));
        let smallest = BlockCounts {
            heads: shape.floor_heads.into(),
            query_dims: dims,
            value_dims: dims,
            neurons: shape.floor_neurons.into(),
        };
        let counts = vec![smallest; shape.blocks.into()];
        let parts = self.integer_prefix(weights, &Corrections::default(), &counts, true)?;
        self.need(&parts, 0, board)?.check(board)
    }

    /// The largest rung that fits, with those below it.
    pub(super) fn fit(
        &self,
        permuted: &Weights,
        corrections: &Corrections,
        ranked: &Ranked,
        rungs: &[Rung<'_>],
    ) -> Result<Option<Fit>, PruneError> {
        let Some(board) = &self.board.profile.microcontroller else { return Ok(None) };
        let map = structure_map(&ranked.shape, [0; 32], &ranked.ranking.steps, rungs)?;
        let (mut needs, mut stored) = (Vec::new(), None);
        for (rung, sub_network) in ranked.sub_networks.iter().enumerate() {
            let mut below = corrections.clone();
            below.retain(|corrected| corrected >= rung);
            let original_ends = below.places().count() < rungs.len() - rung;
            let parts = self.integer_prefix(
                permuted,
                &below,
                &counts(sub_network, ranked.shape.head_dim.into()),
                original_ends,
            )?;
            let need = self.need(&parts, map.len(), board)?;
            needs.push(need);
            if need.fits && stored.is_none() {
                stored = Some((rung, parts));
            }
        }
        let Some((start_rung, parts)) = stored else {
            return match needs.last() {
                Some(smallest) => smallest.check(board).map(|()| None),
                None => Ok(None),
            };
        };
        let report = FitReport {
            start_rung,
            flash_bytes: board.bundle_flash.value.bytes.into(),
            ram_bytes: board.scratch_ram.value.bytes.into(),
        };
        Ok(Some(Fit { parts, report, needs }))
    }

    /// What the board needs for an image with these weights and so long a map.
    fn need(
        &self,
        parts: &IntegerModelParts,
        map_bytes: usize,
        board: &Microcontroller,
    ) -> Result<NeedReport, PruneError> {
        let file = parts.write()?;
        let flash_bytes = FlashImage::bytes(&Settings::of(&self.board.profile), map_bytes, file.len())?;
        let ram_bytes = arena_bytes(&ArenaSizes::of_model(&IntegerModel::read(&file)?, FEW_TOKENS)) as u64;
        let (flash, ram) = (board.bundle_flash.value.bytes, board.scratch_ram.value.bytes);
        let fits = flash_bytes <= flash.into() && ram_bytes <= ram.into();
        Ok(NeedReport { flash_bytes, ram_bytes, fits })
    }
}

impl NeedReport {
    /// # Errors
    /// If the board has less.
    fn check(self, board: &Microcontroller) -> Result<(), PruneError> {
        let (flash, ram) = (board.bundle_flash.value.bytes.into(), board.scratch_ram.value.bytes.into());
        for (part, needed, limit) in [("flash", self.flash_bytes, flash), ("RAM", self.ram_bytes, ram)] {
            if needed > limit {
                return Err(PruneError::DoesNotFit { part, needed, limit });
            }
        }
        Ok(())
    }
}

/// What a sub-network of heads with `head_dim` dimensions keeps of each block.
fn counts(sub_network: &SubNetwork, head_dim: usize) -> Vec<BlockCounts> {
    (0..sub_network.blocks()).map(|block| BlockCounts::of(sub_network, block, head_dim)).collect()
}
