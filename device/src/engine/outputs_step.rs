//! The second step of a block where there are fewer chunks of tokens than threads: a task is some outputs of a layer.
//!
//! So each weight is read by one thread. A layer needs all outputs of the one before it, so that the threads wait for
//! each other after every layer.

use super::chunks::TASKS_PER_THREAD;
use super::panel::{even_part, panels};
use super::shared::Shared;
use super::team::{Tasks, Team};
use super::tokens_step::{Branches, NextNorm, TokensStep};
use super::workspace::Local;

/// Panels that a tile multiplies together.
const TILE_PANELS: usize = 2;

/// The outputs of a layer, divided: tasks go through all parts of a chunk, then through those of the next.
struct Parts {
    panels: usize,
    parts: usize,
}

impl Parts {
    fn new(panels: usize, chunks: usize, threads: usize) -> Self {
        let wanted = (TASKS_PER_THREAD * threads).div_ceil(chunks);
        Self { panels, parts: panels.div_ceil(TILE_PANELS).clamp(1, wanted) }
    }

    /// The chunk of a task, and its panels: the first and how many.
    fn task(&self, index: usize) -> (usize, [usize; 2]) {
        let (first, tiles) = even_part(self.panels.div_ceil(TILE_PANELS), self.parts, index % self.parts);
        let first = first * TILE_PANELS;
        (index / self.parts, [first, (self.panels - first).min(tiles * TILE_PANELS)])
    }
}

impl TokensStep<'_> {
    pub(super) fn divide_outputs(
        &self,
        branches: Branches,
        stream: Shared<'_, f32>,
        next: Option<NextNorm>,
        team: &mut Team,
        locals: &mut [Local],
    ) {
        let (threads, width, count) = (team.threads(), self.width, self.chunks.count());
        let of_stream = Parts::new(panels(width), count, threads);
        if branches.attention() {
            let tasks = Tasks::new(count * of_stream.parts);
            team.run(locals, |_, _| {
                for index in tasks.claim() {
                    let (chunk, panels) = of_stream.task(index);
                    let chunk = self.chunks.chunk(chunk);
                    self.project(chunk, panels, stream.from(chunk.of(width).start));
                }
            });
        }
        if !branches.mlp() {
            return;
        }
        let of_hidden = Parts::new(panels(self.neurons), count, threads);
        let tasks = Tasks::new(count * of_hidden.parts);
        team.run(locals, |_, local| {
            let mut normalised = None;
            for index in tasks.claim() {
                let (place, panels_of_task) = of_hidden.task(index);
                let chunk = self.chunks.chunk(place);
                if normalised.replace(place) != Some(place) {
                    // SAFETY: no thread writes to the stream before all have ended.
                    #[expect(unsafe_code, reason = "several threads read the same chunk")]
                    let stream = unsafe { stream.read(chunk.of(width)) };
                    self.normalise(stream, local);
                }
                let hidden = self.hidden.from(chunk.before * panels(self.neurons));
                self.up(chunk.tokens, panels_of_task, &local.normed, hidden);
            }
        });
        let tasks = Tasks::new(count * of_stream.parts);
        team.run(locals, |_, _| {
            for index in tasks.claim() {
                let (chunk, panels_of_task) = of_stream.task(index);
                let chunk = self.chunks.chunk(chunk);
                let panels = panels(self.neurons);
                let (start, end) = (chunk.before * panels, (chunk.before + chunk.tokens) * panels);
                // SAFETY: the threads wrote to it in the step before, and no thread does in this one.
                #[expect(unsafe_code, reason = "several threads read the same chunk")]
                let hidden = unsafe { self.hidden.read(start..end) };
                self.down(chunk.tokens, panels_of_task, hidden, stream.from(chunk.of(width).start));
            }
        });
        if let Some(next) = next {
            self.normalise_next(stream, next, team, locals);
        }
    }

    /// The norm that the next step begins with.
    fn normalise_next(&self, stream: Shared<'_, f32>, next: NextNorm, team: &mut Team, locals: &mut [Local]) {
        let (width, count) = (self.width, self.chunks.count());
        let parts = TASKS_PER_THREAD * team.threads();
        let tasks = Tasks::new(count * parts);
        team.run(locals, |_, local| {
            for index in tasks.claim() {
                let chunk = self.chunks.chunk(index / parts);
                let (first, tokens) = even_part(chunk.tokens, parts, index % parts);
                let first = chunk.first + first;
                // SAFETY: no thread writes to the stream in this step.
                #[expect(unsafe_code, reason = "several threads read the same stream")]
                let stream = unsafe { stream.read(first * width..(first + tokens) * width) };
                next.run(self.set, width, stream, first, self.tokens, local);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_panel_of_every_chunk_is_in_one_task(
            panels in 0_usize..200,
            chunks in 1_usize..6,
            threads in 2_usize..20,
        ) {
            let parts = Parts::new(panels, chunks, threads);
            let mut found = Vec::new();
            for index in 0..chunks * parts.parts {
                let (chunk, [first, count]) = parts.task(index);
                found.extend((first..first + count).map(|panel| (chunk, panel)));
            }
            let expected = (0..chunks).flat_map(|chunk| (0..panels).map(move |panel| (chunk, panel)));
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
