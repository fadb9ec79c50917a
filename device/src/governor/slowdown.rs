//! The time loop: how much slower than its profile the board is.
//!
//! One factor for all rungs, as ALERT has it (Wan et al., USENIX ATC 2020,
//! arXiv 1911.00119): latency(rung) = profile(rung) x slowdown. A Kalman filter
//! tracks mean and variance, and its process noise follows the innovations, so
//! that it is calm on a steady board and quick on a changing one. What ALERT
//! does not have: the scatter of single inferences is learnt as well, since a
//! deadline must hold for each of them and not for their mean, and odd samples
//! are rejected.

use super::decision::Slowdown;

/// The share of the process noise that the last innovation makes up (ALERT's alpha is 0.3).
const PROCESS_MEMORY: f32 = 0.7;
/// The share of the scatter that the last sample makes up.
const SCATTER_LEARNING: f32 = 0.05;
/// Standard deviations, relative to the mean, below which noise is not believed to lie.
const LEAST_PROCESS: f32 = 0.002;
const LEAST_SCATTER: f32 = 0.004;
/// Standard deviations before anything ran: a profile is right to tens of percent.
const INITIAL_DEVIATION: f32 = 0.1;
const INITIAL_SCATTER: f32 = 0.05;
/// The share of all samples, over the last hundred or so, above which odd ones are no accidents. Rarer ones cannot be
/// foreseen, and no rung but the smallest would make up for them.
const FREQUENT: f32 = 0.02;
const ODD_SHARE_LEARNING: f32 = 0.01;
/// Samples before any can be called odd.
const SETTLED: u32 = 5;

#[derive(Clone, Copy, Debug)]
pub(super) struct SlowdownFilter {
    mean: f32,
    variance: f32,
    process: f32,
    scatter: f32,
    samples: u32,
    /// The sample before this one, where it was odd.
    odd: Option<f32>,
    odd_share: f32,
}

impl Default for SlowdownFilter {
    fn default() -> Self {
        Self {
            mean: 1.0,
            variance: INITIAL_DEVIATION * INITIAL_DEVIATION,
            process: 0.0,
            scatter: INITIAL_SCATTER * INITIAL_SCATTER,
            samples: 0,
            odd: None,
            odd_share: 0.0,
        }
    }
}

impl SlowdownFilter {
    /// Takes in how many times its profile latency an inference took. `tolerated` is the deadline's miss rate.
    pub fn update(&mut self, ratio: f32, odd_deviations: f32, tolerated: f32) {
        let innovation = ratio - self.mean;
        let predicted = self.variance + self.process;
        let total = predicted + self.scatter;
        if self.samples < SETTLED {
            self.samples += 1;
        } else if innovation * innovation > odd_deviations * odd_deviations * total {
            self.take_odd(ratio, innovation, tolerated);
            return;
        }
        self.odd = None;
        self.odd_share -= ODD_SHARE_LEARNING * self.odd_share;
        let gain = predicted / total;
        let correction = gain * innovation;
        self.mean += correction;
        self.variance = (1.0 - gain) * predicted;
        self.process = PROCESS_MEMORY * self.process + (1.0 - PROCESS_MEMORY) * correction * correction;
        // In expectation, innovation times what is left of it after the update is the scatter.
        self.learn_scatter((1.0 - gain) * innovation * innovation);
        self.hold_floors();
    }

    /// The first odd sample changes nothing. A second one in a row, on the same
    /// side, is a step: the filter starts again from there. Single ones that
    /// come often, and more often than is tolerated, are what the board is like:
    /// they widen the scatter.
    fn take_odd(&mut self, ratio: f32, innovation: f32, tolerated: f32) {
        if let Some(previous) = self.odd.filter(|previous| (previous - self.mean) * innovation > 0.0) {
            let mean = 0.5 * (previous + ratio);
            let deviation = 0.5 * (previous - ratio);
            self.scatter *= (mean / self.mean) * (mean / self.mean);
            self.mean = mean;
            self.variance = deviation * deviation + 0.5 * self.scatter;
            self.process = 0.25 * self.scatter;
            self.odd = None;
            self.hold_floors();
            return;
        }
        self.odd_share += ODD_SHARE_LEARNING * (1.0 - self.odd_share);
        if self.odd_share > tolerated.max(FREQUENT) {
            self.learn_scatter(innovation * innovation);
        }
        self.odd = Some(ratio);
    }

    fn learn_scatter(&mut self, squared: f32) {
        self.scatter += SCATTER_LEARNING * (squared - self.scatter);
    }

    fn hold_floors(&mut self) {
        let squared = self.mean * self.mean;
        self.process = self.process.max(LEAST_PROCESS * LEAST_PROCESS * squared);
        self.scatter = self.scatter.max(LEAST_SCATTER * LEAST_SCATTER * squared);
    }

    pub fn mean(&self) -> f32 {
        self.mean
    }

    /// What the next inference's slowdown exceeds with the probability whose normal quantile is `deviations`.
    pub fn quantile(&self, deviations: f32) -> f32 {
        (self.mean + deviations * self.deviation()).max(0.0)
    }

    fn deviation(&self) -> f32 {
        libm::sqrtf(self.variance + self.process + self.scatter)
    }

    pub fn estimate(&self) -> Slowdown {
        Slowdown { mean: self.mean, standard_deviation: self.deviation() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATE: f32 = 4.0;
    const RARE: f32 = 0.01;

    /// Repeats with a standard deviation of 2 %, near enough to normal: sums of four uniforms.
    fn noise(state: &mut u32) -> f32 {
        let mut sum = -2.0;
        for _ in 0..4 {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            sum += (*state >> 8) as f32 / 16_777_216.0;
        }
        sum * 0.02 * 1.732
    }

    fn settled(mean: f32) -> (SlowdownFilter, u32) {
        let (mut filter, mut state) = (SlowdownFilter::default(), 7);
        for _ in 0..500 {
            filter.update(mean * (1.0 + noise(&mut state)), GATE, RARE);
        }
        (filter, state)
    }

    #[test]
    fn mean_and_deviation_converge_from_a_wrong_profile() {
        let (filter, _) = settled(1.7);
        let estimate = filter.estimate();
        assert!((estimate.mean - 1.7).abs() < 0.03, "{estimate:?}");
        assert!((0.02..0.07).contains(&estimate.standard_deviation), "{estimate:?}");
    }

    #[test]
    fn the_quantile_holds_the_miss_rate() {
        let (mut filter, mut state) = settled(1.0);
        let mut misses = 0;
        for _ in 0..20_000 {
            let sample = 1.0 + noise(&mut state);
            misses += u32::from(sample > filter.quantile(2.326));
            filter.update(sample, GATE, RARE);
        }
        assert!((20..=300).contains(&misses), "{misses} of 20000 above the quantile of 1 %");
    }

    #[test]
    fn one_odd_sample_changes_nothing() {
        let (mut filter, _) = settled(1.0);
        let before = filter.estimate();
        filter.update(3.0, GATE, RARE);
        assert_eq!(filter.estimate(), before);
        filter.update(1.0, GATE, RARE);
        filter.update(0.2, GATE, 0.0);
        assert!((filter.mean() - before.mean).abs() < 0.02);
    }

    #[test]
    fn a_step_is_followed_at_the_second_sample() {
        let (mut filter, _) = settled(1.0);
        filter.update(1.8, GATE, RARE);
        filter.update(1.82, GATE, RARE);
        assert!((filter.mean() - 1.81).abs() < 0.01, "{}", filter.mean());
        filter.update(0.9, GATE, RARE);
        filter.update(0.9, GATE, RARE);
        assert!((filter.mean() - 0.9).abs() < 0.01, "{}", filter.mean());
    }

    #[test]
    fn frequent_odd_samples_widen_the_scatter() {
        let (mut filter, mut state) = settled(1.0);
        let before = filter.estimate().standard_deviation;
        for index in 0..400 {
            let sample = if index % 10 == 0 { 2.0 } else { 1.0 + noise(&mut state) };
            filter.update(sample, GATE, RARE);
        }
        assert!(filter.estimate().standard_deviation > 2.0 * before, "{:?} from {before}", filter.estimate());
    }
}
