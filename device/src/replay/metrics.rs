//! What a run is judged by.

use serde::Serialize;

/// The first second is left out of the misses: nothing has been learnt yet.
const LEARNING_SECONDS: f64 = 1.0;
/// So long after the start or an event, conditions are steady.
pub const STEADY_AFTER_SECONDS: f64 = 120.0;

/// A second of a run, for drawings and records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Moment {
    pub seconds: f64,
    pub celsius: f64,
    /// Mean of the second.
    pub watts: f64,
    /// The longest of the second; 0 where none ended.
    pub milliseconds: f64,
    pub rung: usize,
}

/// How a run went.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metrics {
    pub inferences: u64,
    /// Frames that arrived, where frames arrive.
    pub frames: u64,
    /// Frames that were never looked at, because a newer one had come.
    pub dropped: u64,
    /// Inferences and dropped frames that missed the deadline after the first second, in percent of both; absent
    /// without a deadline.
    pub misses_percent: Option<f64>,
    pub p99_milliseconds: f64,
    /// Of the fidelities of inferences; a dropped frame has none and counts as zero.
    pub mean_fidelity: f64,
    /// The board's energy over the number of inferences.
    pub joules_per_inference: f64,
    pub highest_celsius: f64,
    pub seconds_above_target: f64,
    pub seconds_above_passive: f64,
    pub shut_down: bool,
    pub switches: u64,
    /// Longer after the start and every event than two minutes.
    pub steady_switches_per_minute: f64,
    pub mean_watts: f64,
}

/// Counts during a run.
#[derive(Clone, Debug, Default)]
pub(super) struct Counter {
    pub metrics: Metrics,
    latencies: Vec<f32>,
    judged: u64,
    missed: u64,
    has_deadline: bool,
    fidelity: f64,
    pub joules: f64,
    last_rung: Option<usize>,
    steady_switches: u64,
    pub steady_seconds: f64,
}

impl Counter {
    pub fn inference(
        &mut self,
        at: f64,
        seconds: f64,
        deadline: Option<f64>,
        rung: usize,
        fidelity: f64,
        steady: bool,
    ) {
        self.metrics.inferences += 1;
        self.latencies.push(seconds as f32);
        self.fidelity += fidelity;
        if let Some(deadline) = deadline {
            self.judge(at, seconds > deadline);
        }
        if self.last_rung.is_some_and(|last| last != rung) {
            self.metrics.switches += 1;
            self.steady_switches += u64::from(steady);
        }
        self.last_rung = Some(rung);
    }

    pub fn dropped(&mut self, at: f64, frames: u64, has_deadline: bool) {
        self.metrics.dropped += frames;
        for _ in 0..if has_deadline { frames } else { 0 } {
            self.judge(at, true);
        }
    }

    fn judge(&mut self, at: f64, missed: bool) {
        self.has_deadline = true;
        if at >= LEARNING_SECONDS {
            self.judged += 1;
            self.missed += u64::from(missed);
        }
    }

    pub fn finish(mut self, seconds: f64) -> Metrics {
        let metrics = &mut self.metrics;
        let inferences = metrics.inferences.max(1) as f64;
        metrics.misses_percent = self.has_deadline.then(|| 100.0 * self.missed as f64 / self.judged.max(1) as f64);
        metrics.mean_fidelity = self.fidelity / (metrics.inferences + metrics.dropped).max(1) as f64;
        metrics.joules_per_inference = self.joules / inferences;
        metrics.mean_watts = self.joules / seconds;
        metrics.steady_switches_per_minute = 60.0 * self.steady_switches as f64 / self.steady_seconds.max(60.0);
        if !self.latencies.is_empty() {
            let index = (self.latencies.len() * 99).div_ceil(100) - 1;
            let (_, p99, _) = self.latencies.select_nth_unstable_by(index, f32::total_cmp);
            metrics.p99_milliseconds = f64::from(*p99) * 1e3;
        }
        self.metrics
    }
}
