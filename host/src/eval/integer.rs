//! Rungs in eight-bit integers, with the engine that the device runs.

use std::sync::{Mutex, PoisonError};

use headroom_device::bundle::Bundle;
use headroom_device::engine::Corrected;
use headroom_device::integer::{IntegerEngineError, IntegerOutput, PackedIntegerVit, check_kept};
use headroom_shared::{IntegerModel, SubNetwork};

use super::observation::Pass;

/// The integer model of a bundle, for several threads.
pub(super) struct IntegerRungs<'a> {
    model: IntegerModel<'a>,
    spare: Mutex<Vec<PackedIntegerVit<'a>>>,
}

impl<'a> IntegerRungs<'a> {
    /// Of `bundle`; `None` where it has no integer model.
    pub fn of(bundle: &'a Bundle) -> Option<Self> {
        bundle.integer_model().map(|model| Self { model, spare: Mutex::new(Vec::new()) })
    }

    /// The rung as the integer model runs it: it has its own list of the rungs that run with a correction.
    pub fn kept<'k>(&self, rung: usize, sub_network: &'k SubNetwork) -> Corrected<'k, SubNetwork> {
        Corrected { kept: sub_network, correction: self.model.correction_of_rung(rung) }
    }

    /// Refuses a rung that the integer model does not hold.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self, rung: usize, sub_network: &SubNetwork) -> Result<(), IntegerEngineError> {
        check_kept(&self.model, &self.kept(rung, sub_network))
    }

    /// Runs whole `frames` ([`crate::quantisation::frames`]), one after the other, on the calling thread.
    ///
    /// # Errors
    /// If the engine refuses the rung.
    pub fn run(&self, frames: &[u8], rung: usize, sub_network: &SubNetwork) -> Result<Pass, IntegerEngineError> {
        let sizes = *self.model.sizes();
        let images = frames.len() / sizes.frame_bytes();
        let token_values = sizes.tokens() * sizes.embed_dim;
        let mut pass = Pass {
            pooled: vec![0.0; images * sizes.embed_dim],
            tokens: vec![0.0; images * token_values],
            logits: (sizes.classes > 0).then(|| vec![0.0; images * sizes.classes]),
        };
        let spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut vit = spare.unwrap_or_else(|| PackedIntegerVit::new(self.model));
        for (image, frame) in frames.chunks_exact(sizes.frame_bytes()).enumerate() {
            let output = IntegerOutput {
                embedding: Some(&mut pass.pooled[image * sizes.embed_dim..][..sizes.embed_dim]),
                logits: pass.logits.as_mut().map(|logits| &mut logits[image * sizes.classes..][..sizes.classes]),
                tokens: Some(&mut pass.tokens[image * token_values..][..token_values]),
            };
            vit.infer(frame, &self.kept(rung, sub_network), output)?;
        }
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).push(vit);
        Ok(pass)
    }
}
