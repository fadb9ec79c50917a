//! Merging of similar tokens between the attention and the MLP of a block: ToMe (arXiv 2210.09461).
//!
//! The rule is that of the engine in f32. Patch tokens at even places may be merged, those at odd places are what they
//! merge into. The likeness of two tokens is the cosine of their keys, averaged over the kept heads and their kept
//! dimensions, before they are rounded. Each even token takes the odd one that is most like it, and those with the
//! greatest likeness are merged: means weighted by how many patches a token stands for. Among equals the first comes
//! first. What is left keeps its order. Prefix tokens are never merged.

use super::kernel::Kernel;
use super::lanes::{LANES, sum};

/// Even tokens that are compared together.
const TOGETHER: usize = 4;

/// Where a token goes that is merged into another.
const GONE: u16 = u16::MAX;

/// Tokens of which one half has its keys spread out, so that a vector has a lane for each.
pub(super) const fn spread_tokens(tokens: usize) -> usize {
    (tokens / 2).next_multiple_of(LANES)
}

/// Which tokens of the dense model those that are left stand for.
pub(super) struct TokenGroups<'a> {
    /// How many each token stands for.
    pub sizes: &'a mut [u16],
    /// The natural logarithms of these.
    pub log_sizes: &'a mut [f32],
    /// For each token of the dense model the one that stands for it.
    pub places: &'a mut [u16],
    pub matches: MatchBuffers<'a>,
}

/// What a block merges with.
pub(super) struct MatchBuffers<'a> {
    /// Of each even token, counted separately, its likeness to the odd one that is most like it.
    pub likeness: &'a mut [f32],
    /// And which one that is.
    pub odd: &'a mut [u16],
    /// Where each token goes.
    pub moves: &'a mut [u16],
}

/// The tokens that reach a block, and those that it merges.
#[derive(Clone, Copy)]
pub(super) struct Merge {
    /// Tokens that are never merged.
    pub prefix: usize,
    /// All of them, those included.
    pub tokens: usize,
    pub merged: usize,
    /// Width of a token.
    pub width: usize,
}

impl Merge {
    fn evens(&self) -> usize {
        (self.tokens - self.prefix).div_ceil(2)
    }
}

impl TokenGroups<'_> {
    /// Every token stands for itself.
    pub fn start(&mut self) {
        self.sizes.fill(1);
        self.log_sizes.fill(0.0);
        self.places.iter_mut().enumerate().for_each(|(token, place)| *place = token as u16);
    }

    /// What the scores of the first `tokens` are raised by; nothing before any were merged.
    pub fn log_sizes(&self, tokens: usize) -> Option<&[f32]> {
        (tokens < self.places.len()).then(|| &self.log_sizes[..tokens])
    }

    /// Merges the tokens of the stream that [`MatchTokens`] found to be most alike.
    #[inline(never)]
    pub fn merge(&mut self, merge: Merge, stream: &mut [f32]) {
        let Merge { prefix, tokens, width, .. } = merge;
        let Self { sizes, log_sizes, places, matches } = self;
        choose(merge, matches);
        let MatchBuffers { odd, moves, .. } = matches;
        for even in 0..merge.evens() {
            let (source, destination) = (prefix + 2 * even, prefix + 2 * usize::from(odd[even]) + 1);
            if moves[source] == GONE {
                let total = sizes[destination] + sizes[source];
                let share = f32::from(sizes[source]) / f32::from(total);
                sizes[destination] = total;
                for column in 0..width {
                    let value = stream[source * width + column];
                    let mean = &mut stream[destination * width + column];
                    *mean += (value - *mean) * share;
                }
            }
        }
        let mut next = 0;
        for token in 0..tokens {
            if moves[token] != GONE {
                moves[token] = next as u16;
                sizes[next] = sizes[token];
                log_sizes[next] = if sizes[token] > 1 { libm::logf(sizes[token].into()) } else { 0.0 };
                if next < token {
                    let (before, rest) = stream.split_at_mut(token * width);
                    before[next * width..][..width].copy_from_slice(&rest[..width]);
                }
                next += 1;
            }
        }
        for even in 0..merge.evens() {
            if moves[prefix + 2 * even] == GONE {
                moves[prefix + 2 * even] = moves[prefix + 2 * usize::from(odd[even]) + 1];
            }
        }
        places.iter_mut().for_each(|place| *place = moves[usize::from(*place)]);
    }
}

/// Marks the even tokens to be merged as gone: as many as are asked for, those with the greatest likeness.
fn choose(merge: Merge, matches: &mut MatchBuffers<'_>) {
    let MatchBuffers { likeness, moves, .. } = matches;
    moves.fill(0);
    for _ in 0..merge.merged {
        let mut best = None;
        for (even, likeness) in likeness[..merge.evens()].iter().enumerate() {
            if moves[merge.prefix + 2 * even] != GONE && best.is_none_or(|(most, _)| *likeness > most) {
                best = Some((*likeness, even));
            }
        }
        if let Some((_, even)) = best {
            moves[merge.prefix + 2 * even] = GONE;
        }
    }
}

/// Adds the keys of a head to those of the heads before it.
pub(super) struct AddKeys<'a> {
    pub sums: &'a mut [f32],
    pub keys: &'a [f32],
}

impl Kernel for AddKeys<'_> {
    #[inline(always)]
    fn run(self) {
        self.sums.iter_mut().zip(self.keys).for_each(|(sum, key)| *sum += key);
    }
}

/// Finds for each even token the odd one that is most like it.
pub(super) struct MatchTokens<'a> {
    /// The keys of the patch tokens, added up over the heads: `[patches, dims]`. They are brought to length 1, or 0.
    pub keys: &'a mut [f32],
    pub dims: usize,
    /// Room for the keys of [`spread_tokens`].
    pub spread: &'a mut [f32],
    pub likeness: &'a mut [f32],
    pub odd: &'a mut [u16],
}

impl Kernel for MatchTokens<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { keys, dims, spread, likeness, odd } = self;
        for key in keys.chunks_exact_mut(dims) {
            let length = libm::sqrtf(sum(key, |value| value * value));
            let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
            key.iter_mut().for_each(|value| *value *= scale);
        }
        let patches = keys.len() / dims;
        let (evens, odds) = (patches.div_ceil(2), patches / 2);
        let spread = &mut spread.as_chunks_mut::<LANES>().0[..odds.div_ceil(LANES) * dims];
        spread.fill([0.0; LANES]);
        for (place, key) in keys.chunks_exact(dims).skip(1).step_by(2).enumerate() {
            let lanes = &mut spread[place / LANES * dims..][..dims];
            lanes.iter_mut().zip(key).for_each(|(lanes, value)| lanes[place % LANES] = *value);
        }
        likeness[..evens].fill(f32::NEG_INFINITY);
        odd[..evens].fill(0);
        for first in (0..evens).step_by(TOGETHER) {
            let count = (evens - first).min(TOGETHER);
            // Where there are fewer, the last is there several times.
            let even: [&[f32]; TOGETHER] =
                core::array::from_fn(|row| &keys[2 * (first + row.min(count - 1)) * dims..][..dims]);
            for (panel, spread) in spread.chunks_exact(dims).enumerate() {
                let mut sums = [[0.0_f32; LANES]; TOGETHER];
                for (dim, odds) in spread.iter().enumerate() {
                    for row in 0..TOGETHER {
                        for lane in 0..LANES {
                            sums[row][lane] += even[row][dim] * odds[lane];
                        }
                    }
                }
                let lanes = (odds - panel * LANES).min(LANES);
                for (row, sums) in sums[..count].iter().enumerate() {
                    for (lane, sum) in sums[..lanes].iter().enumerate() {
                        if *sum > likeness[first + row] {
                            likeness[first + row] = *sum;
                            odd[first + row] = (panel * LANES + lane) as u16;
                        }
                    }
                }
            }
        }
    }
}
