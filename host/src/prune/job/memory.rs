//! Whether the device has room for a stage, and how many images go through the model together.

use super::super::PruneError;
use super::Job;
use crate::executor::memory::{self, Held, largest_batch};

/// Images that a GPU is given together where it has room and nothing else is asked for.
const IMAGES_TOGETHER: usize = 64;

impl Job<'_> {
    /// Refuses a stage that a GPU has no room for.
    pub(super) fn check_memory(&self, stage: &'static str, held: Held) -> Result<(), PruneError> {
        match memory::free(&self.device) {
            Some(free) => fits(stage, self.needed(held), free),
            None => Ok(()),
        }
    }

    /// `--batch`, or the most that a GPU has room for; `None` leaves it to the CPU.
    pub(super) fn images_together(&self) -> Result<Option<usize>, PruneError> {
        let asked = self.options.batch.map(|images| images as usize);
        let Some(free) = memory::free(&self.device) else { return Ok(asked) };
        let needed = |images| self.needed(Held::Gradients { images });
        if let Some(images) = asked {
            fits("importance", needed(images), free)?;
            return Ok(asked);
        }
        let largest = largest_batch(free, IMAGES_TOGETHER, needed);
        largest.map_or_else(|| fits("importance", needed(1), free).map(|()| Some(1)), |images| Ok(Some(images)))
    }

    fn needed(&self, held: Held) -> u64 {
        memory::needed(&self.checkpoint.description, self.checkpoint.parameters(), held)
    }
}

fn fits(stage: &'static str, needed: u64, free: u64) -> Result<(), PruneError> {
    if needed <= free { Ok(()) } else { Err(PruneError::DeviceMemory { stage, needed, free }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_does_not_fit_says_what_it_needs_and_what_helps() {
        assert!(fits("importance", 5_000_000, 5_000_000).is_ok());
        let error = fits("importance", 5_100_000, 5_000_000).unwrap_err();
        assert_eq!(error.to_string(), "importance needs 5.1 MB on the GPU, which has 5.0 MB free");
        let hint = error.hint().unwrap();
        assert!(hint.contains("--images-limit") && hint.contains("--batch") && hint.contains("--device cpu"), "{hint}");
    }
}
