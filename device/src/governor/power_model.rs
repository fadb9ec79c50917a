//! What the board draws: idle power plus that of the inferences, corrected by what is measured.
//!
//! power = bias + scale x dynamic power by the profile. A Kalman filter of the
//! two corrects a wrong profile, another clock and the load of other programs.
//! Where the work never changes, bias and scale cannot be told apart, and what
//! they predict for this work is right all the same.

/// Readings must agree to so many standard deviations; the second that does not is believed.
const ODD_DEVIATIONS: f32 = 5.0;
/// Of a power reading: a share of it and a constant, in watts.
const READING_SHARE: f32 = 0.03;
const READING_FLOOR: f32 = 0.1;
/// Of the scale before anything was measured.
const SCALE_DEVIATION: f32 = 0.4;
/// The share of the ladder's power range that the bias may be off at first, and by which it drifts in a second.
const BIAS_DEVIATION: f32 = 0.15;
const BIAS_DRIFT: f32 = 0.004;
const SCALE_DRIFT: f32 = 0.003;
/// The dynamic power of two windows of this much of the range is the same work.
const STEADY: f32 = 0.06;

#[derive(Clone, Copy, Debug)]
pub(super) struct PowerModel {
    /// Watts.
    bias: f32,
    scale: f32,
    /// Variance of the bias, covariance, variance of the scale.
    covariance: [f32; 3],
    range: f32,
    /// The dynamic power of the window before.
    before: Option<f32>,
    odd: bool,
}

impl PowerModel {
    /// Of a board that idles at `idle` watts and whose largest rung draws `range` more.
    pub fn new(idle: f32, range: f32) -> Self {
        let mut model = Self { bias: idle, scale: 1.0, covariance: [0.0; 3], range, before: None, odd: false };
        model.forget();
        model
    }

    /// The same board, with a ladder whose largest rung draws `range`: the bias stays, the scale is doubted.
    pub fn of_another_ladder(&self, range: f32) -> Self {
        let mut model = Self { range, before: None, odd: false, ..*self };
        model.forget();
        model
    }

    fn forget(&mut self) {
        let bias = BIAS_DEVIATION * self.range;
        self.covariance = [bias * bias, 0.0, SCALE_DEVIATION * SCALE_DEVIATION];
    }

    /// Compares a reading with the `dynamic` power of the window that ends with it.
    pub fn update(&mut self, measured: f32, dynamic: f32) {
        // The sensor averages over the past: only a window like the one before tells what it means.
        let before = self.before.replace(dynamic);
        if before.is_none_or(|before| libm::fabsf(before - dynamic) > STEADY * self.range) {
            return;
        }
        let [bias, cross, scale] = self.covariance;
        let drift = BIAS_DRIFT * self.range;
        // Without a change of work the variance along the unseen direction would grow for ever.
        let bias = (bias + drift * drift).min(self.range * self.range);
        let scale = (scale + SCALE_DRIFT * SCALE_DRIFT).min(1.0);
        let (to_bias, to_scale) = (bias + cross * dynamic, cross + scale * dynamic);
        let noise = READING_FLOOR + READING_SHARE * measured;
        let total = to_bias + to_scale * dynamic + noise * noise;
        let innovation = measured - self.predict(dynamic);
        if innovation * innovation > ODD_DEVIATIONS * ODD_DEVIATIONS * total {
            if self.odd {
                self.forget();
            }
            self.odd = !self.odd;
            return;
        }
        self.odd = false;
        let (bias_gain, scale_gain) = (to_bias / total, to_scale / total);
        self.bias = (self.bias + bias_gain * innovation).max(0.0);
        self.scale = (self.scale + scale_gain * innovation).clamp(0.05, 20.0);
        self.covariance = [
            (bias - bias_gain * to_bias).max(0.0),
            cross - bias_gain * to_scale,
            (scale - scale_gain * to_scale).max(0.0),
        ];
    }

    /// The board's watts while inferences draw `dynamic` watts by the profile.
    pub fn predict(&self, dynamic: f32) -> f32 {
        self.bias + self.scale * dynamic
    }

    /// The board's watts without inferences.
    pub fn bias(&self) -> f32 {
        self.bias
    }

    /// How many times more an inference draws than its profile says.
    pub fn scale(&self) -> f32 {
        self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_profile_is_corrected_where_the_work_varies() {
        let mut model = PowerModel::new(5.0, 20.0);
        for second in 0..200 {
            let dynamic = if (second / 10) % 2 == 0 { 4.0 } else { 10.0 };
            model.update(7.0 + 1.5 * dynamic, dynamic);
        }
        assert!((model.predict(10.0) - 22.0).abs() < 0.1, "{model:?}");
        assert!((model.predict(4.0) - 13.0).abs() < 0.1, "{model:?}");
        assert!((model.predict(20.0) - 37.0).abs() < 0.5, "{model:?}");
    }

    #[test]
    fn constant_work_is_predicted_though_its_parts_are_not_known() {
        let mut model = PowerModel::new(5.0, 20.0);
        for _ in 0..10_000 {
            model.update(20.0, 10.0);
        }
        assert!((model.predict(10.0) - 20.0).abs() < 0.05, "{model:?}");
        assert!(model.covariance.iter().all(|value| value.is_finite()));
    }

    #[test]
    fn a_spike_changes_nothing() {
        let mut model = PowerModel::new(5.0, 20.0);
        for _ in 0..100 {
            model.update(15.0, 10.0);
        }
        let before = model.predict(10.0);
        model.update(600.0, 10.0);
        assert_eq!(model.predict(10.0), before);
    }
}
