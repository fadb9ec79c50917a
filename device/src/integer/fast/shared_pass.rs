//! A pass that the threads of a team share: they take heads, and then runs of tokens, in turns.
#![allow(unsafe_code, reason = "threads write to parts of the same buffers that are apart")]

use headroom_shared::KeptStructures;
use headroom_shared::integer_model::IntegerModel;

use crate::engine::even_part;
use crate::engine::shared::Shared;
use crate::engine::team::{Tasks, Team};
use crate::integer::arena::{ArenaSizes, Buffers, arena_bytes};
use crate::integer::ending::LastBuffers;
use crate::integer::engine::IntegerOutput;
use crate::integer::forward::{BlockStep, Execution, Normed, Pass, tokens_read};
use crate::integer::merge::AddKeys;
use crate::integer::quantise::quantised_stride;

/// Threads, each with scratch memory of its own.
#[derive(Debug)]
pub(super) struct Crew {
    team: Team,
    sizes: ArenaSizes,
    arenas: Vec<Vec<u8>>,
    /// The keys of a block, `[heads, tokens, query_dims]`: heads are finished in any order, and added up in one.
    keys: Vec<f32>,
}

impl Crew {
    /// Of `threads`, the caller counted: fewer where the system starts no more.
    pub fn new(threads: usize, sizes: ArenaSizes) -> Self {
        let team = Team::new(threads);
        let arenas = vec![vec![0; arena_bytes(&sizes)]; team.threads()];
        Self { team, sizes, arenas, keys: vec![0.0; sizes.tokens * sizes.keys] }
    }

    /// The threads, the caller counted.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// As [`forward::run`](crate::integer::forward::run), with the same bits: no sum is divided among threads.
    pub fn run(
        &mut self,
        execution: &(impl Execution + Sync),
        model: &IntegerModel<'_>,
        buffers: Buffers<'_>,
        frame: &[u8],
        kept: &impl KeptStructures,
        output: IntegerOutput<'_>,
    ) {
        let pass = Pass { execution, model };
        let (sizes, read) = (model.sizes(), tokens_read(model, &output));
        let width = sizes.embed_dim;
        let mut tokens = sizes.tokens();
        let threads = self.threads();
        let Self { team, sizes: arena_sizes, arenas, keys } = self;
        let together = arena_sizes.together;
        // Some for every thread, of as many tokens as were planned for at most.
        let parts = |count: usize| count.div_ceil(together).next_multiple_of(threads).min(count);
        let part_of = |part: usize, count: usize| {
            let (first, length) = even_part(count, parts(count), part);
            first..first + length
        };
        let Buffers { stream, rows, head, attended: all_attended, mut groups } = buffers;
        let normed_stride = quantised_stride(width);

        let mut workers = Workers { team, sizes: *arena_sizes, arenas };

        pass.start(stream);
        groups.start();
        let patches = sizes.patches();
        let embedded = Shared::new(&mut stream[sizes.prefix_tokens * width..]);
        workers.each(parts(patches), |part, own| {
            let part = part_of(part, patches);
            // SAFETY: each patch is in one part, and each part is one thread's.
            let out = unsafe { embedded.part(part.start * width..part.end * width) };
            pass.embed(frame, part.start, out, &mut own.rows);
        });
        pass.embedding_norm(stream, rows.row);
        if sizes.blocks > 0 {
            pass.norm(&model.block(0), stream, rows.quantised, rows.steps, rows.row);
        }

        for index in 0..sizes.blocks {
            let step = BlockStep::new(model, kept, index, read, tokens);
            let (columns, dims) = (step.attended(), step.stored.value_dims);
            let attended = &mut all_attended[..step.wanted * columns];
            let log_sizes = groups.log_sizes(tokens);
            let normed = Normed { quantised: rows.quantised, steps: &rows.steps[..tokens], log_sizes };
            let (given, kept_keys) = (Shared::new(attended), Shared::new(&mut *keys));
            workers.each(step.kept.heads, |index, own| {
                let keys = (step.merged > 0).then(|| {
                    // SAFETY: a head has its own keys, and is one thread's.
                    let keys = unsafe { kept_keys.part(index * step.keys()..(index + 1) * step.keys()) };
                    keys.fill(0.0);
                    keys
                });
                pass.head(&step, index, normed, own.rows.widened, &mut own.head, keys, own.attended, dims);
                for (token, values) in own.attended.chunks_exact(dims).take(step.wanted).enumerate() {
                    let start = token * columns + index * dims;
                    // SAFETY: a head has its own columns, and is one thread's.
                    unsafe { given.part(start..start + dims) }.copy_from_slice(values);
                }
            });

            let attended = &*attended;
            if step.merged > 0 {
                let shared_stream = Shared::new(&mut *stream);
                workers.each(parts(step.wanted), |part, own| {
                    let part = part_of(part, step.wanted);
                    // SAFETY: each token is in one part, and each part is one thread's.
                    let out = unsafe { shared_stream.part(part.start * width..part.end * width) };
                    pass.end_attention(&step, &attended[part.start * columns..part.end * columns], out, &mut own.rows);
                });
                let sums = &mut rows.hidden[..step.keys()];
                sums.fill(0.0);
                for keys in keys.chunks_exact(step.keys()).take(step.kept.heads) {
                    execution.run(AddKeys { sums, keys });
                }
                pass.merge(&step, sums, head.rows, &mut groups, stream);
            }
            tokens = step.left();
            let wanted = step.wanted.min(tokens);
            let next = (index + 1 < sizes.blocks).then(|| model.block(index + 1));
            let shared_stream = Shared::new(&mut *stream);
            let (quantised, steps) = (Shared::new(&mut *rows.quantised), Shared::new(&mut *rows.steps));
            workers.each(parts(wanted), |part, own| {
                let part = part_of(part, wanted);
                // SAFETY: each token is in one part, and each part is one thread's.
                let out = unsafe { shared_stream.part(part.start * width..part.end * width) };
                if step.merged == 0 {
                    pass.end_attention(&step, &attended[part.start * columns..part.end * columns], out, &mut own.rows);
                }
                pass.mlp(&step, out, &mut own.rows);
                if let Some(next) = &next {
                    // SAFETY: as above, and no head reads them in this step.
                    let (quantised, steps) = unsafe {
                        (quantised.part(part.start * normed_stride..part.end * normed_stride), steps.part(part))
                    };
                    pass.norm(next, out, quantised, steps, own.rows.row);
                }
            });
        }
        let mut buffers = LastBuffers { rows, head, attended: all_attended, groups };
        pass.finish(read.min(tokens), stream, &mut buffers, output);
    }
}

/// The threads, apart from the keys that they share.
struct Workers<'c> {
    team: &'c mut Team,
    sizes: ArenaSizes,
    arenas: &'c mut [Vec<u8>],
}

impl Workers<'_> {
    /// Does `count` tasks, each on one thread with its scratch memory.
    fn each(&mut self, count: usize, task: impl Fn(usize, &mut Buffers<'_>) + Sync) {
        let (sizes, tasks) = (self.sizes, Tasks::new(count));
        self.team.run(self.arenas, |_, arena| {
            let mut own = Buffers::cut(arena, &sizes);
            tasks.claim().for_each(|number| task(number, &mut own));
        });
    }
}
