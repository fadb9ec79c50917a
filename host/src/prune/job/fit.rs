//! What of a model a microcontroller has room for.

use headroom_device::integer::{ArenaSizes, FEW_TOKENS, arena_bytes};
use headroom_device::model::description::Position;
use headroom_device::model::{Corrections, Weights};
use headroom_device::run::Precision;
use headroom_shared::board::Microcontroller;
use headroom_shared::flash_image::Settings;
use headroom_shared::integer_model::{BlockCounts, IntegerModelParts};
use headroom_shared::shape::DIMENSION_QUANTUM;
use headroom_shared::{FlashImage, IntegerModel, ModelShape, SubNetwork};

use super::super::PruneError;
use super::super::measure::Measured;
use super::super::report::{FitReport, NeedReport};
use super::bundle::structure_map;
use super::{Job, Ranked};

impl Job<'_> {
    /// Refuses, before the long work, what the integer engine cannot run or no ranking could make fit the board: the
    /// smallest network that the options leave of the model.
    pub(super) fn check_integers(&self, shape: &ModelShape, weights: &Weights) -> Result<(), PruneError> {
        let board = &self.board.profile.microcontroller;
        if self.precision() != Precision::Int8 {
            return if board.is_some() { Err(PruneError::OnlyIntegers { board: self.board.name }) } else { Ok(()) };
        }
        let dims = usize::from(shape.head_dim.min(DIMENSION_QUANTUM));
        let rotary = matches!(self.checkpoint.description.embedding.position, Position::Rotary { .. });
        let smallest = BlockCounts {
            heads: shape.floor_heads.into(),
            query_dims: if rotary { shape.head_dim.into() } else { dims },
            value_dims: dims,
            neurons: shape.floor_neurons.into(),
        };
        let counts = vec![smallest; shape.blocks.into()];
        let parts = self.integer_prefix(weights, &Corrections::default(), &counts, true)?;
        let Some(board) = board else { return Ok(()) };
        self.need(&parts, 0, board)?.check(board)
    }

    /// The weights from the largest rung that fits on, for a microcontroller; every rung is told what it needs.
    pub(super) fn fit(
        &self,
        permuted: &Weights,
        corrections: &Corrections,
        ranked: &Ranked,
        measured: &mut [Measured],
    ) -> Result<Option<(IntegerModelParts, FitReport)>, PruneError> {
        let Some(board) = &self.board.profile.microcontroller else { return Ok(None) };
        let map = structure_map(ranked, [0; 32], measured)?;
        let rungs = measured.len();
        let mut stored = None;
        for (rung, (measured, sub_network)) in measured.iter_mut().zip(&ranked.sub_networks).enumerate() {
            let mut below = corrections.clone();
            below.retain(|corrected| corrected >= rung);
            let original_ends = below.places().count() < rungs - rung;
            let counts = counts(sub_network, ranked.shape.head_dim.into());
            let parts = self.integer_prefix(permuted, &below, &counts, original_ends)?;
            let need = self.need(&parts, map.len(), board)?;
            measured.need = Some(need);
            if need.fits && stored.is_none() {
                stored = Some((rung, parts));
            } else if rung + 1 == rungs && stored.is_none() {
                need.check(board)?;
            }
        }
        Ok(stored.map(|(start_rung, parts)| {
            let (flash, ram) = (board.bundle_flash.value.bytes, board.scratch_ram.value.bytes);
            (parts, FitReport { start_rung, flash_bytes: flash.into(), ram_bytes: ram.into() })
        }))
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
