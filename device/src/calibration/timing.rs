//! The latency of every rung.

use std::time::Instant;

use headroom_shared::TimeSpan;

use crate::rung_engine::{RungEngine, RungEngineError, RungWorkspace};

/// Runs single inferences of a bundle's rungs and tells how long each took.
pub struct RungTimer<'a> {
    engine: &'a RungEngine,
    workspace: RungWorkspace,
}

impl<'a> RungTimer<'a> {
    /// A timer of one inference at a time. The input is a grey image: any finite one takes the same time.
    #[must_use]
    pub fn new(engine: &'a RungEngine) -> Self {
        Self::with_threads(engine, 1)
    }

    /// The same, of inferences that `threads` threads share.
    #[must_use]
    pub fn with_threads(engine: &'a RungEngine, threads: usize) -> Self {
        Self { engine, workspace: engine.workspace(threads) }
    }

    /// The engine whose rungs are timed.
    #[must_use]
    pub fn engine(&self) -> &'a RungEngine {
        self.engine
    }

    /// How many rungs there are.
    #[must_use]
    pub fn rungs(&self) -> usize {
        self.engine.table().sub_networks().len()
    }

    /// Runs one inference of rung `rung`.
    ///
    /// # Errors
    /// If the engine refuses it.
    pub fn run(&mut self, rung: usize) -> Result<TimeSpan, RungEngineError> {
        let start = Instant::now();
        let output = self.engine.infer(&mut self.workspace, rung)?;
        std::hint::black_box(output.embedding);
        Ok(start.elapsed().into())
    }

    /// Times each of `rungs` `repetitions` (at least 1) times. The rungs take turns, so that a busy machine slows all of
    /// them and not one; a first turn warms caches and is not counted.
    ///
    /// # Errors
    /// If the engine refuses a rung.
    pub fn take_turns(&mut self, rungs: &[usize], repetitions: u32) -> Result<Vec<RungTimes>, RungEngineError> {
        let repetitions = repetitions.max(1);
        let mut times = vec![Vec::with_capacity(repetitions as usize); rungs.len()];
        for turn in 0..=repetitions {
            for (rung, times) in rungs.iter().zip(&mut times) {
                let time = self.run(*rung)?;
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
