//! A pass that the threads of a team share: they take heads, and then runs of tokens, in turns.
#![allow(unsafe_code, reason = "threads write to parts of the same buffers that are apart")]

use headroom_shared::KeptStructures;
use headroom_shared::integer_model::IntegerModel;

use crate::engine::shared::Shared;
use crate::engine::team::{Tasks, Team};
use crate::integer::arena::{ArenaSizes, Buffers, arena_bytes};
use crate::integer::engine::IntegerOutput;
use crate::integer::forward::{BlockStep, Execution, Normed, Pass, tokens_read};
use crate::integer::quantise::quantised_stride;

/// Threads, each with scratch memory of its own.
#[derive(Debug)]
pub(super) struct Crew {
    team: Team,
    sizes: ArenaSizes,
    arenas: Vec<Vec<u8>>,
}

impl Crew {
    /// Of `threads`, the caller counted: fewer where the system starts no more.
    pub fn new(threads: usize, sizes: ArenaSizes) -> Self {
        let team = Team::new(threads);
        let arenas = vec![vec![0; arena_bytes(&sizes)]; team.threads()];
        Self { team, sizes, arenas }
    }

    /// The threads, the caller counted.
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// Does `count` tasks, each on one thread with its scratch memory.
    fn each(&mut self, count: usize, task: impl Fn(usize, &mut Buffers<'_>) + Sync) {
        let (sizes, tasks) = (self.sizes, Tasks::new(count));
        self.team.run(&mut self.arenas, |_, arena| {
            let mut own = Buffers::cut(arena, &sizes);
            tasks.claim().for_each(|number| task(number, &mut own));
        });
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
        let (width, tokens) = (sizes.embed_dim, sizes.tokens());
        let together = tokens.div_ceil(self.threads()).min(self.sizes.together);
        let part_of = |part: usize, count: usize| part * together..((part + 1) * together).min(count);
        let Buffers { stream, mut rows, attended, .. } = buffers;
        let normed_stride = quantised_stride(width);

        pass.start(stream);
        let patches = tokens - sizes.prefix_tokens;
        let embedded = Shared::new(&mut stream[sizes.prefix_tokens * width..]);
        self.each(patches.div_ceil(together), |part, own| {
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
            let step = BlockStep::new(model, kept, index, read);
            let (columns, dims) = (step.attended(), step.stored.value_dims);
            let attended = &mut attended[..step.wanted * columns];
            let normed = Normed { quantised: rows.quantised, steps: &rows.steps[..tokens] };
            let given = Shared::new(attended);
            self.each(step.kept.heads, |head, own| {
                pass.head(&step, head, normed, own.rows.widened, &mut own.head, own.attended, dims);
                for (token, values) in own.attended.chunks_exact(dims).take(step.wanted).enumerate() {
                    let start = token * columns + head * dims;
                    // SAFETY: a head has its own columns, and is one thread's.
                    unsafe { given.part(start..start + dims) }.copy_from_slice(values);
                }
            });

            let next = (index + 1 < sizes.blocks).then(|| model.block(index + 1));
            let (attended, stream) = (&*attended, Shared::new(&mut *stream));
            let (quantised, steps) = (Shared::new(&mut *rows.quantised), Shared::new(&mut *rows.steps));
            self.each(step.wanted.div_ceil(together), |part, own| {
                let part = part_of(part, step.wanted);
                // SAFETY: each token is in one part, and each part is one thread's.
                let out = unsafe { stream.part(part.start * width..part.end * width) };
                pass.tokens(&step, &attended[part.start * columns..part.end * columns], out, &mut own.rows);
                if let Some(next) = &next {
                    // SAFETY: as above, and no head reads them in this step.
                    let (quantised, steps) = unsafe {
                        (quantised.part(part.start * normed_stride..part.end * normed_stride), steps.part(part))
                    };
                    pass.norm(next, out, quantised, steps, own.rows.row);
                }
            });
        }
        pass.finish(read, stream, &mut rows, output);
    }
}
