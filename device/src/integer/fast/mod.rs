//! The integer engine on processors with vector instructions and several cores: weights are packed once, at load, and a
//! pass is one thread's or a team's.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod packed;
mod shared_pass;

use std::fmt;

use headroom_shared::KeptStructures;
use headroom_shared::integer_model::IntegerModel;

use super::arena::{ArenaSizes, Buffers, arena_bytes};
use super::engine::IntegerOutput;
use super::error::IntegerEngineError;
use super::forward::{self, Execution, InPlace};
use shared_pass::Crew;

/// An elastic Vision Transformer on int8 weights, as fast as this processor allows. Its results have the bits of
/// [`IntegerVit`](super::IntegerVit)'s.
pub struct PackedIntegerVit<'a> {
    model: IntegerModel<'a>,
    sizes: ArenaSizes,
    arena: Vec<u8>,
    instructions: Instructions,
    /// Where more than one thread shares a pass.
    crew: Option<Crew>,
}

/// An instruction set, with the weights as it reads them.
enum Instructions {
    #[cfg(target_arch = "x86_64")]
    Avx512(avx512::Avx512Vnni),
    #[cfg(target_arch = "x86_64")]
    Avx2(avx2::Avx2),
    #[cfg(target_arch = "aarch64")]
    NeonDot(neon::Neon<true>),
    #[cfg(target_arch = "aarch64")]
    Neon(neon::Neon<false>),
    Portable,
}

/// Packs a model for an instruction set, if this processor has it.
type Detect = fn(&IntegerModel<'_>) -> Option<Instructions>;

impl Instructions {
    /// Best first.
    const KINDS: &[Detect] = &[
        #[cfg(target_arch = "x86_64")]
        |model| avx512::Avx512Vnni::detect(model).map(Self::Avx512),
        #[cfg(target_arch = "x86_64")]
        |model| avx2::Avx2::detect(model).map(Self::Avx2),
        #[cfg(target_arch = "aarch64")]
        |model| neon::Neon::detect(model).map(Self::NeonDot),
        #[cfg(target_arch = "aarch64")]
        |model| neon::Neon::detect(model).map(Self::Neon),
        |_| Some(Self::Portable),
    ];
}

impl fmt::Debug for PackedIntegerVit<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut debug = formatter.debug_struct("PackedIntegerVit");
        debug.field("instructions", &self.instructions()).field("sizes", &self.model.sizes()).finish_non_exhaustive()
    }
}

/// Most tokens that go through an MLP together: their neurons stay in a cache.
const MOST_TOGETHER: usize = 100;

impl<'a> PackedIntegerVit<'a> {
    /// Packs the weights of `model` for the best instructions of this processor, for passes on the calling thread
    /// alone.
    #[must_use]
    pub fn new(model: IntegerModel<'a>) -> Self {
        Self::with_threads(model, 1)
    }

    /// As [`new`](Self::new), for passes that `threads` threads share, the calling one counted (at least 1; fewer where
    /// the system starts no more, see [`threads`](Self::threads)).
    ///
    /// Any number of threads gives the same bits. More threads than free cores make passes slower.
    #[must_use]
    pub fn with_threads(model: IntegerModel<'a>, threads: usize) -> Self {
        let best = Instructions::KINDS.iter().find_map(|detect| detect(&model));
        Self::with_instructions(model, best.unwrap_or(Instructions::Portable), threads)
    }

    /// One for each instruction set that this processor has, best first.
    #[cfg(test)]
    pub(super) fn available(model: IntegerModel<'a>, threads: usize) -> impl Iterator<Item = Self> {
        let all = Instructions::KINDS.iter().filter_map(move |detect| detect(&model));
        all.map(move |instructions| Self::with_instructions(model, instructions, threads))
    }

    fn with_instructions(model: IntegerModel<'a>, instructions: Instructions, threads: usize) -> Self {
        let tokens = model.sizes().tokens();
        let together = tokens.div_ceil(tokens.div_ceil(MOST_TOGETHER));
        let sizes = ArenaSizes::of_model(&model, together);
        let crew = (threads > 1).then(|| Crew::new(threads, sizes));
        Self { model, sizes, arena: vec![0; arena_bytes(&sizes)], instructions, crew }
    }

    /// The model.
    #[must_use]
    pub fn model(&self) -> &IntegerModel<'a> {
        &self.model
    }

    /// The threads that share a pass, the calling one counted.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.crew.as_ref().map_or(1, Crew::threads)
    }

    /// The instructions that the kernels use, such as `AVX-512 VNNI`.
    #[must_use]
    pub fn instructions(&self) -> &'static str {
        match self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512(_) => "AVX-512 VNNI",
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(_) => "AVX2",
            #[cfg(target_arch = "aarch64")]
            Instructions::NeonDot(_) => "NEON dot product",
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon(_) => "NEON",
            Instructions::Portable => "portable",
        }
    }

    /// As [`IntegerVit::infer`](super::IntegerVit::infer).
    ///
    /// # Errors
    /// If the frame, the structures or the outputs do not fit the model. Nothing was computed then.
    pub fn infer(
        &mut self,
        frame: &[u8],
        kept: &impl KeptStructures,
        output: IntegerOutput<'_>,
    ) -> Result<(), IntegerEngineError> {
        forward::check(&self.model, frame, kept, &output)?;
        let buffers = Buffers::cut(&mut self.arena, &self.sizes);
        let run = Run { model: &self.model, buffers, together: self.sizes.together, crew: self.crew.as_mut() };
        match &self.instructions {
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx512(avx512) => run.on(avx512, frame, kept, output),
            #[cfg(target_arch = "x86_64")]
            Instructions::Avx2(avx2) => run.on(avx2, frame, kept, output),
            #[cfg(target_arch = "aarch64")]
            Instructions::NeonDot(neon) => run.on(neon, frame, kept, output),
            #[cfg(target_arch = "aarch64")]
            Instructions::Neon(neon) => run.on(neon, frame, kept, output),
            Instructions::Portable => run.on(&InPlace, frame, kept, output),
        }
        Ok(())
    }
}

/// What a pass needs beside its instructions and its input.
struct Run<'r, 'a> {
    model: &'r IntegerModel<'a>,
    buffers: Buffers<'r>,
    together: usize,
    crew: Option<&'r mut Crew>,
}

impl Run<'_, '_> {
    fn on(
        self,
        execution: &(impl Execution + Sync),
        frame: &[u8],
        kept: &impl KeptStructures,
        output: IntegerOutput<'_>,
    ) {
        match self.crew {
            Some(crew) => crew.run(execution, self.model, self.buffers, frame, kept, output),
            None => forward::run(execution, self.model, self.buffers, self.together, frame, kept, output),
        }
    }
}
