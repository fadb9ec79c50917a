//! Every rung against the CPU engine on one thread, how long it takes, and what a switch does.

use candle_core::{DType, Device, Tensor};
use headroom_device::bundle::Bundle;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::comparison::{BETWEEN_EXECUTORS, Measure, NOTHING, Outputs, relative_difference};
use super::job::MERGING;
use super::report::{Check, RungTimes};
use super::subject::{Cpu, Model, Subject};
use super::{CheckError, Checking};
use crate::executor::CandleVit;

const ELASTIC: &str = "elastic";
const WITH_CANDLE: &str = "candle with the CPU engine";
/// What runs of a rung, or why it failed.
type Run<T> = Result<T, CheckError>;

impl Checking<'_> {
    /// Every rung on one image: the device's engine, and candle where a rung runs with all tokens. (Which tokens are alike
    /// may hang on rounding.)
    pub(super) fn elastic(
        &mut self,
        subject: Option<&mut Subject<'_>>,
        model: &Model<'_>,
        pixels: &[f32],
    ) -> Result<(), CheckError> {
        let mut reference = Cpu::new(model, 1);
        let [channels, height, width] = image_shape(model);
        let image = Tensor::from_slice(pixels, (1, channels, height, width), &Device::Cpu)?;
        let with_candle = (Measure::RelativeDifference, BETWEEN_EXECUTORS);
        let candle = CandleVit::load(model.description, model.weights, self.chosen.first(), DType::F32)
            .and_then(|candle| candle.with_corrections(model.corrections));
        let candle = match candle {
            Ok(candle) => Some(candle),
            Err(error) => {
                self.checks.push(Check::new(ELASTIC, WITH_CANDLE, "model", with_candle, Err(error.into())));
                None
            }
        };
        let mut subject = subject;
        let (mut merging, mut only_engines) = (0, Vec::new());
        for (rung, kept) in model.rungs.iter().enumerate() {
            self.stop_if_interrupted()?;
            let of = format!("rung {rung}");
            let (expected, _) = reference.run(rung, pixels)?;
            if let Some(subject) = &mut subject {
                let found = subject.run(rung, pixels).map(|(found, _)| found.distance(&expected, subject.distance()));
                let comparison = "device engine with the CPU engine";
                self.checks.push(Check::new(ELASTIC, comparison, of.as_str(), subject.limit(), found));
            }
            let merges = kept.kept.token_schedule().iter().any(|&merged| merged > 0);
            merging += usize::from(merges);
            if merges {
                only_engines.push(rung.to_string());
            } else if let Some(candle) = &candle {
                let found = candle.forward_kept(&image, kept).and_then(|output| super::outputs(&output));
                let found = found.map(|found| found.distance(&expected, relative_difference)).map_err(CheckError::from);
                self.checks.push(Check::new(ELASTIC, WITH_CANDLE, of, with_candle, found));
            }
        }
        if merging == 0 && !self.left_out.iter().any(|what| what.starts_with(MERGING)) {
            self.left_out.push(format!("{MERGING}, which no rung does"));
        }
        if !only_engines.is_empty() {
            let rungs = only_engines.join(", ");
            self.left_out
                .push(format!("candle at rungs {rungs}, which merge tokens: which are alike may hang on rounding"));
        }
        Ok(())
    }

    /// Rungs in random order, each twice in a row: first after another one, then after itself. Both must give the bits
    /// that the rung gave before any switch. The first round warms up and is not timed. A rung that fails does not run
    /// again.
    pub(super) fn switches(
        &mut self,
        subject: Option<&mut Subject<'_>>,
        bundle: &Bundle,
        pixels: &[f32],
    ) -> Result<Vec<RungTimes>, CheckError> {
        let map = bundle.structure_map();
        let rungs = map.rungs();
        let of = |(rung, [after_switch, steady]): (usize, [Vec<f64>; 2])| RungTimes {
            rung,
            macs: rungs[rung].macs,
            fidelity: rungs[rung].fidelity,
            median_ms: median(steady),
            after_switch_ms: median(after_switch),
        };
        let Some(subject) = subject else {
            return Ok((0..rungs.len()).map(|rung| of((rung, Default::default()))).collect());
        };
        let rounds = if self.options.quick { 3 } else { 100 };
        let mut steady: Vec<Run<(Outputs, f64)>> =
            (0..rungs.len()).map(|rung| Ok((subject.run(rung, pixels)?.0, 0.0))).collect();
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
                    let Ok((before, different)) = &mut steady[rung] else { continue };
                    match subject.run(rung, pixels) {
                        Ok((found, _)) if round == 0 => *different += found.different_values(before),
                        Ok((found, time)) => {
                            *different += found.different_values(before);
                            times.push(time.as_seconds() * 1e3);
                        }
                        Err(error) => steady[rung] = Err(error),
                    }
                }
            }
        }
        for (rung, found) in steady.into_iter().enumerate() {
            let (of, limit) = (format!("rung {rung}"), (Measure::DifferentValues, NOTHING));
            let found = found.map(|(_, different)| different);
            if found.is_err() {
                times[rung] = Default::default();
            }
            self.checks.push(Check::new("switch", "before switches with after them", of, limit, found));
        }
        Ok(times.into_iter().enumerate().map(of).collect())
    }
}

fn image_shape(model: &Model<'_>) -> [usize; 3] {
    let image = &model.description.image;
    [image.channels, image.height, image.width]
}

/// The middle one; of two in the middle the longer.
fn median(mut times: Vec<f64>) -> Option<f64> {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![2.0, 1.0]), Some(2.0));
        assert_eq!(median(vec![]), None);
    }
}
