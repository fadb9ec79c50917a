//! The basis of the values, where dimensions inside heads are ranked.

use candle_core::DType;
use headroom_device::model::Weights;

use super::super::images::JobImages;
use super::super::{AttentionUnits, PruneError};
use super::memory::Remedy;
use super::{Job, Passes};
use crate::executor::CandleVit;
use crate::executor::memory::{Held, Way};
use crate::head_basis::{HeadBasis, TOKENS_TOGETHER};

/// Images that the basis is fitted on: a head's second moments need few.
const IMAGES: usize = 64;

impl Job<'_> {
    pub(super) fn head_basis(
        &mut self,
        weights: &Weights,
        images: &JobImages,
    ) -> Result<Option<HeadBasis>, PruneError> {
        if self.options.attention_units() == AttentionUnits::Heads {
            return Ok(None);
        }
        let count = images.calibration_count().min(IMAGES);
        let pixels = &images.calibration()[..count * images.pixels_per_image()];
        self.stage(
            "head basis",
            |_| Passes::forward(count as u64),
            |job| {
                let description = &job.checkpoint.description;
                let images_held = pixels.len() / images.pixels_per_image();
                let device = job.devices.first();
                let way = Way::on(device, TOKENS_TOGETHER);
                job.check_memory("head basis", Held::Tokens { images: images_held, way }, Remedy::ImagesLimit)?;
                job.progress.begin("head basis", description.blocks.len() as u64, "blocks");
                let model = CandleVit::load(description, weights, device, DType::F32)?;
                let done = |blocks| job.progress.done(blocks as u64);
                let basis =
                    HeadBasis::fit(&model, description, weights, pixels, job.checkpoint.dtype(), job.interrupt, &done)?;
                job.progress.end(&format!("fitted on {count} images"));
                Ok(Some(basis))
            },
        )
    }
}
