//! Rungs in eight-bit integers, with the engine that the device runs.

use std::sync::Mutex;

use headroom_device::bundle::Bundle;
use headroom_device::engine::Corrected;
use headroom_device::integer::{IntegerEngineError, IntegerOutput, IntegerWorkspace, PackedIntegerVit, check_kept};
use headroom_device::lock::lock;
use headroom_shared::SubNetwork;

use super::observation::Pass;

/// The integer model of a bundle, for several threads.
pub(super) struct IntegerRungs<'a> {
    vit: PackedIntegerVit<'a>,
    spare: Mutex<Vec<IntegerWorkspace>>,
}

impl<'a> IntegerRungs<'a> {
    /// Of `bundle`; `None` where it has no integer model.
    pub fn of(bundle: &'a Bundle) -> Option<Self> {
        bundle.integer_model().map(|model| Self { vit: PackedIntegerVit::new(model), spare: Mutex::new(Vec::new()) })
    }

    /// The rung as the integer model runs it: it has its own list of the rungs that run with a correction.
    pub fn kept<'k>(&self, rung: usize, sub_network: &'k SubNetwork) -> Corrected<'k, SubNetwork> {
        Corrected { kept: sub_network, correction: self.vit.model().correction_of_rung(rung) }
    }

    /// Refuses a rung that the integer model does not hold.
    ///
    /// # Errors
    /// What it lacks.
    pub fn check(&self, rung: usize, sub_network: &SubNetwork) -> Result<(), IntegerEngineError> {
        check_kept(self.vit.model(), &self.kept(rung, sub_network))
    }

    /// Runs whole `frames` ([`headroom_device::integer::frames`]), one after the other, on the calling thread.
    ///
    /// # Errors
    /// If the engine refuses the rung.
    pub fn run(&self, frames: &[u8], rung: usize, sub_network: &SubNetwork) -> Result<Pass, IntegerEngineError> {
        let sizes = *self.vit.model().sizes();
        let images = frames.len() / sizes.frame_bytes();
        let token_values = sizes.tokens() * sizes.embed_dim;
        let mut pass = Pass {
            pooled: vec![0.0; images * sizes.embed_dim],
            tokens: vec![0.0; images * token_values],
            logits: (sizes.classes > 0).then(|| vec![0.0; images * sizes.classes]),
        };
        let spare = lock(&self.spare).pop();
        let mut workspace = spare.unwrap_or_else(|| self.vit.workspace());
        for (image, frame) in frames.chunks_exact(sizes.frame_bytes()).enumerate() {
            let output = IntegerOutput {
                embedding: Some(&mut pass.pooled[image * sizes.embed_dim..][..sizes.embed_dim]),
                logits: pass.logits.as_mut().map(|logits| &mut logits[image * sizes.classes..][..sizes.classes]),
                tokens: Some(&mut pass.tokens[image * token_values..][..token_values]),
            };
            self.vit.infer(&mut workspace, frame, &self.kept(rung, sub_network), output)?;
        }
        lock(&self.spare).push(workspace);
        Ok(pass)
    }
}
