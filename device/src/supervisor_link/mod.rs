//! Whether the decisions of a supervisor count: a state machine without input or output, whose time is the caller's.
//! [`headroom_shared::wire::companion`] has its messages.
//!
//! ```text
//!              a decision, in order         enough of them
//!  ┌► Silent ───────────────────► Returning ──────────────► InUse
//!  │    ▲                             │                       │
//!  │    └──── the last decision is no longer valid ───────────┘
//!  └─ Closed: there is no port       Refused: the firmware will not supervise
//! ```
//! At the start the first decision is enough. After a silence it takes [`CONFIRMATIONS`] in order, and twice as many as
//! the time before where the link was not in use for [`STEADY`], up to [`MOST_CONFIRMATIONS`]: a line with a loose
//! contact is used less and less, instead of moving the rung with every touch. An emergency is believed at once.

#[cfg(test)]
mod tests;

use headroom_shared::wire::CompanionReport;
use headroom_shared::wire::companion::{MAX_VALIDITY, VERSION};
use headroom_shared::{Power, Temperature, TimeSpan};

use crate::governor::{Binding, Mode};
use crate::runtime::Advice;

/// Between two hellos without an answer, and between two messages of telemetry.
const HELLO_PERIOD: TimeSpan = TimeSpan::from_nanoseconds(2_000_000_000);
const TELEMETRY_PERIOD: TimeSpan = TimeSpan::from_nanoseconds(1_000_000_000);
/// Between two hellos to firmware that has refused one: it may have been replaced.
const REFUSED_PERIOD: TimeSpan = TimeSpan::from_nanoseconds(30_000_000_000);
/// How long a link stays in use that waits for a decision on other terms.
const GRACE: TimeSpan = TimeSpan::from_nanoseconds(3_000_000_000);
/// Decisions in order after a silence.
const CONFIRMATIONS: u32 = 3;
const MOST_CONFIRMATIONS: u32 = 48;
/// A link that was in use for so long does not flap.
const STEADY: TimeSpan = TimeSpan::from_nanoseconds(60_000_000_000);

/// Where the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LinkState {
    /// There is no port.
    Closed,
    /// Nothing valid has come.
    Silent,
    /// The firmware does not supervise this ladder, or speaks another version.
    Refused,
    /// Decisions come, but not for long enough.
    Returning,
    /// Decisions count.
    InUse,
}

impl LinkState {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Closed, Self::Silent, Self::Refused, Self::Returning, Self::InUse];

    /// In lower case, words joined by `_`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Silent => "silent",
            Self::Refused => "refused",
            Self::Returning => "returning",
            Self::InUse => "in_use",
        }
    }
}

/// Messages of the firmware since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Taken in.
    pub good: u64,
    /// Damaged, or not what they must be.
    pub bad: u64,
    /// Of another session, or not newer than the last one.
    pub stale: u64,
    /// Decisions that the numbers tell of and that did not come.
    pub lost: u64,
}

/// What is due to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    Hello { session: u32 },
    Telemetry { session: u32 },
}

/// What the last decision was made on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    pub temperature: Option<Temperature>,
    pub power: Option<Power>,
}

/// The link to a supervisor.
#[derive(Clone, Debug)]
pub struct Link {
    state: LinkState,
    /// Of the last hello.
    session: u32,
    /// Of the last decision of this session; 0 is before the first one.
    number: u32,
    /// Of the terms, and their number of rungs.
    revision: u64,
    rungs: u8,
    next_hello: u64,
    next_telemetry: u64,
    /// The last decision for these terms, of this session or the one before.
    decision: Option<Decision>,
    /// When the link falls silent.
    until: u64,
    /// Decisions in order since the silence, and how many it takes.
    in_order: u32,
    needed: u32,
    used_since: Option<u64>,
    counts: FrameCounts,
}

#[derive(Clone, Copy, Debug)]
struct Decision {
    rung: u8,
    pace: TimeSpan,
    binding: Binding,
    mode: Mode,
    measured: Measured,
}

impl Link {
    /// Without a port, a session or a supervisor. `session` is the number before the first one: one that differs from
    /// that of the run before keeps late messages of that run out.
    #[must_use]
    pub fn new(session: u32) -> Self {
        Self {
            state: LinkState::Closed,
            session,
            number: 0,
            revision: 0,
            rungs: 0,
            next_hello: 0,
            next_telemetry: 0,
            decision: None,
            until: 0,
            in_order: 0,
            needed: 1,
            used_since: None,
            counts: FrameCounts::default(),
        }
    }

    #[must_use]
    pub fn state(&self) -> LinkState {
        self.state
    }

    #[must_use]
    pub fn counts(&self) -> FrameCounts {
        self.counts
    }

    /// Other terms hold: of this revision, with so many rungs. What was decided is void, but a link that is in use stays
    /// so: it only has to decide anew.
    pub fn set_terms(&mut self, revision: u64, rungs: u8, now: TimeSpan) {
        (self.revision, self.rungs, self.decision) = (revision, rungs, None);
        self.until = after(now, GRACE);
        if self.state == LinkState::Refused {
            self.state = LinkState::Silent;
        }
        self.say_hello(now);
    }

    /// The port is open.
    pub fn opened(&mut self, now: TimeSpan) {
        if self.state == LinkState::Closed {
            self.state = LinkState::Silent;
            self.say_hello(now);
        }
    }

    /// The port is gone.
    pub fn closed(&mut self, now: TimeSpan) {
        self.lose(LinkState::Closed, now);
    }

    /// Time has passed: what is no longer valid ends.
    pub fn tick(&mut self, now: TimeSpan) {
        let has_ended = now.as_nanoseconds() >= self.until;
        if has_ended && matches!(self.state, LinkState::Returning | LinkState::InUse) {
            self.lose(LinkState::Silent, now);
        }
    }

    /// What is to be sent now, once; to be asked until it is `None`.
    pub fn due(&mut self, now: TimeSpan) -> Option<Due> {
        let at = now.as_nanoseconds();
        if self.state == LinkState::Closed {
            return None;
        }
        if self.number == 0 && at >= self.next_hello {
            let period = if self.state == LinkState::Refused { REFUSED_PERIOD } else { HELLO_PERIOD };
            self.next_hello = after(now, period);
            self.session = self.session.wrapping_add(1);
            return Some(Due::Hello { session: self.session });
        }
        if self.number > 0 && at >= self.next_telemetry {
            self.next_telemetry = after(now, TELEMETRY_PERIOD);
            return Some(Due::Telemetry { session: self.session });
        }
        None
    }

    /// A frame that was damaged, or is no message.
    pub fn bad(&mut self) {
        self.counts.bad += 1;
    }

    /// The firmware speaks another version.
    pub fn refused(&mut self, now: TimeSpan) {
        self.lose(LinkState::Refused, now);
        self.next_hello = after(now, REFUSED_PERIOD);
    }

    /// Takes in a message of the firmware.
    pub fn receive(&mut self, report: &CompanionReport<'_>, now: TimeSpan) {
        if self.state == LinkState::Closed {
            return;
        }
        self.tick(now);
        match *report {
            CompanionReport::Accepted { session, version, .. } if session == self.session => {
                self.counts.good += 1;
                if version != VERSION {
                    self.refused(now);
                }
            }
            CompanionReport::Refused { session, .. } if session == self.session => {
                self.counts.good += 1;
                self.refused(now);
            }
            // After a reset of the firmware. What was decided holds for as long as it would have without.
            CompanionReport::NoSession { session } if session == self.session => {
                self.counts.good += 1;
                self.say_hello(now);
            }
            CompanionReport::Decision { session, number, rung, pace, binding, mode, valid, temperature, power }
                if session == self.session =>
            {
                let known = (Binding::ALL.into_iter().find(|known| known.name() == binding))
                    .zip(Mode::ALL.into_iter().find(|known| known.name() == mode));
                match known {
                    Some((binding, mode)) if rung < self.rungs && valid.as_nanoseconds() > 0 && number > 0 => {
                        let measured = Measured { temperature, power };
                        self.decide(number, Decision { rung, pace, binding, mode, measured }, valid, now);
                    }
                    _ => self.bad(),
                }
            }
            CompanionReport::Accepted { .. }
            | CompanionReport::Refused { .. }
            | CompanionReport::NoSession { .. }
            | CompanionReport::Decision { .. } => self.counts.stale += 1,
            // What a later version adds.
            _ => self.bad(),
        }
    }

    fn decide(&mut self, number: u32, decision: Decision, valid: TimeSpan, now: TimeSpan) {
        if number <= self.number {
            self.counts.stale += 1;
            return;
        }
        self.counts.good += 1;
        self.counts.lost += u64::from(number - self.number - 1);
        self.number = number;
        self.decision = Some(decision);
        self.until = after(now, valid.min(MAX_VALIDITY));
        self.in_order = self.in_order.saturating_add(1);
        if self.state != LinkState::InUse {
            self.state = LinkState::Returning;
            if self.in_order >= self.needed {
                self.state = LinkState::InUse;
                self.used_since = Some(now.as_nanoseconds());
            }
        }
    }

    /// What the runtime should go by; `None` is its own governor alone.
    #[must_use]
    pub fn advice(&self, now: TimeSpan) -> Option<Advice> {
        let decision = self.decision.as_ref()?;
        let valid = self.until.checked_sub(now.as_nanoseconds()).filter(|valid| *valid > 0)?;
        let counts = match self.state {
            LinkState::InUse => true,
            LinkState::Returning => decision.mode == Mode::Emergency,
            LinkState::Closed | LinkState::Silent | LinkState::Refused => false,
        };
        counts.then_some(Advice {
            revision: self.revision,
            rung: decision.rung,
            pace: decision.pace,
            binding: decision.binding,
            mode: decision.mode,
            valid: TimeSpan::from_nanoseconds(valid),
        })
    }

    /// What the last valid decision was made on.
    #[must_use]
    pub fn measured(&self) -> Measured {
        self.decision.map_or_else(Measured::default, |decision| decision.measured)
    }

    /// There are no decisions any more, and it will take more of them.
    fn lose(&mut self, state: LinkState, now: TimeSpan) {
        if let Some(since) = self.used_since.take() {
            let was_steady = now.as_nanoseconds().saturating_sub(since) >= STEADY.as_nanoseconds();
            let more = if was_steady { CONFIRMATIONS } else { self.needed.saturating_mul(2) };
            self.needed = more.clamp(CONFIRMATIONS, MOST_CONFIRMATIONS);
        }
        (self.state, self.decision, self.in_order) = (state, None, 0);
        self.say_hello(now);
    }

    /// Whatever comes before the next hello is of no session that there is.
    fn say_hello(&mut self, now: TimeSpan) {
        self.session = self.session.wrapping_add(1);
        self.number = 0;
        self.next_hello = now.as_nanoseconds();
        self.next_telemetry = now.as_nanoseconds();
    }
}

fn after(now: TimeSpan, period: TimeSpan) -> u64 {
    now.as_nanoseconds().saturating_add(period.as_nanoseconds())
}
