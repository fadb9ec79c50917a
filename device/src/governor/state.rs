//! What a governor remembers between steps.

use headroom_shared::TimeSpan;

use super::choice::Chooser;
use super::clock::{Clock, Instant};
use super::demand::Demand;
use super::heat::HeatLoop;
use super::power_ceiling::PowerCeiling;
use super::power_model::PowerModel;
use super::sensor::Sensor;
use super::slowdown::SlowdownFilter;
use super::{Mode, Slowdown};

/// What a governor remembers between steps.
#[derive(Clone, Debug)]
pub struct State {
    pub(super) clock: Clock,
    pub(super) mode: Mode,
    /// Since when every sensor that was lost has been good again.
    pub(super) good_since: Option<Instant>,
    pub(super) slowdown: SlowdownFilter,
    pub(super) demand: Demand,
    pub(super) power_model: PowerModel,
    pub(super) temperature: Sensor,
    pub(super) power: Sensor,
    pub(super) heat: HeatLoop,
    pub(super) ceiling: PowerCeiling,
    pub(super) chooser: Chooser,
    pub(super) pace: TimeSpan,
}

impl State {
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// How much slower than its profile the board is.
    #[must_use]
    pub fn slowdown(&self) -> Slowdown {
        self.slowdown.estimate()
    }
}
