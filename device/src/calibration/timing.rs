//! The latency of every rung.

use std::time::Instant;

use headroom_shared::TimeSpan;

use crate::bundle::Bundle;
use crate::engine::{EngineError, Workspace};
use crate::switch::RungTable;

/// Runs single inferences of a bundle's rungs and tells how long each took.
pub struct RungTimer<'a> {
    bundle: &'a Bundle,
    table: RungTable,
    workspace: Workspace,
    pixels: Vec<f32>,
}

impl<'a> RungTimer<'a> {
    /// A timer of one inference at a time. The input is a grey image: any finite one takes the same time.
    #[must_use]
    pub fn new(bundle: &'a Bundle) -> Self {
        Self::with_threads(bundle, 1)
    }

    /// The same, of inferences that `threads` threads share.
    #[must_use]
    pub fn with_threads(bundle: &'a Bundle, threads: usize) -> Self {
        Self {
            bundle,
            table: RungTable::new(&bundle.structure_map()),
            workspace: bundle.vit().workspace_with_threads(1, threads),
            pixels: vec![0.5; bundle.vit().pixels()],
        }
    }

    /// How many rungs there are.
    #[must_use]
    pub fn rungs(&self) -> usize {
        self.table.sub_networks().len()
    }

    /// Runs one inference of rung `rung`, which must be one of the ladder.
    ///
    /// # Errors
    /// If the engine refuses it.
    ///
    /// # Panics
    /// If there is no such rung.
    pub fn run(&mut self, rung: usize) -> Result<TimeSpan, EngineError> {
        let kept = self.bundle.corrected(rung, &self.table.sub_networks()[rung]);
        let start = Instant::now();
        let output = self.bundle.vit().embed(&mut self.workspace, &self.pixels, 1, &kept)?;
        std::hint::black_box(output.pooled);
        Ok(start.elapsed().into())
    }

    /// Times every rung `repetitions` (at least 1) times. The rungs take turns, so that a busy machine slows all of
    /// them and not one; a first turn warms caches and is not counted.
    ///
    /// # Errors
    /// If the engine refuses a rung.
    pub fn take_turns(&mut self, repetitions: u32) -> Result<Vec<RungTimes>, EngineError> {
        let repetitions = repetitions.max(1);
        let mut times = vec![Vec::with_capacity(repetitions as usize); self.rungs()];
        for turn in 0..=repetitions {
            for (rung, times) in times.iter_mut().enumerate() {
                let time = self.run(rung)?;
                if turn > 0 {
                    times.push(time);
                }
            }
        }
        Ok(times.into_iter().map(RungTimes::new).collect())
    }
}

/// The times of one rung; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RungTimes {
    ascending: Vec<TimeSpan>,
}

impl RungTimes {
    fn new(mut times: Vec<TimeSpan>) -> Self {
        times.sort_unstable();
        Self { ascending: times }
    }

    /// The middle one; of two in the middle the longer.
    #[must_use]
    pub fn median(&self) -> TimeSpan {
        self.ascending[self.ascending.len() / 2]
    }

    #[must_use]
    pub fn fastest(&self) -> TimeSpan {
        self.ascending[0]
    }

    #[must_use]
    pub fn slowest(&self) -> TimeSpan {
        self.ascending[self.ascending.len() - 1]
    }
}
