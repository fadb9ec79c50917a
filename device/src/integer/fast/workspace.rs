//! The scratch memory and the threads of a pass.

use super::shared_pass::Crew;
use crate::integer::arena::{ArenaSizes, Buffers, arena_bytes};
use crate::integer::error::IntegerEngineError;

/// What a pass writes to, and the threads that share it: one for each pass at a time.
///
/// Made by [`PackedIntegerVit::workspace`](super::PackedIntegerVit::workspace). No buffer grows afterwards. The threads
/// of a workspace sleep between passes and end with it.
#[derive(Debug)]
pub struct IntegerWorkspace {
    sizes: ArenaSizes,
    arena: Vec<u8>,
    /// Where more than one thread shares a pass.
    crew: Option<Crew>,
}

impl IntegerWorkspace {
    pub(super) fn new(sizes: ArenaSizes, threads: usize) -> Self {
        let crew = (threads > 1).then(|| Crew::new(threads, sizes));
        Self { sizes, arena: vec![0; arena_bytes(&sizes)], crew }
    }

    /// The threads that share a pass, the calling one counted.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.crew.as_ref().map_or(1, Crew::threads)
    }

    /// Refuses to run a model of other sizes.
    pub(super) fn check(&self, sizes: &ArenaSizes) -> Result<(), IntegerEngineError> {
        if self.sizes == *sizes { Ok(()) } else { Err(IntegerEngineError::Workspace) }
    }

    pub(super) fn parts(&mut self) -> (Buffers<'_>, Option<&mut Crew>) {
        (Buffers::cut(&mut self.arena, &self.sizes), self.crew.as_mut())
    }
}
