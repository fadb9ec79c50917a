//! The rungs of an elastic model, from the dense one to the smallest.

use serde::{Deserialize, Serialize};

use crate::cost;
use crate::fixed_capacity::List;
use crate::rung::Rung;
use crate::shape::ModelShape;
use crate::step::Step;
use crate::sub_network::{SubNetwork, TokenScheduleError};

/// Rungs of a ladder at most. A choice, not a law: more rungs than this are
/// closer together than latency measurements repeat.
pub const MAX_RUNGS: usize = 32;

/// Up to [`MAX_RUNGS`] rungs in order; reads as a slice.
///
/// A ladder by itself is only a list. [`Ladder::validate`] says whether it is
/// one of a given model, and no [`crate::StructureMap`] exists without it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ladder<'a>(#[serde(borrow)] List<Rung<'a>, MAX_RUNGS>);

/// Why a list of rungs is not the ladder of a model. `rung` counts from 0.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LadderError {
    #[error("more than {capacity} rungs")]
    Full { capacity: u8 },
    #[error("no rungs, expected at least the dense one")]
    Empty,
    #[error("rung 0 has {found} steps, expected the dense model (0 steps)")]
    FirstNotDense { found: u32 },
    #[error("rung {rung}: {found} steps, expected no fewer than the {previous} of the rung before")]
    StepsFalling { rung: u8, previous: u32, found: u32 },
    #[error("rung {rung}: {found} steps, but the ranking has {ranking}")]
    StepsBeyondRanking { rung: u8, ranking: u32, found: u32 },
    #[error("rung {rung}: {found} MACs, expected fewer than the {previous} of the rung before")]
    MacsNotFalling { rung: u8, previous: u64, found: u64 },
    #[error("rung {rung}: {found} MACs, but its sub-network has {expected}")]
    Macs { rung: u8, expected: u64, found: u64 },
    #[error("rung {rung}: {found} weight bytes, but its sub-network has {expected}")]
    WeightBytes { rung: u8, expected: u64, found: u64 },
    #[error("rung {rung}: fidelity {found}, expected a cosine from -1 to 1")]
    Fidelity { rung: u8, found: f32 },
    #[error("rung {rung}: token schedule of {found} bytes, expected one for each of {expected} blocks")]
    TokenScheduleLength { rung: u8, expected: u8, found: u32 },
    #[error("rung {rung}: {reason}")]
    TokenSchedule { rung: u8, reason: TokenScheduleError },
    #[error("rung 0 merges tokens in block {block}, expected the dense model")]
    FirstMerges { block: u8 },
}

impl<'a> Ladder<'a> {
    /// No rungs yet.
    #[must_use]
    pub const fn new() -> Self {
        Self(List::new())
    }

    /// The given rungs, in their order.
    ///
    /// # Errors
    /// If there are more than [`MAX_RUNGS`].
    pub fn from_rungs(rungs: &[Rung<'a>]) -> Result<Self, LadderError> {
        let mut ladder = Self::new();
        for rung in rungs {
            ladder.push(*rung)?;
        }
        Ok(ladder)
    }

    /// Adds the next smaller rung.
    ///
    /// # Errors
    /// If the ladder is full.
    pub fn push(&mut self, rung: Rung<'a>) -> Result<(), LadderError> {
        self.0.push(rung).map_err(|_| LadderError::Full { capacity: MAX_RUNGS as u8 })
    }

    /// All rungs, the dense one first.
    #[must_use]
    pub fn rungs(&self) -> &[Rung<'a>] {
        &self.0
    }

    /// Whether these rungs are the ladder of `shape` under the ranking `steps`,
    /// which must be replayable: the first is dense, steps never fall and MACs fall
    /// strictly (rungs may differ in their tokens alone), costs are those of the sub-networks, every fidelity is a cosine.
    ///
    /// # Errors
    /// The first thing that is not so.
    pub fn validate(&self, shape: &ModelShape, steps: &[u8]) -> Result<(), LadderError> {
        let first = self.0.first().ok_or(LadderError::Empty)?;
        if first.steps != 0 {
            return Err(LadderError::FirstNotDense { found: first.steps });
        }
        let mut sub_network = SubNetwork::dense(shape);
        let mut previous: Option<&Rung<'_>> = None;
        for (index, rung) in self.0.iter().enumerate() {
            let index = index as u8;
            check_order(index, previous, rung)?;
            let replayed = previous.map_or(0, |previous| previous.steps as usize);
            let beyond = LadderError::StepsBeyondRanking {
                rung: index,
                ranking: u32::try_from(steps.len()).unwrap_or(u32::MAX),
                found: rung.steps,
            };
            for &byte in steps.get(replayed..rung.steps as usize).ok_or(beyond)? {
                let removed = sub_network.remove(shape, Step::from_byte(byte));
                debug_assert_eq!(removed, Ok(()), "the ranking is replayable");
            }
            check_costs(index, rung, shape, &with_schedule(index, rung, shape, sub_network)?)?;
            previous = Some(rung);
        }
        Ok(())
    }
}

fn check_order(rung: u8, previous: Option<&Rung<'_>>, found: &Rung<'_>) -> Result<(), LadderError> {
    // NaN is in no range.
    if !(-1.0..=1.0).contains(&found.fidelity) {
        return Err(LadderError::Fidelity { rung, found: found.fidelity });
    }
    let Some(previous) = previous else {
        return Ok(());
    };
    if found.steps < previous.steps {
        return Err(LadderError::StepsFalling { rung, previous: previous.steps, found: found.steps });
    }
    if found.macs >= previous.macs {
        return Err(LadderError::MacsNotFalling { rung, previous: previous.macs, found: found.macs });
    }
    Ok(())
}

fn check_costs(rung: u8, found: &Rung<'_>, shape: &ModelShape, sub_network: &SubNetwork) -> Result<(), LadderError> {
    let expected = cost::macs(shape, sub_network);
    if found.macs != expected {
        return Err(LadderError::Macs { rung, expected, found: found.macs });
    }
    let expected = cost::weight_bytes(shape, sub_network);
    if found.weight_bytes != expected {
        return Err(LadderError::WeightBytes { rung, expected, found: found.weight_bytes });
    }
    Ok(())
}

/// The sub-network with the rung's tokens.
fn with_schedule(
    rung: u8,
    found: &Rung<'_>,
    shape: &ModelShape,
    sub_network: SubNetwork,
) -> Result<SubNetwork, LadderError> {
    let schedule = found.token_schedule;
    let merging = sub_network.with_token_schedule(shape, schedule).map_err(|reason| match reason {
        TokenScheduleError::Blocks { expected, found } => LadderError::TokenScheduleLength { rung, expected, found },
        reason @ TokenScheduleError::TooMany { .. } => LadderError::TokenSchedule { rung, reason },
    })?;
    match schedule.iter().position(|&merged| merged != 0) {
        Some(block) if rung == 0 => Err(LadderError::FirstMerges { block: block as u8 }),
        _ => Ok(merging),
    }
}
