//! What a running device tells Prometheus.
//!
//! [`Metrics`] holds the numbers, [`MetricsServer`] shows them as text on a
//! loopback port. A value that is not known is not shown: no number stands for
//! "unknown".
//!
//! | name | kind | what |
//! |---|---|---|
//! | `headroom_build_info` | info | version of the program |
//! | `headroom_bundle` | gauge, always 1 | labels `target` and `sha256` of the bundle that serves |
//! | `headroom_active_rung` | gauge | 0 is the dense model |
//! | `headroom_switches_total` | counter | changes of the active rung |
//! | `headroom_decisions_total` | counter | steps of the governor, by `binding` limit |
//! | `headroom_mode` | gauge | 1 for the mode that the governor is in, 0 for the others |
//! | `headroom_slowdown` | gauge | how much slower than its profile the board is |
//! | `headroom_power_budget_watts` | gauge | what the board may draw, where heat or a cap limits it |
//! | `headroom_pace_seconds` | gauge | least time between the starts of two inferences |
//! | `headroom_inference_seconds` | histogram | latency of inferences |
//! | `headroom_deadline_misses_total` | counter | inferences that took longer than the deadline |
//! | `headroom_requests_total` | counter | requests, by `outcome` |
//! | `headroom_queue_length` | gauge | requests that wait |
//! | `headroom_temperature_celsius` | gauge | of the hottest zone that clocks depend on |
//! | `headroom_power_watts` | gauge | of the whole board |
//! | `headroom_decider` | gauge | 1 for who decided last, `own` or `supervisor`, 0 for the other |
//! | `headroom_supervisor_link` | gauge | 1 for the `state` of the link to a supervisor, 0 for the others; only with one |
//! | `headroom_supervisor_frames_total` | counter | frames of the supervisor, by `outcome`: `good`, `bad`, `stale`, `lost` |
//! | `headroom_supervisor_temperature_celsius`, `headroom_supervisor_power_watts` | gauge | by the supervisor's sensors |
//! | `headroom_throttled` | gauge | 1 while the kernel cuts clocks |

mod server;

pub use server::{MetricsError, MetricsServer};

use std::sync::atomic::AtomicU64;

use headroom_shared::TimeSpan;
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::governor::{Binding, Decider, Decision, Mode};
use crate::precision::Precision;
use crate::reading::{Measurement, SensorReading};
use crate::supervisor_link::{FrameCounts, LinkState, Measured};

/// Upper bounds of the latency histogram: 0.25 ms, and 15 times a factor of two, to 8 s.
const LATENCY_BUCKETS: (f64, f64, u16) = (0.000_25, 2.0, 16);

type Labels<const N: usize> = [(&'static str, &'static str); N];
type FloatGauge = Gauge<f64, AtomicU64>;
/// A gauge that is only there while its value is known.
type KnownGauge = Family<Labels<0>, FloatGauge>;

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// With a result.
    Answered,
    /// A newer one took its place in the full queue.
    Dropped,
    /// Not accepted: malformed, or the service is stopping.
    Refused,
    /// Accepted, and the engine failed.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Answered, Self::Dropped, Self::Refused, Self::Failed];

    /// In lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Dropped => "dropped",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// The numbers; shared by reference between threads, none of which waits long.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    bundle: Family<[(&'static str, String); 3], Gauge>,
    active_rung: Gauge,
    switches: Counter,
    decisions: Family<Labels<1>, Counter>,
    mode: Family<Labels<1>, Gauge>,
    decider: Family<Labels<1>, Gauge>,
    slowdown: FloatGauge,
    power_budget: KnownGauge,
    pace: FloatGauge,
    inference: Histogram,
    misses: Counter,
    requests: Family<Labels<1>, Counter>,
    queue_length: Gauge,
    temperature: KnownGauge,
    power: KnownGauge,
    throttled: KnownGauge,
    supervisor_link: Family<Labels<1>, Gauge>,
    supervisor_frames: Family<Labels<1>, Counter>,
    supervisor_temperature: KnownGauge,
    supervisor_power: KnownGauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All counters at 0.
    #[must_use]
    pub fn new() -> Self {
        let (first, factor, count) = LATENCY_BUCKETS;
        let mut metrics = Self {
            registry: Registry::with_prefix("headroom"),
            bundle: Family::default(),
            active_rung: Gauge::default(),
            switches: Counter::default(),
            decisions: Family::default(),
            mode: Family::default(),
            decider: Family::default(),
            slowdown: FloatGauge::default(),
            power_budget: KnownGauge::default(),
            pace: FloatGauge::default(),
            inference: Histogram::new(exponential_buckets(first, factor, count)),
            misses: Counter::default(),
            requests: Family::default(),
            queue_length: Gauge::default(),
            temperature: KnownGauge::default(),
            power: KnownGauge::default(),
            throttled: KnownGauge::default(),
            supervisor_link: Family::default(),
            supervisor_frames: Family::default(),
            supervisor_temperature: KnownGauge::default(),
            supervisor_power: KnownGauge::default(),
        };
        // Every label from the start, so that a rate over the first event is right.
        for binding in Binding::ALL {
            let _ = metrics.decisions.get_or_create(&[("binding", binding.name())]);
        }
        for outcome in Outcome::ALL {
            let _ = metrics.requests.get_or_create(&[("outcome", outcome.name())]);
        }
        metrics.slowdown.set(1.0);
        metrics.set_mode(Mode::default());
        metrics.set_decider(Decider::default());
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        let seconds = || Unit::Seconds;
        registry.register("build", "Version of the program", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register("bundle", "The bundle that serves", self.bundle.clone());
        registry.register("active_rung", "The rung that runs: 0 is the dense model", self.active_rung.clone());
        registry.register("switches", "Changes of the active rung", self.switches.clone());
        registry.register("decisions", "Steps of the governor by binding limit", self.decisions.clone());
        registry.register("mode", "1 for the governor's mode, 0 for the others", self.mode.clone());
        registry.register("slowdown", "How much slower than its profile the board is", self.slowdown.clone());
        registry.register_with_unit(
            "power_budget",
            "What the board may draw, where heat or a cap limits it",
            Unit::Other("watts".into()),
            self.power_budget.clone(),
        );
        registry.register_with_unit(
            "pace",
            "Least time between the starts of two inferences",
            seconds(),
            self.pace.clone(),
        );
        registry.register_with_unit("inference", "Latency of inferences", seconds(), self.inference.clone());
        registry.register("deadline_misses", "Inferences that took longer than the deadline", self.misses.clone());
        registry.register("requests", "Requests by outcome", self.requests.clone());
        registry.register("queue_length", "Requests that wait", self.queue_length.clone());
        registry.register_with_unit(
            "temperature",
            "Of the hottest zone that clocks depend on",
            Unit::Celsius,
            self.temperature.clone(),
        );
        registry.register_with_unit("power", "Of the whole board", Unit::Other("watts".into()), self.power.clone());
        registry.register("decider", "1 for who decided last, 0 for the other", self.decider.clone());
        let link = "1 for the state of the link to a supervisor, 0 for the others";
        registry.register("supervisor_link", link, self.supervisor_link.clone());
        registry.register("supervisor_frames", "Frames of the supervisor by outcome", self.supervisor_frames.clone());
        let temperature = "By the supervisor's sensor";
        registry.register_with_unit(
            "supervisor_temperature",
            temperature,
            Unit::Celsius,
            self.supervisor_temperature.clone(),
        );
        let watts = Unit::Other("watts".into());
        registry.register_with_unit(
            "supervisor_power",
            "By the supervisor's meter",
            watts,
            self.supervisor_power.clone(),
        );
        registry.register("throttled", "1 while the kernel cuts clocks", self.throttled.clone());
    }

    /// The bundle that serves from now on, and in which precision.
    pub fn set_bundle(&self, target: &str, sha256: &str, precision: Precision) {
        self.bundle.clear();
        let labels =
            [("target", target.to_owned()), ("sha256", sha256.to_owned()), ("precision", precision.to_string())];
        self.bundle.get_or_create(&labels).set(1);
    }

    /// A step of the governor.
    pub fn count_decision(&self, decision: &Decision) {
        self.decisions.get_or_create(&[("binding", decision.binding.name())]).inc();
        self.set_mode(decision.mode);
        self.set_decider(decision.decider);
        self.slowdown.set(f64::from(decision.slowdown.mean));
        self.pace.set(decision.pace.as_seconds());
        show(&self.power_budget, decision.power_budget.map(headroom_shared::Power::as_watts));
        let rung = i64::from(decision.rung);
        if self.active_rung.set(rung) != rung {
            self.switches.inc();
        }
    }

    /// An inference that has ended, and whether it took longer than the deadline.
    pub fn count_inference(&self, latency: TimeSpan, missed: bool) {
        self.inference.observe(latency.as_seconds());
        if missed {
            self.misses.inc();
        }
    }

    /// A pass over the sensors. Projected values are not shown: Prometheus keeps the last one itself.
    pub fn set_sensors(&self, reading: &SensorReading) {
        let celsius = measured(reading.temperature).map(|value| f64::from(value.as_millidegrees()) / 1e3);
        show(&self.temperature, celsius);
        show(&self.power, measured(reading.power).map(headroom_shared::Power::as_watts));
        show(&self.throttled, measured(reading.throttled).map(|throttled| f64::from(u8::from(throttled))));
    }

    /// A request that has ended.
    pub fn count_request(&self, outcome: Outcome) {
        self.requests.get_or_create(&[("outcome", outcome.name())]).inc();
    }

    /// Where the link to a supervisor stands, its frames since the start and what it last measured.
    pub fn set_supervisor(&self, state: LinkState, counts: FrameCounts, measured: Measured) {
        for other in LinkState::ALL {
            self.supervisor_link.get_or_create(&[("state", other.name())]).set(i64::from(other == state));
        }
        let FrameCounts { good, bad, stale, lost } = counts;
        for (outcome, count) in [("good", good), ("bad", bad), ("stale", stale), ("lost", lost)] {
            let counter = self.supervisor_frames.get_or_create(&[("outcome", outcome)]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        let celsius = measured.temperature.map(|value| f64::from(value.as_millidegrees()) / 1e3);
        show(&self.supervisor_temperature, celsius);
        show(&self.supervisor_power, measured.power.map(headroom_shared::Power::as_watts));
    }

    /// How many requests wait.
    pub fn set_queue_length(&self, requests: usize) {
        self.queue_length.set(i64::try_from(requests).unwrap_or(i64::MAX));
    }

    /// All of it in Prometheus's text format 0.0.4.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }

    fn set_decider(&self, decider: Decider) {
        for other in Decider::ALL {
            self.decider.get_or_create(&[("decider", other.name())]).set(i64::from(other == decider));
        }
    }

    fn set_mode(&self, mode: Mode) {
        for other in Mode::ALL {
            self.mode.get_or_create(&[("mode", other.name())]).set(i64::from(other == mode));
        }
    }
}

fn show(gauge: &KnownGauge, value: Option<f64>) {
    match value {
        Some(value) => {
            gauge.get_or_create(&[]).set(value);
        }
        None => gauge.clear(),
    }
}

fn measured<T>(measurement: Measurement<T>) -> Option<T> {
    match measurement {
        Measurement::Measured(value) => Some(value),
        Measurement::Projected { .. } | Measurement::Missing(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use headroom_shared::{Power, Temperature};

    use super::*;
    use crate::governor::Slowdown;

    fn decision(rung: u8, binding: Binding, mode: Mode) -> Decision {
        let slowdown = Slowdown { mean: 1.5, standard_deviation: 0.1 };
        let power_budget = (rung > 0).then(|| Power::from_milliwatts(12_500));
        let pace = TimeSpan::from_nanoseconds(0);
        Decision { rung, pace, binding, mode, slowdown, power_budget, decider: Decider::Own }
    }

    fn has(metrics: &Metrics, line: &str) -> bool {
        metrics.to_text().lines().any(|found| found == line)
    }

    #[test]
    fn a_fresh_device_shows_zeros_and_nothing_unknown() {
        let text = Metrics::new().to_text();
        for line in [
            concat!("headroom_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
            "headroom_active_rung 0",
            "headroom_switches_total 0",
            "headroom_decisions_total{binding=\"lost_sensor\"} 0",
            "headroom_requests_total{outcome=\"dropped\"} 0",
            "headroom_mode{mode=\"normal\"} 1",
            "headroom_mode{mode=\"emergency\"} 0",
            "headroom_inference_seconds_count 0",
            "headroom_queue_length 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in\n{text}");
        }
        assert!(!text.contains("headroom_temperature_celsius "), "{text}");
        assert!(!text.contains("headroom_power_watts "), "{text}");
    }

    #[test]
    fn decisions_switches_and_modes_are_counted() {
        let metrics = Metrics::new();
        metrics.count_decision(&decision(0, Binding::Nothing, Mode::Normal));
        metrics.count_decision(&decision(3, Binding::Temperature, Mode::Normal));
        metrics.count_decision(&decision(3, Binding::Emergency, Mode::Emergency));
        assert!(has(&metrics, "headroom_active_rung 3"));
        assert!(has(&metrics, "headroom_switches_total 1"));
        assert!(has(&metrics, "headroom_decisions_total{binding=\"temperature\"} 1"));
        assert!(
            has(&metrics, "headroom_mode{mode=\"emergency\"} 1") && has(&metrics, "headroom_mode{mode=\"normal\"} 0")
        );
        assert!(has(&metrics, "headroom_slowdown 1.5"));
        assert!(has(&metrics, "headroom_power_budget_watts 12.5"));
        metrics.count_decision(&decision(0, Binding::Nothing, Mode::Normal));
        assert!(!metrics.to_text().contains("headroom_power_budget_watts 12.5"));
    }

    #[test]
    fn a_sensor_that_is_lost_is_not_shown_any_more() {
        let metrics = Metrics::new();
        let temperature = Measurement::Measured(Temperature::from_millidegrees(-3_250));
        metrics.set_sensors(&SensorReading { temperature, ..SensorReading::ABSENT });
        assert!(has(&metrics, "headroom_temperature_celsius -3.25"));
        metrics.set_sensors(&SensorReading::ABSENT);
        assert!(!metrics.to_text().contains("-3.25"));
    }

    #[test]
    fn a_supervisor_is_shown_where_there_is_one() {
        let metrics = Metrics::new();
        assert!(!metrics.to_text().contains("headroom_supervisor_link{"));
        assert!(has(&metrics, "headroom_decider{decider=\"own\"} 1"));
        let counts = FrameCounts { good: 5, bad: 1, stale: 0, lost: 2 };
        let measured = Measured { temperature: Some(Temperature::from_millidegrees(80_500)), power: None };
        metrics.set_supervisor(LinkState::InUse, counts, measured);
        metrics.set_supervisor(LinkState::InUse, FrameCounts { good: 7, ..counts }, measured);
        let decision = decision(3, Binding::Temperature, Mode::Normal);
        metrics.count_decision(&Decision { decider: Decider::Supervisor, ..decision });
        for line in [
            "headroom_decider{decider=\"supervisor\"} 1",
            "headroom_supervisor_link{state=\"in_use\"} 1",
            "headroom_supervisor_link{state=\"silent\"} 0",
            "headroom_supervisor_frames_total{outcome=\"good\"} 7",
            "headroom_supervisor_frames_total{outcome=\"lost\"} 2",
            "headroom_supervisor_temperature_celsius 80.5",
        ] {
            assert!(has(&metrics, line), "no `{line}` in\n{}", metrics.to_text());
        }
        metrics.set_supervisor(LinkState::Silent, counts, Measured::default());
        assert!(!metrics.to_text().contains("80.5"));
    }

    #[test]
    fn latencies_misses_requests_and_the_bundle_are_shown() {
        let metrics = Metrics::new();
        metrics.count_inference(TimeSpan::from_nanoseconds(3_000_000), true);
        metrics.count_inference(TimeSpan::from_nanoseconds(100_000), false);
        metrics.count_request(Outcome::Answered);
        metrics.set_queue_length(7);
        metrics.set_bundle("toaster", "00", Precision::F32);
        metrics.set_bundle("jetson-orin", "ab", Precision::Int8);
        for line in [
            "headroom_inference_seconds_bucket{le=\"0.00025\"} 1",
            "headroom_inference_seconds_bucket{le=\"+Inf\"} 2",
            "headroom_deadline_misses_total 1",
            "headroom_requests_total{outcome=\"answered\"} 1",
            "headroom_queue_length 7",
            "headroom_bundle{target=\"jetson-orin\",sha256=\"ab\",precision=\"int8\"} 1",
        ] {
            assert!(has(&metrics, line), "no `{line}` in\n{}", metrics.to_text());
        }
        assert!(!metrics.to_text().contains("toaster"));
    }
}
