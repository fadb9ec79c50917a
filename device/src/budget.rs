//! Choosing the rung for a budget: of the rungs that fit, the one with the
//! highest fidelity.

use headroom_shared::{Energy, Power, Rung, TimeSpan};

/// What one inference may cost. `None` is no limit; a rung must fit all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub macs: Option<u64>,
    pub latency: Option<TimeSpan>,
    pub energy: Option<Energy>,
    /// Mean power of the board while it infers without a pause.
    pub power: Option<Power>,
}

/// The first limit that a rung exceeds, in the order of the fields of [`Budget`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Exceeded {
    #[error("{needed} MACs, allowed {allowed}")]
    Macs { allowed: u64, needed: u64 },
    #[error("{needed}, allowed {allowed}")]
    Latency { allowed: TimeSpan, needed: TimeSpan },
    #[error("{needed}, allowed {allowed}")]
    Energy { allowed: Energy, needed: Energy },
    #[error("{needed}, allowed {allowed}")]
    Power { allowed: Power, needed: Power },
}

/// No rung fits: says what the smallest rung needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no rung fits the budget: the smallest, rung {smallest}, needs {exceeded}")]
pub struct NothingFits {
    /// The index of the smallest rung.
    pub smallest: usize,
    /// A limit that it exceeds.
    pub exceeded: Exceeded,
}

impl Budget {
    /// Whether `rung` fits. Latency and energy are the measured ones where
    /// there are any, or else the predicted.
    ///
    /// # Errors
    /// The first limit that it exceeds.
    pub fn admits(&self, rung: &Rung<'_>) -> Result<(), Exceeded> {
        let (latency, energy) = (rung.latency().value, rung.energy().value);
        if let Some(allowed) = self.macs.filter(|allowed| rung.macs > *allowed) {
            return Err(Exceeded::Macs { allowed, needed: rung.macs });
        }
        if let Some(allowed) = self.latency.filter(|allowed| latency > *allowed) {
            return Err(Exceeded::Latency { allowed, needed: latency });
        }
        if let Some(allowed) = self.energy.filter(|allowed| energy > *allowed) {
            return Err(Exceeded::Energy { allowed, needed: energy });
        }
        // A power that cannot be told (no latency) is taken to be too high.
        let power = energy.over(latency).unwrap_or(Power::from_milliwatts(u32::MAX));
        if let Some(allowed) = self.power.filter(|allowed| power > *allowed) {
            return Err(Exceeded::Power { allowed, needed: power });
        }
        Ok(())
    }

    /// The index of the rung of a ladder with the highest fidelity that fits; of
    /// equal ones the smallest.
    ///
    /// # Errors
    /// If none fits.
    ///
    /// # Panics
    /// If the ladder has no rungs, which no ladder of a structure map is without.
    pub fn choose(&self, ladder: &[Rung<'_>]) -> Result<usize, NothingFits> {
        let fitting = ladder.iter().enumerate().filter(|(_, rung)| self.admits(rung).is_ok());
        // Rungs come in falling size and `max_by` returns the last of equals.
        if let Some((index, _)) = fitting.max_by(|(_, a), (_, b)| a.fidelity.total_cmp(&b.fidelity)) {
            return Ok(index);
        }
        let smallest = ladder.len() - 1;
        match self.admits(&ladder[smallest]) {
            Ok(()) => Ok(smallest),
            Err(exceeded) => Err(NothingFits { smallest, exceeded }),
        }
    }
}
