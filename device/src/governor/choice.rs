//! The choice: of the rungs that fit every limit, the one of the highest fidelity, without wavering.
//!
//! A rung that no longer fits is left at once. A larger one is chosen only
//! after it has fitted, with a margin, for a dwell; and the dwell doubles when
//! that turns out to have been too early.

use super::clock::{Instant, seconds};
use super::{Binding, Gains};

/// A larger rung that is left within so many seconds, or so many dwells, was chosen too early.
const EARLY_SECONDS: f32 = 20.0;
const EARLY_DWELLS: f32 = 4.0;

/// What does not change of a rung, in seconds and joules.
#[derive(Clone, Copy, Debug)]
pub(super) struct RungModel {
    pub latency: f32,
    /// Of one inference, beyond what the board draws idle.
    pub dynamic_energy: f32,
    pub fidelity: f32,
    /// Whether it has the minimum fidelity.
    pub useful: bool,
}

/// What is expected of a rung now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Prospect {
    /// Seconds, at the deadline's miss rate.
    pub latency: f32,
    /// Watts of the board.
    pub power: f32,
    /// Joules of an inference.
    pub energy: f32,
}

/// What is allowed now, in the same units; infinite is no limit.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowed {
    pub latency: f32,
    pub power: f32,
    pub heat: f32,
    pub energy: f32,
}

impl Allowed {
    /// What the board may draw.
    pub fn watts(&self) -> f32 {
        self.power.min(self.heat)
    }

    /// How many times too much of the scarcest limit a rung takes, and which limit it is.
    fn worst(limits: [(f32, f32, Binding); 2]) -> (f32, Binding) {
        let [first, second] =
            limits.map(|(needed, allowed, binding)| (needed / allowed.max(f32::MIN_POSITIVE), binding));
        if second.0 > first.0 { second } else { first }
    }

    fn of_heat_and_power(&self, rung: &Prospect) -> (f32, Binding) {
        Self::worst([(rung.power, self.power, Binding::Power), (rung.power, self.heat, Binding::Temperature)])
    }

    fn of_time_and_energy(&self, rung: &Prospect) -> (f32, Binding) {
        Self::worst([(rung.latency, self.latency, Binding::Deadline), (rung.energy, self.energy, Binding::Energy)])
    }

    fn of_all(&self, rung: &Prospect) -> (f32, Binding) {
        let (hard, soft) = (self.of_heat_and_power(rung), self.of_time_and_energy(rung));
        if soft.0 > hard.0 { soft } else { hard }
    }
}

/// The choice of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chosen {
    pub rung: u8,
    pub binding: Binding,
    /// Whether even this rung draws more than is allowed unless it is paced.
    pub too_hungry: bool,
}

/// What the choice remembers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chooser {
    rung: Option<u8>,
    /// Since when a larger rung has fitted.
    better_since: Option<Instant>,
    dwell: u64,
    last_up: Option<Instant>,
    last_down: Option<Instant>,
}

impl Chooser {
    pub fn new(gains: &Gains) -> Self {
        let dwell = gains.dwell.as_nanoseconds();
        Self { rung: None, better_since: None, dwell, last_up: None, last_down: None }
    }

    /// Sets the rung without a choice.
    pub fn force(&mut self, rung: u8) {
        self.rung = Some(rung);
        self.better_since = None;
    }

    /// Chooses. Without `may_rise` no larger rung is taken.
    pub fn choose(
        &mut self,
        rungs: &[RungModel],
        prospects: &[Prospect],
        allowed: &Allowed,
        gains: &Gains,
        may_rise: bool,
        now: Instant,
    ) -> Chosen {
        let best = |share: f32| best_within(rungs, prospects, allowed, share);
        let with_margin = best(1.0 - gains.margin);
        let fits = |rung: u8| allowed.of_all(&prospects[usize::from(rung)]).0 <= 1.0 && rungs[usize::from(rung)].useful;
        let Some(current) = self.rung.filter(|rung| fits(*rung)) else {
            let chosen = with_margin.or_else(|| best(1.0));
            self.better_since = None;
            if let Some(rung) = chosen {
                self.went_down(rung, gains, now);
                return Chosen {
                    rung,
                    binding: binding_above(rungs, prospects, allowed, gains, rung),
                    too_hungry: false,
                };
            }
            let chosen = least_bad(rungs, prospects, allowed);
            self.went_down(chosen.rung, gains, now);
            return chosen;
        };
        let fidelity = |rung: u8| rungs[usize::from(rung)].fidelity;
        match with_margin.filter(|better| may_rise && fidelity(*better) > fidelity(current)) {
            Some(better) => {
                let since = *self.better_since.get_or_insert_with(|| {
                    if self.last_down.is_none_or(|down| now.saturating_sub(down) > gains.longest_dwell.as_nanoseconds())
                    {
                        self.dwell = gains.dwell.as_nanoseconds();
                    }
                    now
                });
                if now.saturating_sub(since) >= self.dwell {
                    self.rung = Some(better);
                    self.better_since = None;
                    self.last_up = Some(now);
                }
            }
            None => self.better_since = None,
        }
        let rung = self.rung.unwrap_or(current);
        Chosen { rung, binding: binding_above(rungs, prospects, allowed, gains, rung), too_hungry: false }
    }

    /// Goes to a rung because the last one does not fit, and learns from it how long to dwell.
    fn went_down(&mut self, rung: u8, gains: &Gains, now: Instant) {
        if self.rung.is_none_or(|last| last == rung) {
            self.rung = Some(rung);
            return;
        }
        if let Some(up) = self.last_up.take() {
            let early = EARLY_SECONDS.max(EARLY_DWELLS * seconds(self.dwell, 0));
            let (shortest, longest) = (gains.dwell.as_nanoseconds(), gains.longest_dwell.as_nanoseconds());
            let dwell = if seconds(now, up) < early { self.dwell.saturating_mul(2).max(1) } else { self.dwell / 2 };
            self.dwell = dwell.clamp(shortest, longest);
        }
        self.rung = Some(rung);
        self.last_down = Some(now);
    }
}

/// The useful rung of the highest fidelity that takes no more than `share` of any limit; of equals the thriftiest.
fn best_within(rungs: &[RungModel], prospects: &[Prospect], allowed: &Allowed, share: f32) -> Option<u8> {
    let fitting = (0..rungs.len()).filter(|rung| rungs[*rung].useful && allowed.of_all(&prospects[*rung]).0 <= share);
    let order = |a: &usize, b: &usize| {
        let (a, b) = (&rungs[*a], &rungs[*b]);
        a.fidelity.total_cmp(&b.fidelity).then(b.dynamic_energy.total_cmp(&a.dynamic_energy))
    };
    fitting.max_by(order).map(|rung| rung as u8)
}

/// Where no useful rung fits: heat and power go before deadline and energy, and are met by a pause if need be.
fn least_bad(rungs: &[RungModel], prospects: &[Prospect], allowed: &Allowed) -> Chosen {
    let useful = || (0..rungs.len()).filter(|rung| rungs[*rung].useful);
    let soft = |rung: &usize| allowed.of_time_and_energy(&prospects[*rung]).0;
    let cool = useful().filter(|rung| allowed.of_heat_and_power(&prospects[*rung]).0 <= 1.0);
    let coolest = cool.min_by(|a, b| soft(a).total_cmp(&soft(b)));
    let rung = coolest.unwrap_or_else(|| thriftiest(rungs, true));
    let prospect = &prospects[rung];
    let too_hungry = coolest.is_none();
    let (_, binding) =
        if too_hungry { allowed.of_heat_and_power(prospect) } else { allowed.of_time_and_energy(prospect) };
    let smaller_fits = (0..rungs.len()).any(|rung| !rungs[rung].useful && allowed.of_all(&prospects[rung]).0 <= 1.0);
    let binding = if smaller_fits { Binding::MinimumFidelity } else { binding };
    Chosen { rung: rung as u8, binding, too_hungry }
}

/// The rung that takes the least energy, of the useful ones or of all.
pub(super) fn thriftiest(rungs: &[RungModel], only_useful: bool) -> usize {
    let among = (0..rungs.len()).filter(|rung| rungs[*rung].useful || !only_useful);
    let order = |a: &usize, b: &usize| {
        let (a, b) = (&rungs[*a], &rungs[*b]);
        a.dynamic_energy.total_cmp(&b.dynamic_energy).then(a.latency.total_cmp(&b.latency))
    };
    among.min_by(order).unwrap_or(rungs.len() - 1)
}

/// The limit that keeps the next better rung from being chosen.
fn binding_above(rungs: &[RungModel], prospects: &[Prospect], allowed: &Allowed, gains: &Gains, chosen: u8) -> Binding {
    let fidelity = rungs[usize::from(chosen)].fidelity;
    let better = (0..rungs.len()).filter(|rung| rungs[*rung].fidelity > fidelity);
    let Some(next) = better.min_by(|a, b| rungs[*a].fidelity.total_cmp(&rungs[*b].fidelity)) else {
        return Binding::Nothing;
    };
    let (excess, binding) = allowed.of_all(&prospects[next]);
    if excess <= 1.0 - gains.margin { Binding::Hysteresis } else { binding }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const FREE: Allowed =
        Allowed { latency: f32::INFINITY, power: f32::INFINITY, heat: f32::INFINITY, energy: f32::INFINITY };

    /// Three rungs of 30, 20 and 10 ms and as many watts and joules.
    fn ladder(useful: [bool; 3]) -> ([RungModel; 3], [Prospect; 3]) {
        let rung = |index: usize| RungModel {
            latency: 0.03 - 0.01 * index as f32,
            dynamic_energy: 30.0 - 10.0 * index as f32,
            fidelity: 1.0 - 0.1 * index as f32,
            useful: useful[index],
        };
        let rungs = [0, 1, 2].map(rung);
        let prospect = |rung: RungModel| Prospect {
            latency: rung.latency,
            power: rung.dynamic_energy,
            energy: rung.dynamic_energy,
        };
        (rungs, rungs.map(prospect))
    }

    fn choose(chooser: &mut Chooser, allowed: Allowed, second: f32) -> Chosen {
        let (rungs, prospects) = ladder([true; 3]);
        chooser.choose(&rungs, &prospects, &allowed, &Gains::default(), true, (second * SECOND as f32) as u64)
    }

    #[test]
    fn down_at_once_and_up_after_the_dwell() {
        let mut chooser = Chooser::new(&Gains::default());
        assert_eq!(choose(&mut chooser, FREE, 0.0).rung, 0);
        let tight = Allowed { power: 21.0, ..FREE };
        let chosen = choose(&mut chooser, tight, 0.1);
        assert_eq!((chosen.rung, chosen.binding), (1, Binding::Power));
        assert_eq!(
            choose(&mut chooser, FREE, 0.2),
            Chosen { rung: 1, binding: Binding::Hysteresis, too_hungry: false }
        );
        assert_eq!(choose(&mut chooser, FREE, 2.1).rung, 1);
        assert_eq!(choose(&mut chooser, FREE, 2.3), Chosen { rung: 0, binding: Binding::Nothing, too_hungry: false });
    }

    #[test]
    fn a_rung_needs_a_margin_to_be_chosen_and_none_to_stay() {
        let mut chooser = Chooser::new(&Gains::default());
        assert_eq!(choose(&mut chooser, Allowed { latency: 0.0202, ..FREE }, 0.0).rung, 2);
        for second in 1..100 {
            let chosen = choose(&mut chooser, Allowed { latency: 0.0202, ..FREE }, second as f32);
            assert_eq!((chosen.rung, chosen.binding), (2, Binding::Deadline));
        }
        choose(&mut chooser, Allowed { latency: 0.025, ..FREE }, 100.0);
        assert_eq!(choose(&mut chooser, Allowed { latency: 0.025, ..FREE }, 103.0).rung, 1);
        assert_eq!(choose(&mut chooser, Allowed { latency: 0.0202, ..FREE }, 104.0).rung, 1);
    }

    #[test]
    fn a_limit_that_wavers_is_followed_ever_more_slowly() {
        let mut chooser = Chooser::new(&Gains::default());
        let (mut switches, mut last) = (0, 0);
        for tenth in 0..6_000 {
            let allowed = if tenth % 50 < 40 { FREE } else { Allowed { power: 21.0, ..FREE } };
            let rung = choose(&mut chooser, allowed, tenth as f32 / 10.0).rung;
            switches += u32::from(rung != last);
            last = rung;
        }
        assert!(switches <= 30, "{switches} switches in 10 minutes");
    }

    #[test]
    fn heat_goes_before_the_deadline_and_is_met_by_a_pause() {
        let mut chooser = Chooser::new(&Gains::default());
        let chosen = choose(&mut chooser, Allowed { heat: 5.0, latency: 0.001, ..FREE }, 0.0);
        assert_eq!(chosen, Chosen { rung: 2, binding: Binding::Temperature, too_hungry: true });
    }

    #[test]
    fn the_minimum_fidelity_goes_before_the_deadline() {
        let (rungs, prospects) = ladder([true, true, false]);
        let mut chooser = Chooser::new(&Gains::default());
        let tight = Allowed { latency: 0.015, ..FREE };
        let chosen = chooser.choose(&rungs, &prospects, &tight, &Gains::default(), true, 0);
        assert_eq!(chosen, Chosen { rung: 1, binding: Binding::MinimumFidelity, too_hungry: false });
    }
}
