//! Merging of similar tokens between the attention and the MLP of a block: ToMe (arXiv 2210.09461).
//!
//! Patch tokens at even places may be merged, those at odd places are what they merge into. The
//! likeness of two tokens is the cosine of their keys, averaged over the kept heads and their kept
//! dimensions (a block without heads has none, and merges its first tokens). Each even token takes the
//! odd one that is most like it, and those with the greatest likeness are merged: means weighted by
//! how many patches a token stands for. Among equals the first comes first. What is left keeps its
//! order. Prefix tokens are never merged.

use std::cmp::Ordering;

use super::matmul::{Operand, Segment, Tile, fill};
use super::panel::{PANEL, PanelRow, even_parts, panels, storage};
use super::shared::Shared;
use super::simd::{InstructionSet, Kernel, Simd};
use super::sizes::Sizes;
use super::team::Tasks;

/// Which patches the tokens of a batch stand for. An image has room for all its tokens.
#[derive(Debug)]
pub(super) struct TokenGroups {
    /// How many tokens of the dense model each token stands for.
    sizes: Vec<f32>,
    /// The natural logarithms of these, `panels(tokens)` for each image.
    pub log_sizes: Vec<PanelRow>,
    /// For each token of the dense model the one that stands for it.
    places: Vec<usize>,
}

/// [`TokenGroups`] for the threads of a team, each of which has images of its own.
#[derive(Clone, Copy)]
pub(super) struct SharedGroups<'a> {
    sizes: Shared<'a, f32>,
    log_sizes: Shared<'a, PanelRow>,
    places: Shared<'a, usize>,
}

impl TokenGroups {
    pub(super) fn new(sizes: &Sizes, max_batch: usize) -> Self {
        let tokens = max_batch * sizes.tokens;
        Self {
            sizes: vec![1.0; tokens],
            log_sizes: vec![PanelRow::ZERO; max_batch * panels(sizes.tokens)],
            places: vec![0; tokens],
        }
    }

    /// Every token stands for itself.
    pub(super) fn start(&mut self, sizes: &Sizes, batch: usize) {
        self.sizes[..batch * sizes.tokens].fill(1.0);
        self.log_sizes[..batch * panels(sizes.tokens)].fill(PanelRow::ZERO);
        for places in self.places.chunks_exact_mut(sizes.tokens).take(batch) {
            places.iter_mut().enumerate().for_each(|(token, place)| *place = token);
        }
    }

    pub(super) fn share(&mut self) -> SharedGroups<'_> {
        SharedGroups {
            sizes: Shared::new(&mut self.sizes),
            log_sizes: Shared::new(&mut self.log_sizes),
            places: Shared::new(&mut self.places),
        }
    }

    /// Copies the `tokens` that are left of each image to the places of all that they stand for.
    pub(super) fn copy_back(&self, sizes: &Sizes, batch: usize, tokens: usize, left: &[f32], out: &mut [f32]) {
        let width = sizes.embed_dim;
        let images = left.chunks_exact(tokens * width).zip(self.places.chunks_exact(sizes.tokens)).take(batch);
        for ((left, places), out) in images.zip(out.chunks_exact_mut(sizes.image_values())) {
            for (out, &place) in out.chunks_exact_mut(width).zip(places) {
                out.copy_from_slice(&left[place * width..(place + 1) * width]);
            }
        }
    }
}

/// What a thread merges with.
#[derive(Debug)]
pub(super) struct MergeLocal {
    /// Normalised mean keys of the even tokens, and of the odd ones transposed.
    even: Vec<PanelRow>,
    odd: Vec<PanelRow>,
    /// The mean keys of one token.
    key: Vec<f32>,
    edges: Vec<Edge>,
    /// Where each token goes.
    places: Vec<usize>,
}

/// An even token and the odd one that is most like it, counted separately.
#[derive(Clone, Copy, Debug)]
struct Edge {
    even: usize,
    odd: usize,
    likeness: f32,
}

impl Edge {
    /// Those to be merged come first.
    fn order(&self, other: &Self) -> Ordering {
        other.likeness.total_cmp(&self.likeness).then(self.even.cmp(&other.even))
    }
}

impl MergeLocal {
    pub(super) fn new(sizes: &Sizes) -> Self {
        let half = sizes.patches().div_ceil(2);
        Self {
            even: storage(half, sizes.head_dim),
            odd: storage(sizes.head_dim, half),
            key: vec![0.0; sizes.head_dim],
            edges: Vec::with_capacity(half),
            places: vec![0; sizes.tokens],
        }
    }
}

/// Merges tokens of each image of a batch; a task is an image.
pub(super) struct MergeStep<'a> {
    pub set: InstructionSet,
    pub sizes: &'a Sizes,
    pub batch: usize,
    /// Tokens of an image, and how many of them are merged into others.
    pub tokens: usize,
    pub merged: usize,
    /// Kept heads, and the dimensions of their keys.
    pub heads: usize,
    pub query_dims: usize,
    /// `[batch * tokens, heads * query_dims]`, each head in panels of its own.
    pub keys: &'a [PanelRow],
    /// `[batch, tokens, embed_dim]`.
    pub stream: &'a [f32],
    /// `[batch, tokens - merged, embed_dim]`.
    pub out: Shared<'a, f32>,
    pub groups: SharedGroups<'a>,
    pub tasks: Tasks,
}

impl MergeStep<'_> {
    /// What each thread does.
    pub(super) fn run(&self, local: &mut MergeLocal) {
        for image in self.tasks.claim() {
            self.match_tokens(image, local);
            self.merge(image, local);
        }
    }

    /// Fills the edges, those to be merged first.
    fn match_tokens(&self, image: usize, local: &mut MergeLocal) {
        let MergeLocal { even, odd, key, edges, .. } = local;
        let patches = self.tokens - self.sizes.prefix_tokens;
        let (evens, odds) = (patches.div_ceil(2), patches / 2);
        let key = &mut key[..self.query_dims];
        for patch in 0..patches {
            self.mean_key(image * self.tokens + self.sizes.prefix_tokens + patch, key);
            let place = patch / 2;
            if patch % 2 == 0 {
                for (panel, values) in key.chunks(PANEL).enumerate() {
                    even[panel * evens + place].0[..values.len()].copy_from_slice(values);
                }
            } else {
                let panel = &mut odd[place / PANEL * self.query_dims..][..self.query_dims];
                panel.iter_mut().zip(&*key).for_each(|(row, &value)| row.0[place % PANEL] = value);
            }
        }
        edges.clear();
        self.set.run(MostLike {
            even: Operand { data: even, rows: evens },
            odd: Operand { data: odd, rows: self.query_dims },
            dims: self.query_dims,
            odds,
            edges,
        });
        edges.sort_unstable_by(Edge::order);
    }

    /// The mean of a token's keys over the heads, of length 1 or zero.
    fn mean_key(&self, row: usize, key: &mut [f32]) {
        key.fill(0.0);
        let rows = self.batch * self.tokens;
        for head in 0..self.heads {
            for (panel, sums) in key.chunks_mut(PANEL).enumerate() {
                let values = &self.keys[(head * panels(self.query_dims) + panel) * rows + row].0;
                sums.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            }
        }
        let length = key.iter().map(|value| value * value).sum::<f32>().sqrt();
        let scale = if length > 0.0 { length.recip() } else { 0.0 };
        key.iter_mut().for_each(|value| *value *= scale);
    }

    fn merge(&self, image: usize, local: &mut MergeLocal) {
        let (prefix, width, dense) = (self.sizes.prefix_tokens, self.sizes.embed_dim, self.sizes.tokens);
        let (tokens, left) = (self.tokens, self.tokens - self.merged);
        // SAFETY: an image goes to one thread.
        #[expect(unsafe_code, reason = "images of several threads are in one buffer")]
        let (out, sizes, log_sizes, group_places) = unsafe {
            (
                self.out.part(image * left * width..(image + 1) * left * width),
                self.groups.sizes.part(image * dense..(image + 1) * dense),
                self.groups.log_sizes.part(image * panels(dense)..(image + 1) * panels(dense)),
                self.groups.places.part(image * dense..(image + 1) * dense),
            )
        };
        let stream = &self.stream[image * tokens * width..(image + 1) * tokens * width];
        let merged = &mut local.edges[..self.merged];
        merged.sort_unstable_by_key(|edge| edge.even);
        let even = |edge: &Edge| prefix + 2 * edge.even;

        let places = &mut local.places[..tokens];
        let mut gone = merged.iter().map(even).peekable();
        let mut next = 0;
        for (token, place) in places.iter_mut().enumerate() {
            if gone.next_if_eq(&token).is_none() {
                *place = next;
                out[next * width..(next + 1) * width].copy_from_slice(&stream[token * width..(token + 1) * width]);
                next += 1;
            }
        }
        for edge in merged.iter() {
            let (source, destination) = (even(edge), prefix + 2 * edge.odd + 1);
            places[source] = places[destination];
            let (more, before) = (sizes[source], sizes[destination]);
            sizes[destination] = before + more;
            let share = more / (before + more);
            let sums = &mut out[places[destination] * width..][..width];
            for (sum, value) in sums.iter_mut().zip(&stream[source * width..(source + 1) * width]) {
                *sum += (value - *sum) * share;
            }
        }
        let mut gone = merged.iter().map(even).peekable();
        let mut next = 0;
        for token in 0..tokens {
            if gone.next_if_eq(&token).is_none() {
                sizes[next] = sizes[token];
                log_sizes[next / PANEL].0[next % PANEL] = sizes[token].ln();
                next += 1;
            }
        }
        group_places.iter_mut().for_each(|place| *place = places[*place]);
    }
}

/// For each even token the odd one that is most like it.
struct MostLike<'a> {
    even: Operand<'a>,
    /// `[dims, odds]`.
    odd: Operand<'a>,
    dims: usize,
    odds: usize,
    edges: &'a mut Vec<Edge>,
}

impl Kernel for MostLike<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut tile = Tile::default();
        let across = [Segment::prefix(self.dims)];
        for (first, rows) in even_parts(self.even.rows, S::TILE_ROWS) {
            let start = self.edges.len();
            self.edges.extend((first..first + rows).map(|even| Edge { even, odd: 0, likeness: f32::NEG_INFINITY }));
            for panel in 0..panels(self.odds) {
                fill(simd, &mut tile, self.even, first, rows, self.odd, panel, 1, &across);
                let count = (self.odds - panel * PANEL).min(PANEL);
                for (edge, sums) in self.edges[start..].iter_mut().zip(&tile.rows) {
                    for (column, &likeness) in sums[0].0[..count].iter().enumerate() {
                        if likeness > edge.likeness {
                            *edge = Edge { odd: panel * PANEL + column, likeness, ..*edge };
                        }
                    }
                }
            }
        }
    }
}
