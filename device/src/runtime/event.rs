//! What a runtime tells whoever watches it: metrics, logs, the flight record.

use headroom_shared::TimeSpan;

use super::request::{Refusal, Reply};
use crate::bundle::Bundle;
use crate::governor::{Decision, Limits, RungProfile};
use crate::reading::Reading;

/// Something that happened. Told from the thread where it happened, without any lock held.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The governor took in `reading` at `now` (since the runtime's start) and decided, while `waiting` requests
    /// wait.
    Decided { reading: &'a Reading, decision: &'a Decision, previous: &'a Decision, now: TimeSpan, waiting: usize },
    /// A request was answered.
    Answered(&'a Reply),
    /// A request was refused.
    Refused(&'a Refusal),
    /// Another bundle serves from now on, or the first one. Rungs of later decisions are its rungs.
    BundleServes { bundle: &'a Bundle, profile: &'a [RungProfile] },
    /// Other limits hold from now on.
    LimitsHold(&'a Limits),
}
