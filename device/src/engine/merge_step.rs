//! Merging of similar tokens between the attention and the MLP of a block: ToMe (arXiv 2210.09461).
//!
//! Patch tokens at even places may be merged, those at odd places are what they merge into. The
//! likeness of two tokens is the cosine of their keys, averaged over the kept heads and their kept
//! dimensions (a block without heads has none, and merges its first tokens). Each even token takes the
//! odd one that is most like it, and those with the greatest likeness are merged: means weighted by
//! how many patches a token stands for. Among equals the first comes first. What is left keeps its
//! order. Prefix tokens are never merged.
//!
//! The threads of a team share each of its parts but the choice of the tokens, which is short.

use std::cmp::Ordering;

use super::matmul::{Operand, Segment, Tile, fill};
use super::panel::{PANEL, PanelRow, even_part, even_parts, panels, storage};
use super::shared::Shared;
use super::simd::{InstructionSet, Kernel, Simd};
use super::sizes::Sizes;
use super::team::{Tasks, Team};
use super::token_groups::SharedGroups;
use super::workspace::Local;

/// Buffers of all threads; an image has room for all its tokens.
#[derive(Debug)]
pub(super) struct MergeScratch {
    /// Normalised mean keys of the even tokens, and of the odd ones transposed.
    even: Vec<PanelRow>,
    odd: Vec<PanelRow>,
    edges: Vec<Edge>,
    /// The token that each one that is left was before.
    sources: Vec<usize>,
    /// Where each token goes.
    places: Vec<usize>,
}

/// [`MergeScratch`] for the threads of a team.
#[derive(Clone, Copy)]
pub(super) struct SharedScratch<'a> {
    even: Shared<'a, PanelRow>,
    odd: Shared<'a, PanelRow>,
    edges: Shared<'a, Edge>,
    sources: Shared<'a, usize>,
    places: Shared<'a, usize>,
}

/// An even token and the odd one that is most like it, counted separately.
#[derive(Clone, Copy, Debug, Default)]
struct Edge {
    even: usize,
    odd: usize,
    likeness: f32,
    /// What the even token is of the mean, once it is to be merged.
    share: f32,
}

impl Edge {
    /// Those to be merged come first.
    fn order(&self, other: &Self) -> Ordering {
        other.likeness.total_cmp(&self.likeness).then(self.even.cmp(&other.even))
    }
}

/// Even tokens of an image at most.
fn most_even(sizes: &Sizes) -> usize {
    sizes.patches().div_ceil(2)
}

impl MergeScratch {
    pub(super) fn new(sizes: &Sizes, max_batch: usize) -> Self {
        let (half, tokens) = (most_even(sizes), max_batch * sizes.tokens);
        Self {
            even: storage(max_batch * half, sizes.head_dim),
            odd: storage(max_batch * sizes.head_dim, half),
            edges: vec![Edge::default(); max_batch * half],
            sources: vec![0; tokens],
            places: vec![0; tokens],
        }
    }

    pub(super) fn share(&mut self) -> SharedScratch<'_> {
        SharedScratch {
            even: Shared::new(&mut self.even),
            odd: Shared::new(&mut self.odd),
            edges: Shared::new(&mut self.edges),
            sources: Shared::new(&mut self.sources),
            places: Shared::new(&mut self.places),
        }
    }
}

/// Merges tokens of each image of a batch.
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
    pub scratch: SharedScratch<'a>,
}

#[expect(unsafe_code, reason = "tasks of several threads write to one buffer, or read what was written before")]
impl MergeStep<'_> {
    pub(super) fn run(&self, team: &mut Team, locals: &mut [Local]) {
        let panels_of_odd = panels(self.patches().div_ceil(2));
        self.share(panels_of_odd, team, locals, |image, panel, local| self.mean_keys(image, panel, &mut local.key));
        let parts = team.threads();
        self.share(parts, team, locals, |image, part, _| {
            let (first, count) = even_part(self.evens(), parts, part);
            self.match_tokens(image, first, count);
        });
        // One thread's work is done sooner than handed over.
        (0..self.batch).for_each(|image| self.choose(image));
        self.share(parts, team, locals, |image, part, _| {
            let (first, count) = even_part(self.tokens - self.merged, parts, part);
            (first..first + count).for_each(|row| self.merge(image, row));
        });
    }

    /// Runs `parts` tasks for each image.
    fn share(
        &self,
        parts: usize,
        team: &mut Team,
        locals: &mut [Local],
        task: impl Fn(usize, usize, &mut Local) + Sync,
    ) {
        let tasks = Tasks::new(self.batch * parts);
        team.run(locals, |_, local| tasks.claim().for_each(|index| task(index / parts, index % parts, local)));
    }

    fn patches(&self) -> usize {
        self.tokens - self.sizes.prefix_tokens
    }

    fn evens(&self) -> usize {
        self.patches().div_ceil(2)
    }

    fn odds(&self) -> usize {
        self.patches() / 2
    }

    /// The keys of as many even and odd tokens as a panel has columns.
    fn mean_keys(&self, image: usize, panel: usize, key: &mut [f32]) {
        let (dims, evens) = (self.query_dims, self.evens());
        let room = most_even(self.sizes);
        let even = self.scratch.even.from(image * room * panels(self.sizes.head_dim));
        let odd = self.scratch.odd.from(image * self.sizes.head_dim * panels(room) + panel * dims);
        let key = &mut key[..dims];
        let first = panel * PANEL;
        for place in first..(first + PANEL).min(evens) {
            self.mean_key(image, 2 * place, key);
            for (panel, values) in key.chunks(PANEL).enumerate() {
                let row = panel * evens + place;
                // SAFETY: this token is of this task alone.
                let row = unsafe { even.part(row..row + 1) };
                row[0].0[..values.len()].copy_from_slice(values);
            }
        }
        for place in first..(first + PANEL).min(self.odds()) {
            self.mean_key(image, 2 * place + 1, key);
            // SAFETY: this panel is of this task alone.
            let rows = unsafe { odd.part(0..dims) };
            rows.iter_mut().zip(&*key).for_each(|(row, &value)| row.0[place % PANEL] = value);
        }
    }

    /// The mean of a patch token's keys over the heads, of length 1 or zero.
    fn mean_key(&self, image: usize, patch: usize, key: &mut [f32]) {
        key.fill(0.0);
        let (rows, row) = (self.batch * self.tokens, image * self.tokens + self.sizes.prefix_tokens + patch);
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

    /// Fills the edges of `count` even tokens from `first`.
    fn match_tokens(&self, image: usize, first: usize, count: usize) {
        let (dims, room) = (self.query_dims, most_even(self.sizes));
        let even = image * room * panels(self.sizes.head_dim);
        let odd = image * self.sizes.head_dim * panels(room);
        // SAFETY: the keys were written before this step, and the edges are of this task alone.
        let (even, odd, edges) = unsafe {
            (
                self.scratch.even.read(even..even + self.evens() * panels(dims)),
                self.scratch.odd.read(odd..odd + dims * panels(self.odds())),
                self.scratch.edges.part(image * room + first..image * room + first + count),
            )
        };
        self.set.run(MostLike {
            even: Operand { data: even, rows: self.evens() },
            odd: Operand { data: odd, rows: dims },
            dims,
            odds: self.odds(),
            first,
            edges,
        });
    }

    /// Brings the edges to be merged to the front, by their even token, and finds where each token goes and how many
    /// it stands for.
    fn choose(&self, image: usize) {
        let (prefix, dense, room) = (self.sizes.prefix_tokens, self.sizes.tokens, most_even(self.sizes));
        let of_image = |count: usize| image * dense..image * dense + count;
        // SAFETY: the calling thread alone runs this, between two steps of its team.
        let (edges, sources, places, sizes, log_sizes, group_places) = unsafe {
            (
                self.scratch.edges.part(image * room..image * room + self.evens()),
                self.scratch.sources.part(of_image(self.tokens - self.merged)),
                self.scratch.places.part(of_image(self.tokens)),
                self.groups.sizes.part(of_image(dense)),
                self.groups.log_sizes.part(image * panels(dense)..(image + 1) * panels(dense)),
                self.groups.places.part(of_image(dense)),
            )
        };
        edges.sort_unstable_by(Edge::order);
        let merged = &mut edges[..self.merged];
        merged.sort_unstable_by_key(|edge| edge.even);
        let even = |edge: &Edge| prefix + 2 * edge.even;

        let mut gone = merged.iter().map(even).peekable();
        let mut next = 0;
        for (token, place) in places.iter_mut().enumerate() {
            if gone.next_if_eq(&token).is_none() {
                (*place, sources[next]) = (next, token);
                next += 1;
            }
        }
        for edge in merged.iter_mut() {
            let (source, destination) = (even(edge), prefix + 2 * edge.odd + 1);
            places[source] = places[destination];
            let (more, before) = (sizes[source], sizes[destination]);
            sizes[destination] = before + more;
            edge.share = more / (before + more);
        }
        for (place, &source) in sources.iter().enumerate() {
            sizes[place] = sizes[source];
            log_sizes[place / PANEL].0[place % PANEL] = sizes[place].ln();
        }
        group_places.iter_mut().for_each(|place| *place = places[*place]);
    }

    /// The token that is left at place `row`, with those that are merged into it.
    fn merge(&self, image: usize, row: usize) {
        let (prefix, width, room) = (self.sizes.prefix_tokens, self.sizes.embed_dim, most_even(self.sizes));
        let place = image * self.sizes.tokens + row;
        let out_row = image * (self.tokens - self.merged) + row;
        // SAFETY: a row goes to one thread; the choice was made before this step.
        let (out, source, merged) = unsafe {
            (
                self.out.part(out_row * width..(out_row + 1) * width),
                self.scratch.sources.read(place..place + 1)[0],
                self.scratch.edges.read(image * room..image * room + self.merged),
            )
        };
        let token = |token: usize| &self.stream[(image * self.tokens + token) * width..][..width];
        out.copy_from_slice(token(source));
        for edge in merged.iter().filter(|edge| prefix + 2 * edge.odd + 1 == source) {
            for (mean, value) in out.iter_mut().zip(token(prefix + 2 * edge.even)) {
                *mean += (value - *mean) * edge.share;
            }
        }
    }
}

/// For even tokens from `first` the odd one that is most like each.
struct MostLike<'a> {
    even: Operand<'a>,
    /// `[dims, odds]`.
    odd: Operand<'a>,
    dims: usize,
    odds: usize,
    first: usize,
    edges: &'a mut [Edge],
}

impl Kernel for MostLike<'_> {
    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let mut tile = Tile::default();
        let across = [Segment::prefix(self.dims)];
        for (start, rows) in even_parts(self.edges.len(), S::TILE_ROWS) {
            let first = self.first + start;
            let edges = &mut self.edges[start..start + rows];
            for (row, edge) in edges.iter_mut().enumerate() {
                *edge = Edge { even: first + row, odd: 0, likeness: f32::NEG_INFINITY, share: 0.0 };
            }
            for panel in 0..panels(self.odds) {
                fill(simd, &mut tile, self.even, first, rows, self.odd, panel, 1, &across, None);
                let count = (self.odds - panel * PANEL).min(PANEL);
                for (edge, sums) in edges.iter_mut().zip(&tile.rows) {
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
