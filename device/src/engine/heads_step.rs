//! The first step of a block: attention of all kept heads, shared by the threads of a team.
//!
//! The work is a list of tasks in one order, which threads take in turns: the query, key and value
//! of a head, then parts of its attention. A head goes through a *slot*, which holds its query, key
//! and value until its attention is done; slots are few, so that they stay in the nearest caches. A
//! task that needs another one waits for it. It comes earlier in the list, so another thread is at
//! work on it, and the earliest unfinished task waits for nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::attention::{HeadAttention, transpose};
use super::block::PackedBlock;
use super::matmul::{Operand, Product, Segment, Target};
use super::panel::{PanelRow, even_part, panels};
use super::rotary::Rotary;
use super::selection::HeadDims;
use super::shared::Shared;
use super::simd::InstructionSet;
use super::sizes::Sizes;
use super::team::{Member, Tasks};
use super::workspace::{Local, images_together};

/// Query, key and value: tasks of their own.
const PROJECTIONS: usize = 3;

/// What a pass has done in a slot, counted over all heads that went through it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    projected: AtomicUsize,
    attended: AtomicUsize,
}

/// Attention of the kept heads of a block, over a batch.
pub(super) struct HeadsStep<'a> {
    pub set: InstructionSet,
    pub sizes: &'a Sizes,
    pub block: &'a PackedBlock,
    pub rotary: Option<&'a Rotary>,
    pub heads: &'a [usize],
    pub dims: HeadDims,
    pub batch: usize,
    /// Tokens of an image that are left at this block.
    pub tokens: usize,
    /// The logarithms of their sizes, `panels(sizes.tokens)` for each image, once tokens were merged.
    pub log_sizes: Option<&'a [PanelRow]>,
    /// Where the keys of all heads are kept for the merging of tokens, as `attended`.
    pub keys: Option<Shared<'a, PanelRow>>,
    /// The first tokens of each image, as many, whose result is wanted; all tokens are attended to.
    pub wanted: usize,
    /// The normalised tokens, `[batch * tokens, embed_dim]`.
    pub normed: &'a [PanelRow],
    /// What the heads find, `[batch * tokens, heads * value_dims]`, each head in panels of its own. Rows of tokens
    /// that are not wanted are left alone.
    pub attended: Shared<'a, PanelRow>,
    pub slots: Shared<'a, PanelRow>,
    /// One for each slot; all zero.
    pub progress: &'a [Progress],
    pub order: Order,
    pub tasks: Tasks,
}

/// The order of the tasks: projections are `lookahead` heads ahead of attention, so that a thread
/// seldom waits for another.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    /// Heads times groups of images.
    units: usize,
    lookahead: usize,
    /// Tasks that the attention of a unit is divided into.
    parts: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Project { unit: usize, projection: usize },
    Attend { unit: usize, part: usize },
}

/// Slots that a team needs, so that it can be a head or more ahead.
pub(super) fn slots(threads: usize) -> usize {
    if threads == 1 { 1 } else { lookahead(threads) + 2 }
}

fn lookahead(threads: usize) -> usize {
    if threads == 1 { 0 } else { threads.div_ceil(PROJECTIONS) }
}

/// Panel rows of a slot, for `rows` rows of tokens in `images` images.
pub(super) fn slot_size(sizes: &Sizes, images: usize) -> usize {
    let rows = images * sizes.tokens;
    2 * rows * panels(sizes.head_dim) + images * sizes.head_dim * panels(sizes.tokens)
}

impl Order {
    pub(super) fn new(threads: usize, heads: usize, batch: usize, tokens: usize) -> Self {
        let units = heads * batch.div_ceil(images_together(tokens));
        let parts = if threads == 1 { 1 } else { (2 * threads).div_ceil(units.max(1)).max(2) };
        Self { units, lookahead: lookahead(threads).min(units), parts }
    }

    pub(super) fn tasks(self) -> usize {
        self.units * (PROJECTIONS + self.parts)
    }

    /// First the projections that are ahead, then in turns those of a unit and the attention of an
    /// earlier one, then the attention that is left.
    fn task(self, index: usize) -> Task {
        let ahead = self.lookahead * PROJECTIONS;
        let Some(index) = index.checked_sub(ahead) else {
            return Task::Project { unit: index / PROJECTIONS, projection: index % PROJECTIONS };
        };
        let of_turn = PROJECTIONS + self.parts;
        let turns = self.units - self.lookahead;
        let (turn, place) = (index / of_turn, index % of_turn);
        if turn >= turns {
            let index = index - turns * of_turn;
            return Task::Attend { unit: turns + index / self.parts, part: index % self.parts };
        }
        match place.checked_sub(PROJECTIONS) {
            None => Task::Project { unit: self.lookahead + turn, projection: place },
            Some(part) => Task::Attend { unit: turn, part },
        }
    }
}

/// The parts of a slot for some images.
struct Slot {
    images: usize,
    /// Row of the batch's tokens that is its first.
    first_row: usize,
    rows: usize,
    /// Where its query, key and value start in the slots.
    starts: [usize; PROJECTIONS],
    /// Panel rows of the transposed key of one image.
    key_size: usize,
}

impl HeadsStep<'_> {
    /// What each thread does.
    pub(super) fn run(&self, member: &Member, local: &mut Local) {
        for index in self.tasks.claim() {
            match self.order.task(index) {
                Task::Project { unit, projection } => {
                    let progress = &self.progress[unit % self.progress.len()];
                    let before = unit / self.progress.len() * self.order.parts;
                    member.wait_until(|| progress.attended.load(Ordering::Acquire) == before);
                    self.project(unit, projection, local);
                    progress.projected.fetch_add(1, Ordering::Release);
                }
                Task::Attend { unit, part } => {
                    let progress = &self.progress[unit % self.progress.len()];
                    let before = (unit / self.progress.len() + 1) * PROJECTIONS;
                    member.wait_until(|| progress.projected.load(Ordering::Acquire) == before);
                    self.attend(unit, part, local);
                    progress.attended.fetch_add(1, Ordering::Release);
                }
            }
        }
    }

    fn slot(&self, unit: usize) -> Slot {
        let together = images_together(self.sizes.tokens);
        let first_image = unit / self.heads.len() * together;
        let images = (self.batch - first_image).min(together);
        let rows = images * self.tokens;
        let size = slot_size(self.sizes, together.min(self.batch));
        let query = unit % self.progress.len() * size;
        let key = query + panels(self.dims.query) * rows;
        let key_size = self.dims.query * panels(self.tokens);
        Slot {
            images,
            first_row: first_image * self.tokens,
            rows,
            starts: [query, key, key + images * key_size],
            key_size,
        }
    }

    /// The query, key or value of a head; keys are transposed, as their product needs them.
    fn project(&self, unit: usize, projection: usize, local: &mut Local) {
        const QUERY: usize = 0;
        const KEY: usize = 1;
        const VALUE: usize = 2;
        let Sizes { head_dim, embed_dim, .. } = *self.sizes;
        let tokens = self.tokens;
        let slot = self.slot(unit);
        let is_value = projection == VALUE;
        let dims = if is_value { self.dims.value } else { self.dims.query };
        let (start, size) = (slot.starts[projection], panels(dims) * slot.rows);
        // SAFETY: the task owns this part of the slot: the attention of the slot's last unit is
        // done, and that of this one waits for the projections.
        #[expect(unsafe_code, reason = "slots go from thread to thread")]
        let in_slot = |size: usize| unsafe { self.slots.part(start..start + size) };
        let out = if projection == KEY { &mut local.keys[..size] } else { in_slot(size) };
        let head = self.heads[unit % self.heads.len()];
        let project = |first: usize, rows: usize, out: &mut [PanelRow]| {
            let segments = [Segment::prefix(embed_dim)];
            let product = self.block.heads.product(
                Operand { data: self.normed, rows: self.batch * tokens },
                rows,
                (head * PROJECTIONS + projection) * panels(head_dim),
                panels(dims),
                &segments,
                Target::Panels { out: Shared::new(out), rows: slot.rows },
            );
            self.set.run(Product { first_row: slot.first_row + first, ..product });
        };
        if projection == QUERY && self.wanted < tokens {
            for first in (0..slot.rows).step_by(tokens) {
                project(first, self.wanted, &mut out[first..]);
            }
        } else {
            project(0, slot.rows, out);
        }
        if let Some(rotary) = self.rotary.filter(|_| !is_value) {
            for image in 0..slot.images {
                rotary.turn(out, slot.rows, image * tokens);
            }
        }
        if projection == KEY {
            self.keep_keys(unit % self.heads.len(), slot.first_row, slot.rows, out);
            let keys = Operand { data: out, rows: slot.rows };
            let transposed = in_slot(slot.images * slot.key_size);
            for (image, transposed) in transposed.chunks_exact_mut(slot.key_size).enumerate() {
                transpose(keys, image * tokens, tokens, dims, transposed);
            }
        }
    }

    /// Copies the keys of a head to where the merging of tokens finds them, if it does.
    fn keep_keys(&self, place: usize, first_row: usize, rows: usize, keys: &[PanelRow]) {
        let Some(kept) = self.keys else { return };
        for (panel, keys) in keys.chunks_exact(rows).enumerate() {
            let start = (place * panels(self.dims.query) + panel) * self.batch * self.tokens + first_row;
            // SAFETY: the keys of a head and of some images are one task.
            #[expect(unsafe_code, reason = "heads of several threads go to one buffer")]
            let out = unsafe { kept.part(start..start + rows) };
            out.copy_from_slice(keys);
        }
    }

    /// Some queries of a head, in each image of its slot.
    fn attend(&self, unit: usize, part: usize, local: &mut Local) {
        let head_dim = self.sizes.head_dim;
        let tokens = self.tokens;
        let slot = self.slot(unit);
        let [query, key, value] = slot.starts;
        let end = value + panels(self.dims.value) * slot.rows;
        // SAFETY: the projections of this unit are done, and those of the slot's next one wait for
        // its attention.
        #[expect(unsafe_code, reason = "slots go from thread to thread")]
        let [queries, keys, values] =
            [query..key, key..value, value..end].map(|range| unsafe { self.slots.read(range) });
        let (first_query, query_count) = even_part(self.wanted, self.order.parts, part);
        for image in 0..slot.images {
            let first = image * tokens;
            let sizes_of_image = panels(self.sizes.tokens);
            let image_of_batch = slot.first_row / tokens + image;
            self.set.run(HeadAttention {
                queries: Operand { data: queries, rows: slot.rows },
                first_query: first + first_query,
                query_count,
                keys: Operand { data: &keys[image * slot.key_size..][..slot.key_size], rows: self.dims.query },
                values: Operand { data: values, rows: slot.rows },
                first_value: first,
                tokens,
                query_dims: self.dims.query,
                value_dims: self.dims.value,
                scale: (head_dim as f32).sqrt().recip(),
                log_sizes: self.log_sizes.map(|sizes| &sizes[image_of_batch * sizes_of_image..][..panels(tokens)]),
                scores: &mut local.scores,
                out: self.attended,
                first_panel: unit % self.heads.len() * panels(self.dims.value),
                out_rows: self.batch * tokens,
                first_out: slot.first_row + first + first_query,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tasks_come_once_and_after_what_they_need(
            threads in 1_usize..20,
            heads in 0_usize..20,
            batch in 1_usize..10,
            tokens in 1_usize..300,
        ) {
            let order = Order::new(threads, heads, batch, tokens);
            let (mut projected, mut attended) = (vec![0; order.units], vec![0; order.units]);
            for index in 0..order.tasks() {
                match order.task(index) {
                    Task::Project { unit, projection } => {
                        prop_assert_eq!(projected[unit], projection);
                        projected[unit] += 1;
                        if let Some(before) = unit.checked_sub(slots(threads)) {
                            prop_assert_eq!(attended[before], order.parts);
                        }
                    }
                    Task::Attend { unit, part } => {
                        prop_assert_eq!(projected[unit], PROJECTIONS);
                        prop_assert_eq!(attended[unit], part);
                        attended[unit] += 1;
                    }
                }
            }
            prop_assert!(projected.iter().all(|&count| count == PROJECTIONS));
            prop_assert!(attended.iter().all(|&count| count == order.parts));
        }
    }
}
