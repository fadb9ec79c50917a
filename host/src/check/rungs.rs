//! Every rung against the CPU engine on one thread, how long it takes, and what a switch does.

use candle_core::{DType, Device, Tensor};
use headroom_device::bundle::Bundle;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::comparison::{BETWEEN_EXECUTORS, Measure, NOTHING, different_values, relative_difference};
use super::report::{Check, RungTimes};
use super::subject::{Cpu, Model, Subject};
use super::{CheckError, Checking};
use crate::executor::CandleVit;

impl Checking<'_> {
    /// Every rung on one image: the device's engine, and candle where a rung runs with all tokens. (Which tokens are alike
    /// may hang on rounding.)
    pub(super) fn elastic(
        &mut self,
        subject: &mut Subject<'_>,
        model: &Model<'_>,
        pixels: &[f32],
    ) -> Result<(), CheckError> {
        let mut reference = Cpu::new(model, 1);
        let [channels, height, width] = image_shape(model);
        let image = Tensor::from_slice(pixels, (1, channels, height, width), &Device::Cpu)?;
        let candle = CandleVit::load(model.description, model.weights, self.chosen.first(), DType::F32)?;
        let candle = candle.with_corrections(model.corrections)?;
        for (rung, kept) in model.rungs.iter().enumerate() {
            self.stop_if_interrupted()?;
            let of = format!("rung {rung}");
            let (found, _) = subject.run(rung, pixels)?;
            let (expected, _) = reference.run(rung, pixels)?;
            let distance = subject.distance(&found, &expected);
            self.checks.push(Check::new("elastic", "device engine with the CPU engine", of.as_str(), distance));
            let merges = kept.kept.token_schedule().iter().any(|&merged| merged > 0);
            if !merges {
                let found = super::values(&candle.forward_kept(&image, kept)?.pooled)?;
                let difference = relative_difference(&found, &expected);
                let found = (Measure::RelativeDifference, difference, BETWEEN_EXECUTORS);
                self.checks.push(Check::new("elastic", "candle with the CPU engine", of, found));
            }
        }
        Ok(())
    }

    /// Rungs in random order, each twice in a row: first after another one, then after itself. Both must give the bits
    /// that the rung gave before any switch. The first round warms up and is not timed.
    pub(super) fn switches(
        &mut self,
        subject: &mut Subject<'_>,
        bundle: &Bundle,
        pixels: &[f32],
    ) -> Result<Vec<RungTimes>, CheckError> {
        let map = bundle.structure_map();
        let rungs = map.rungs();
        let rounds = if self.options.quick { 3 } else { 100 };
        let steady: Vec<Vec<f32>> =
            (0..rungs.len()).map(|rung| Ok(subject.run(rung, pixels)?.0)).collect::<Result<_, CheckError>>()?;
        let mut different = vec![0.0; rungs.len()];
        let mut times = vec![[Vec::new(), Vec::new()]; rungs.len()];
        let mut order: Vec<usize> = (0..rungs.len()).collect();
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        for round in 0..=rounds {
            self.stop_if_interrupted()?;
            let last = order.last().copied();
            order.shuffle(&mut random);
            if order.first().copied() == last {
                // A rung after itself would be no switch.
                order.rotate_left(1);
            }
            for &rung in &order {
                for times in &mut times[rung] {
                    let (found, time) = subject.run(rung, pixels)?;
                    different[rung] += different_values(&found, &steady[rung]);
                    if round > 0 {
                        times.push(time.as_seconds() * 1e3);
                    }
                }
            }
        }
        for (rung, found) in different.into_iter().enumerate() {
            let found = (Measure::DifferentValues, found, NOTHING);
            self.checks.push(Check::new("switch", "before switches with after them", format!("rung {rung}"), found));
        }
        let of = |(rung, [after_switch, steady]): (usize, [Vec<f64>; 2])| RungTimes {
            rung,
            macs: rungs[rung].macs,
            fidelity: rungs[rung].fidelity,
            median_ms: median(steady),
            after_switch_ms: median(after_switch),
        };
        Ok(times.into_iter().enumerate().map(of).collect())
    }
}

fn image_shape(model: &Model<'_>) -> [usize; 3] {
    let image = &model.description.image;
    [image.channels, image.height, image.width]
}

/// The middle one of at least one; of two in the middle the longer.
fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![2.0, 1.0]), 2.0);
    }
}
