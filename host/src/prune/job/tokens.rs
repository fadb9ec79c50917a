//! Tokens as a second axis of the ladder: how much of each rung's saving comes from merging.
//!
//! Each rung keeps what width alone would leave it, of the cost that structures are ranked by: MACs, or seconds or
//! bytes on the board, where merging may save less. The candidates are token schedules of three families, each with the
//! most structures that still fit; the most faithful on calibration images wins, and width alone is among them. Steps
//! never fall along the ladder, MACs do.

use headroom_device::model::Weights;
use headroom_device::model::description::Position;
use headroom_shared::{BoardProfile, ModelShape, Step, SubNetwork, cost};

use super::super::images::JobImages;
use super::super::{PruneError, TokenMerging};
use super::{Job, Passes, Ranked, is_set};
use crate::embedder::{JudgedModel, mean_cosine};
use crate::ranking::RankBy;

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
    /// As many as may be in the first blocks, so that no block is left with very few tokens.
    Early,
}

const FAMILIES: [Family; 3] = [Family::Uniform, Family::Falling, Family::Early];

/// A sub-network after so many steps.
#[derive(Clone, Copy, Debug)]
pub(super) struct Candidate {
    pub steps: u32,
    pub sub_network: SubNetwork,
}

impl Job<'_> {
    /// Whether the model can merge tokens, if it is to.
    pub(super) fn check_token_merging(&self) -> Result<(), PruneError> {
        if self.options.tokens == TokenMerging::Off {
            return Ok(());
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
        ranked: &Ranked,
        images: &JobImages,
    ) -> Result<Option<Vec<Candidate>>, PruneError> {
        if self.options.tokens == TokenMerging::Off {
            return Ok(None);
        }
        let chosen = self.stage(
            "tokens",
            |(_, passes): &(Vec<Candidate>, u64)| Passes::forward(*passes),
            |job| {
                let description = &job.checkpoint.description;
                let model = JudgedModel::load(&job.judges, description, permuted)?;
                let count = images.calibration_count().min(IMAGES);
                let pixels = &images.calibration()[..count * images.pixels_per_image()];
                let embedder = model.embedder(job.judged_images(&job.judges, "tokens", images, pixels)?)?;
                let dense = embedder.embed(&SubNetwork::dense(&ranked.shape))?;
                let prefix = description.prefix_tokens();
                let (rank_by, board) = (job.options.rank_by, &job.board.profile);
                let mut space = Space::new(&ranked.shape, &ranked.ranking.steps, prefix, rank_by, board);
                if job.options.tokens == TokenMerging::Only {
                    space.keep_all_structures();
                }
                let mut judged = 1;
                let mut judge = |candidates: &[Candidate]| {
                    judged += candidates.len();
                    let kept: Vec<SubNetwork> = candidates.iter().map(|candidate| candidate.sub_network).collect();
                    let embeddings = embedder.embed_all(&kept)?;
                    let fidelity = |embeddings: &Vec<f32>| mean_cosine(embeddings, &dense, embedder.embed_dim());
                    Ok::<_, PruneError>(embeddings.iter().map(fidelity).collect())
                };
                job.progress.begin("tokens", ranked.sub_networks.len() as u64, "rungs");
                let mut chosen = vec![space.dense()];
                for (&steps, width) in ranked.rungs.iter().zip(&ranked.sub_networks).skip(1) {
                    if !is_set(job.interrupt) {
                        let previous = chosen[chosen.len() - 1];
                        chosen.extend(space.best(width, &previous, &mut judge)?);
                    } else if job.options.tokens == TokenMerging::On {
                        let width = Candidate { steps, sub_network: *width };
                        chosen.extend(space.follows(&width, &chosen[chosen.len() - 1]).then_some(width));
                    }
                    job.progress.done(chosen.len() as u64);
                }
                job.progress.end(&format!("{} rungs, {judged} candidates on {count} images", chosen.len()));
                Ok((chosen, (judged * count) as u64))
            },
        )?;
        Ok(Some(chosen.0))
    }
}

/// What there is to choose from.
struct Space<'a> {
    shape: &'a ModelShape,
    /// After 0, 1, .. steps; with tokens alone only the dense one.
    widths: Vec<SubNetwork>,
    patches: usize,
    tokens_alone: bool,
    rank_by: RankBy,
    board: &'a BoardProfile,
}

/// What a rung may cost.
#[derive(Clone, Copy, Debug)]
struct Most {
    macs: u64,
    /// Of what structures are ranked by.
    cost: f64,
}

impl<'a> Space<'a> {
    fn new(
        shape: &'a ModelShape,
        steps: &[u8],
        prefix_tokens: usize,
        rank_by: RankBy,
        board: &'a BoardProfile,
    ) -> Self {
        let mut widths = vec![SubNetwork::dense(shape)];
        for &byte in steps {
            let mut next = widths[widths.len() - 1];
            let removed = next.remove(shape, Step::from_byte(byte));
            debug_assert_eq!(removed, Ok(()), "the ranking is replayable");
            widths.push(next);
        }
        let patches = usize::from(shape.tokens) - prefix_tokens;
        Self { shape, widths, patches, tokens_alone: false, rank_by, board }
    }

    /// Leaves tokens alone to choose. They save MACs whatever the board is bound by, and that is what then counts.
    fn keep_all_structures(&mut self) {
        self.widths.truncate(1);
        self.tokens_alone = true;
        self.rank_by = RankBy::Macs;
    }

    /// Whether a rung may come after another: what was chosen by time or bytes may have far fewer MACs than width alone.
    fn follows(&self, candidate: &Candidate, previous: &Candidate) -> bool {
        let macs = |candidate: &Candidate| cost::macs(self.shape, &candidate.sub_network);
        candidate.steps >= previous.steps && macs(candidate) < macs(previous)
    }

    fn cost(&self, sub_network: &SubNetwork) -> f64 {
        self.rank_by.cost(self.shape, sub_network, self.board)
    }

    fn dense(&self) -> Candidate {
        Candidate { steps: 0, sub_network: self.widths[0] }
    }

    /// The most faithful candidate that costs at most what `width` does, smaller than `previous`; the first of equals.
    fn best(
        &self,
        width: &SubNetwork,
        previous: &Candidate,
        judge: &mut impl FnMut(&[Candidate]) -> Result<Vec<f64>, PruneError>,
    ) -> Result<Option<Candidate>, PruneError> {
        let below = cost::macs(self.shape, &previous.sub_network) - 1;
        let macs = match self.rank_by {
            RankBy::Macs => cost::macs(self.shape, width).min(below),
            RankBy::Latency | RankBy::WeightBytes => below,
        };
        let most = Most { macs, cost: self.cost(width) };
        let mut best: Option<(f64, usize, Candidate)> = None;
        let mut consider = |family, amounts: &[usize]| -> Result<Option<usize>, PruneError> {
            let fitting = |&amount: &usize| Some((amount, self.largest(family, amount, most, previous.steps)?));
            let (amounts, candidates): (Vec<usize>, Vec<Candidate>) = amounts.iter().filter_map(fitting).unzip();
            let judged = judge(&candidates)?;
            for ((amount, candidate), fidelity) in amounts.into_iter().zip(candidates).zip(judged) {
                if best.as_ref().is_none_or(|(found, ..)| fidelity > *found) {
                    best = Some((fidelity, amount, candidate));
                }
            }
            Ok(best.as_ref().map(|(_, amount, _)| *amount))
        };
        for family in FAMILIES {
            if self.tokens_alone {
                let fits = |&amount: &usize| self.largest(family, amount, most, 0).is_some();
                if let Some(amount) = (1..self.patches).find(fits) {
                    consider(family, &[amount])?;
                }
                continue;
            }
            let coarse = self.patches.div_ceil(AMOUNTS);
            let amounts: Vec<usize> = (0..self.patches).step_by(coarse).collect();
            if let Some(centre) = consider(family, &amounts)? {
                let beside = [centre.saturating_sub(coarse / 2), (centre + coarse / 2).min(self.patches - 1)];
                consider(family, &beside)?;
            }
        }
        Ok(best.map(|(.., candidate)| candidate))
    }

    /// With so many tokens merged, what has the fewest steps from `first` that cost at most `most`.
    fn largest(&self, family: Family, amount: usize, most: Most, first: u32) -> Option<Candidate> {
        let schedule = self.schedule(family, amount);
        let merging = |width: &SubNetwork| width.with_token_schedule(self.shape, &schedule).ok();
        let first = first as usize;
        let too_large = |width: &SubNetwork| {
            merging(width).is_some_and(|kept| cost::macs(self.shape, &kept) > most.macs || self.cost(&kept) > most.cost)
        };
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
            Family::Early => usize::from(block == 0),
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

    fn board() -> BoardProfile {
        crate::boards::find("jetson-orin").expect("a known board").profile
    }

    #[test]
    fn schedules_merge_what_is_asked_for_and_never_more_than_half() {
        let shape = shape();
        let board = board();
        let space = Space::new(&shape, &[], 1, RankBy::Macs, &board);
        assert_eq!(space.schedule(Family::Uniform, 8), [2; 4]);
        assert_eq!(space.schedule(Family::Falling, 10), [4, 3, 2, 1]);
        assert_eq!(space.schedule(Family::Early, 10), [8, 2, 0, 0]);
        for amount in 0..16 {
            for family in FAMILIES {
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
        let board = board();
        let space = Space::new(&shape, &steps, 1, RankBy::Macs, &board);
        let width = space.widths[1];
        for likes_merging in [false, true] {
            let score = |candidate: &Candidate| {
                let merged: usize = (0..4).map(|block| candidate.sub_network.merged_tokens(block)).sum();
                if likes_merging { merged as f64 } else { -(merged as f64) }
            };
            let mut judge = |candidates: &[Candidate]| Ok(candidates.iter().map(score).collect());
            let best = space.best(&width, &space.dense(), &mut judge).unwrap().expect("something fits");
            assert!(cost::macs(&shape, &best.sub_network) <= cost::macs(&shape, &width));
            let merged: usize = (0..4).map(|block| best.sub_network.merged_tokens(block)).sum();
            assert_eq!(merged > 2, likes_merging, "{merged}");
        }
    }

    /// What no merging can save must be saved by width.
    #[test]
    fn merging_counts_by_what_structures_are_ranked_by() {
        let shape = shape();
        let steps = [Step::new(0, StepKind::Neurons).expect("block 0").to_byte(); 6];
        let board = board();
        let merged = |candidate: &Candidate| {
            (0..4).map(|block| candidate.sub_network.merged_tokens(block)).sum::<usize>() as f64
        };
        let mut likes_merging = |candidates: &[Candidate]| Ok(candidates.iter().map(merged).collect());
        for (rank_by, fewest_steps) in [(RankBy::Macs, 0), (RankBy::WeightBytes, 3)] {
            let space = Space::new(&shape, &steps, 1, rank_by, &board);
            let width = space.widths[3];
            let best = space.best(&width, &space.dense(), &mut likes_merging).unwrap().expect("something fits");
            assert_eq!(best.steps, fewest_steps, "{rank_by:?}");
            assert!(space.cost(&best.sub_network) <= space.cost(&width), "{rank_by:?}");
        }
    }

    #[test]
    fn width_alone_follows_only_what_has_more_macs_and_no_more_steps() {
        let shape = shape();
        let steps = [Step::new(0, StepKind::Neurons).expect("block 0").to_byte(); 6];
        let board = board();
        let space = Space::new(&shape, &steps, 1, RankBy::WeightBytes, &board);
        let width = |steps: u32| Candidate { steps, sub_network: space.widths[steps as usize] };
        assert!(space.follows(&width(2), &width(1)));
        assert!(!space.follows(&width(1), &width(1)) && !space.follows(&width(1), &width(2)));
        let merging = space.widths[1].with_token_schedule(&shape, &[8, 4, 2, 1]).expect("half of what is left");
        assert!(!space.follows(&width(2), &Candidate { steps: 1, sub_network: merging }));
    }
}
