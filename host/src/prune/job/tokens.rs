//! Tokens as a second axis of the ladder: how much of each rung's saving comes from merging.
//!
//! Each rung keeps the MACs that width alone would leave it. The candidates are token schedules of
//! two families, each with the most structures that still fit; the most faithful on calibration
//! images wins, and width alone is among them. Steps never fall along the ladder, MACs do.

use headroom_device::engine::ElasticVit;
use headroom_device::model::Weights;
use headroom_device::model::description::Position;
use headroom_device::run::Precision;
use headroom_shared::{ModelShape, Step, SubNetwork, cost};

use super::super::images::JobImages;
use super::super::{PruneError, TokenMerging};
use super::{Job, Passes, Ranked, is_set};
use crate::embedder::{CpuEmbedder, mean_cosine};

/// Calibration images that a candidate is judged by.
const IMAGES: usize = 64;

/// Coarse amounts of merging: eighths of the patches.
const AMOUNTS: usize = 8;

/// How the merged tokens are divided among the blocks.
#[derive(Clone, Copy, Debug)]
enum Family {
    /// The same in every block.
    Uniform,
    /// Most in the first block, falling evenly to few in the last one.
    Falling,
}

/// A sub-network after so many steps.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    steps: u32,
    sub_network: SubNetwork,
}

impl Job<'_> {
    /// Whether the model can merge tokens, if it is to.
    pub(super) fn check_token_merging(&self) -> Result<(), PruneError> {
        if self.options.tokens == TokenMerging::Off {
            return Ok(());
        }
        if self.precision() == Precision::Int8 {
            return Err(PruneError::TokensInIntegers);
        }
        if matches!(self.checkpoint.description.embedding.position, Position::Rotary { .. }) {
            return Err(PruneError::TokensWithRotary);
        }
        Ok(())
    }

    /// Chooses steps and token schedule of every rung but the dense one. An interruption leaves the rungs that were
    /// not reached as width alone has them.
    pub(super) fn merge_tokens(
        &mut self,
        permuted: &Weights,
        ranked: &mut Ranked,
        images: &JobImages,
    ) -> Result<(), PruneError> {
        if self.options.tokens == TokenMerging::Off {
            return Ok(());
        }
        let chosen = self.stage(
            "tokens",
            |(_, passes): &(Vec<Candidate>, u64)| Passes::forward(*passes),
            |job| {
                let description = &job.checkpoint.description;
                let vit = ElasticVit::new(description, permuted)?;
                let count = images.calibration_count().min(IMAGES);
                let pixels = &images.calibration()[..count * images.pixels_per_image()];
                let embedder = CpuEmbedder::new(&vit, pixels, images.pixels_per_image(), description.embed_dim);
                let dense = embedder.embed(&SubNetwork::dense(&ranked.shape))?;
                let prefix = description.prefix_tokens();
                let space = Space::new(&ranked.shape, &ranked.ranking.steps, prefix, job.options.tokens);
                let mut judged = 1;
                let mut judge = |candidate: &Candidate| {
                    judged += 1;
                    let embeddings = embedder.embed(&candidate.sub_network)?;
                    Ok::<_, PruneError>(mean_cosine(&embeddings, &dense, embedder.embed_dim()))
                };
                job.progress.begin("tokens", ranked.sub_networks.len() as u64, "rungs");
                let mut chosen = vec![space.dense()];
                for (&steps, width) in ranked.rungs.iter().zip(&ranked.sub_networks).skip(1) {
                    if !is_set(job.interrupt) {
                        let previous = chosen[chosen.len() - 1];
                        chosen.extend(space.best(cost::macs(&ranked.shape, width), &previous, &mut judge)?);
                    } else if job.options.tokens == TokenMerging::On {
                        // Width alone costs more steps for the same MACs, so that the order of rungs holds.
                        chosen.push(Candidate { steps, sub_network: *width });
                    }
                    job.progress.done(chosen.len() as u64);
                }
                job.progress.end(&format!("{} rungs, {judged} candidates on {count} images", chosen.len()));
                Ok((chosen, judged * count as u64))
            },
        )?;
        ranked.rungs = chosen.0.iter().map(|candidate| candidate.steps).collect();
        ranked.sub_networks = chosen.0.iter().map(|candidate| candidate.sub_network).collect();
        Ok(())
    }
}

/// What there is to choose from.
struct Space<'a> {
    shape: &'a ModelShape,
    /// After 0, 1, .. steps; with tokens alone only the dense one.
    widths: Vec<SubNetwork>,
    patches: usize,
    tokens_alone: bool,
}

impl<'a> Space<'a> {
    fn new(shape: &'a ModelShape, steps: &[u8], prefix_tokens: usize, tokens: TokenMerging) -> Self {
        let mut widths = vec![SubNetwork::dense(shape)];
        let tokens_alone = tokens == TokenMerging::Only;
        for &byte in if tokens_alone { &[] } else { steps } {
            let mut next = widths[widths.len() - 1];
            let removed = next.remove(shape, Step::from_byte(byte));
            debug_assert_eq!(removed, Ok(()), "the ranking is replayable");
            widths.push(next);
        }
        Self { shape, widths, patches: usize::from(shape.tokens) - prefix_tokens, tokens_alone }
    }

    fn dense(&self) -> Candidate {
        Candidate { steps: 0, sub_network: self.widths[0] }
    }

    /// The most faithful candidate of at most `target` MACs, smaller than `previous`; the first of equals.
    fn best(
        &self,
        target: u64,
        previous: &Candidate,
        judge: &mut impl FnMut(&Candidate) -> Result<f64, PruneError>,
    ) -> Result<Option<Candidate>, PruneError> {
        let most = target.min(cost::macs(self.shape, &previous.sub_network) - 1);
        let mut best: Option<(f64, usize, Candidate)> = None;
        let mut consider = |family, amount| -> Result<Option<usize>, PruneError> {
            if let Some(candidate) = self.largest(family, amount, most, previous.steps) {
                let fidelity = judge(&candidate)?;
                if best.as_ref().is_none_or(|(found, ..)| fidelity > *found) {
                    best = Some((fidelity, amount, candidate));
                }
            }
            Ok(best.as_ref().map(|(_, amount, _)| *amount))
        };
        for family in [Family::Uniform, Family::Falling] {
            if self.tokens_alone {
                let fits = |&amount: &usize| self.largest(family, amount, most, 0).is_some();
                if let Some(amount) = (1..self.patches).find(fits) {
                    consider(family, amount)?;
                }
                continue;
            }
            let coarse = self.patches.div_ceil(AMOUNTS);
            let mut centre = None;
            for amount in (0..self.patches).step_by(coarse) {
                centre = consider(family, amount)?;
            }
            if let Some(centre) = centre {
                consider(family, centre.saturating_sub(coarse / 2))?;
                consider(family, (centre + coarse / 2).min(self.patches - 1))?;
            }
        }
        Ok(best.map(|(.., candidate)| candidate))
    }

    /// With so many tokens merged, what has the fewest steps from `first` that leave at most `most` MACs.
    fn largest(&self, family: Family, amount: usize, most: u64, first: u32) -> Option<Candidate> {
        let schedule = self.schedule(family, amount);
        let merging = |width: &SubNetwork| width.with_token_schedule(self.shape, &schedule).ok();
        let first = first as usize;
        let too_large = |width: &SubNetwork| merging(width).is_some_and(|kept| cost::macs(self.shape, &kept) > most);
        let steps = first + self.widths[first..].partition_point(too_large);
        let sub_network = merging(self.widths.get(steps)?)?;
        Some(Candidate { steps: steps as u32, sub_network })
    }

    /// Divides `amount` merged tokens, as far as blocks may merge so many: at most half of their patches.
    fn schedule(&self, family: Family, amount: usize) -> Vec<u8> {
        let blocks = usize::from(self.shape.blocks);
        let weight = |block: usize| match family {
            Family::Uniform => 1,
            Family::Falling => blocks - block,
        };
        let total: usize = (0..blocks).map(weight).sum();
        let (mut weighed, mut given, mut patches) = (0, 0, self.patches);
        let share = |block: usize| {
            weighed += weight(block);
            let wanted = amount * weighed / total - given;
            let merged = wanted.min(patches / 2).min(usize::from(u8::MAX));
            given += merged;
            patches -= merged;
            merged as u8
        };
        (0..blocks).map(share).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use headroom_shared::StepKind;

    fn shape() -> ModelShape {
        ModelShape { tokens: 17, ..crate::ranking::quanta::tests::shape(4, 4, 64) }
    }

    #[test]
    fn schedules_merge_what_is_asked_for_and_never_more_than_half() {
        let shape = shape();
        let space = Space::new(&shape, &[], 1, TokenMerging::Only);
        assert_eq!(space.schedule(Family::Uniform, 8), [2; 4]);
        assert_eq!(space.schedule(Family::Falling, 10), [4, 3, 2, 1]);
        for amount in 0..16 {
            for family in [Family::Uniform, Family::Falling] {
                let mut patches = 16;
                for merged in space.schedule(family, amount) {
                    assert!(usize::from(merged) <= patches / 2);
                    patches -= usize::from(merged);
                }
            }
        }
    }

    #[test]
    fn the_best_fits_and_is_what_the_judge_likes() {
        let shape = shape();
        let steps = [Step::new(0, StepKind::Neurons).expect("block 0").to_byte(); 6];
        let space = Space::new(&shape, &steps, 1, TokenMerging::On);
        let dense = cost::macs(&shape, &SubNetwork::dense(&shape));
        let target = dense * 9 / 10;
        for likes_merging in [false, true] {
            let mut judge = |candidate: &Candidate| {
                let merged: usize = (0..4).map(|block| candidate.sub_network.merged_tokens(block)).sum();
                Ok(if likes_merging { merged as f64 } else { -(merged as f64) })
            };
            let best = space.best(target, &space.dense(), &mut judge).unwrap().expect("something fits");
            assert!(cost::macs(&shape, &best.sub_network) <= target);
            let merged: usize = (0..4).map(|block| best.sub_network.merged_tokens(block)).sum();
            assert_eq!(merged > 2, likes_merging, "{merged}");
        }
    }
}
