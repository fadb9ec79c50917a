//! What happened last: a ring of recent events with counts of all, for the time after something went wrong.
//!
//! A record has a fixed size and allocates once. It is written as JSON lines:
//! first a header with the counts of every kind since the start, then the
//! events that are left, oldest first. Times are seconds of the monotonic clock
//! since the process's own zero; the header says when it was written on that
//! clock, and the journal says when that was on the wall.
//!
//! Writing is for when things go wrong, so it does no harm itself: the file is
//! replaced whole or not at all, and a full disk is an error to report.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use headroom_shared::{Temperature, TimeSpan};
use serde::Serialize;
use serde_json::{Value, json};

use crate::governor::{Decision, Mode};
use crate::reading::{InferenceSample, Measurement, SensorReading};
use crate::whole_file;

/// The version of the JSON lines. A field is only ever added within a version.
pub const FLIGHT_RECORD_VERSION: u32 = 1;

/// Something worth remembering.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event {
    /// A pass over the sensors.
    Sensors(SensorReading),
    /// What the governor decided.
    Decision(Decision),
    /// Another rung became the active one.
    Switch { from: u8, to: u8 },
    /// An inference took longer than the deadline.
    Miss { sample: InferenceSample, deadline: TimeSpan },
    /// The governor's mode changed.
    Mode { from: Mode, to: Mode },
    /// Something was read again while serving.
    Reload { what: Reloaded, accepted: bool },
    /// The link to a supervisor has another state, as the metrics name it.
    Supervisor { link: &'static str },
}

/// What can be read again while serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reloaded {
    Limits,
    Bundle,
}

/// Events of each kind since the start, those that the ring has dropped included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub sensors: u64,
    pub decisions: u64,
    pub switches: u64,
    pub misses: u64,
    pub modes: u64,
    pub reloads: u64,
    pub supervisor: u64,
}

/// The record could not be written; the old file, if there was one, is still there.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the flight record `{path}`")]
pub struct FlightRecordError {
    pub path: PathBuf,
    pub source: io::Error,
}

/// The ring. Whoever shares one between threads clones it under the lock and
/// writes the clone, so that a slow disk holds nobody up.
#[derive(Clone, Debug)]
pub struct FlightRecord {
    capacity: usize,
    events: VecDeque<(TimeSpan, Event)>,
    counts: Counts,
}

impl FlightRecord {
    /// An empty record of the last `capacity` events (at least 1).
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self { capacity, events: VecDeque::with_capacity(capacity), counts: Counts::default() }
    }

    /// Remembers `event` of the time `now`; the oldest is dropped where the ring is full.
    pub fn record(&mut self, now: TimeSpan, event: Event) {
        let count = match event {
            Event::Sensors(_) => &mut self.counts.sensors,
            Event::Decision(_) => &mut self.counts.decisions,
            Event::Switch { .. } => &mut self.counts.switches,
            Event::Miss { .. } => &mut self.counts.misses,
            Event::Mode { .. } => &mut self.counts.modes,
            Event::Reload { .. } => &mut self.counts.reloads,
            Event::Supervisor { .. } => &mut self.counts.supervisor,
        };
        *count += 1;
        if self.events.len() == self.capacity {
            self.events.pop_front();
        }
        self.events.push_back((now, event));
    }

    /// How many there were of each kind.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The events that are left, oldest first.
    pub fn events(&self) -> impl ExactSizeIterator<Item = &(TimeSpan, Event)> {
        self.events.iter()
    }

    /// The JSON lines of the record as it is at `now`.
    #[must_use]
    pub fn to_json_lines(&self, now: TimeSpan) -> String {
        let header = json!({
            "version": FLIGHT_RECORD_VERSION,
            "written_at_seconds": now.as_seconds(),
            "capacity": self.capacity,
            "counts": self.counts,
        });
        let mut lines = format!("{header}\n");
        for (time, event) in &self.events {
            let mut line = json_event(event);
            line["seconds"] = time.as_seconds().into();
            lines.push_str(&line.to_string());
            lines.push('\n');
        }
        lines
    }

    /// Replaces the file at `path` by [`to_json_lines`](Self::to_json_lines).
    ///
    /// # Errors
    /// If the file cannot be written whole; nothing else has changed then.
    pub fn write(&self, path: &Path, now: TimeSpan) -> Result<(), FlightRecordError> {
        whole_file::write(path, self.to_json_lines(now).as_bytes())
            .map_err(|source| FlightRecordError { path: path.to_path_buf(), source })
    }
}

fn json_event(event: &Event) -> Value {
    match event {
        Event::Sensors(reading) => json!({
            "event": "sensors",
            "temperature_celsius": json_measurement(reading.temperature, |value| celsius(value).into()),
            "power_watts": json_measurement(reading.power, |value| value.as_watts().into()),
            "throttled": json_measurement(reading.throttled, Value::from),
            "over_current_per_second": json_measurement(reading.over_current, |rates| {
                json!({ "sustained": rates.sustained, "instantaneous": rates.instantaneous })
            }),
            "charge": json_measurement(reading.charge, |charge| charge.fraction().into()),
        }),
        Event::Decision(decision) => json!({
            "event": "decision",
            "rung": decision.rung,
            "pace_milliseconds": milliseconds(decision.pace),
            "binding": decision.binding.name(),
            "mode": decision.mode.name(),
            "decider": decision.decider.name(),
            "slowdown_mean": decision.slowdown.mean,
            "slowdown_standard_deviation": decision.slowdown.standard_deviation,
            "power_budget_watts": decision.power_budget.map(headroom_shared::Power::as_watts),
        }),
        Event::Switch { from, to } => json!({ "event": "switch", "from": from, "to": to }),
        Event::Miss { sample, deadline } => json!({
            "event": "miss",
            "rung": sample.rung,
            "latency_milliseconds": milliseconds(sample.latency),
            "deadline_milliseconds": milliseconds(*deadline),
        }),
        Event::Mode { from, to } => json!({ "event": "mode", "from": from.name(), "to": to.name() }),
        Event::Reload { what, accepted } => {
            let what = match what {
                Reloaded::Limits => "limits",
                Reloaded::Bundle => "bundle",
            };
            json!({ "event": "reload", "what": what, "accepted": accepted })
        }
        Event::Supervisor { link } => json!({ "event": "supervisor", "link": link }),
    }
}

/// `{"measured": ..}`, `{"projected": .., "age_seconds": ..}` or `{"missing": "why"}`.
fn json_measurement<T>(measurement: Measurement<T>, json: impl Fn(T) -> Value) -> Value {
    match measurement {
        Measurement::Measured(value) => json!({ "measured": json(value) }),
        Measurement::Projected { value, age } => json!({ "projected": json(value), "age_seconds": age.as_seconds() }),
        Measurement::Missing(reason) => json!({ "missing": reason.to_string() }),
    }
}

fn celsius(temperature: Temperature) -> f64 {
    f64::from(temperature.as_millidegrees()) / 1e3
}

fn milliseconds(span: TimeSpan) -> f64 {
    span.as_seconds() * 1e3
}

#[cfg(test)]
mod tests {
    use headroom_shared::Power;
    use proptest::prelude::*;

    use super::*;
    use crate::governor::{Binding, Decider, Slowdown};
    use crate::reading::Missing;

    fn at(seconds: u64) -> TimeSpan {
        TimeSpan::from_nanoseconds(seconds * 1_000_000_000)
    }

    fn one_of_each() -> [Event; 7] {
        let sensors = SensorReading {
            temperature: Measurement::Measured(Temperature::from_millidegrees(71_500)),
            power: Measurement::Projected { value: Power::from_milliwatts(9_500), age: at(2) },
            throttled: Measurement::Missing(Missing::Denied),
            ..SensorReading::ABSENT
        };
        let decision = Decision {
            rung: 4,
            pace: at(0),
            binding: Binding::LostSensor,
            mode: Mode::Safe,
            slowdown: Slowdown { mean: 1.25, standard_deviation: f32::NAN },
            power_budget: None,
            decider: Decider::Supervisor,
        };
        [
            Event::Sensors(sensors),
            Event::Decision(decision),
            Event::Switch { from: 0, to: 4 },
            Event::Miss { sample: InferenceSample { rung: 4, latency: at(1) }, deadline: at(0) },
            Event::Mode { from: Mode::Normal, to: Mode::Safe },
            Event::Reload { what: Reloaded::Bundle, accepted: false },
            Event::Supervisor { link: "silent" },
        ]
    }

    fn full_record() -> FlightRecord {
        let mut record = FlightRecord::new(16);
        for (second, event) in (0..).zip(one_of_each()) {
            record.record(at(second), event);
        }
        record
    }

    #[test]
    fn every_line_is_json_and_says_what_was_measured() {
        let text = full_record().to_json_lines(at(9));
        let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert_eq!(lines.len(), 8);
        assert_eq!(lines[0]["written_at_seconds"], 9.0);
        for kind in ["sensors", "decisions", "switches", "misses", "modes", "reloads", "supervisor"] {
            assert_eq!(lines[0]["counts"][kind], 1, "{kind}");
        }
        let sensors = &lines[1];
        assert_eq!(sensors["temperature_celsius"]["measured"], 71.5);
        assert_eq!(sensors["power_watts"], json!({ "projected": 9.5, "age_seconds": 2.0 }));
        assert_eq!(sensors["throttled"]["missing"], "no permission");
        assert_eq!(lines[2]["binding"], "lost_sensor");
        assert_eq!(lines[2]["decider"], "supervisor");
        // JSON has no NaN; it must not make the line unreadable.
        assert_eq!(lines[2]["slowdown_standard_deviation"], Value::Null);
        assert_eq!(lines[4]["latency_milliseconds"], 1000.0);
        assert_eq!(lines[6], json!({ "event": "reload", "what": "bundle", "accepted": false, "seconds": 5.0 }));
        assert_eq!(lines[7], json!({ "event": "supervisor", "link": "silent", "seconds": 6.0 }));
    }

    #[test]
    fn a_file_is_replaced_and_a_failure_leaves_the_old_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flight.jsonl");
        FlightRecord::new(3).write(&path, at(1)).unwrap();
        full_record().write(&path, at(2)).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), full_record().to_json_lines(at(2)));
        // Nobody, not even root, can make a file there.
        let error = full_record().write(Path::new("/proc/headroom.jsonl"), at(3)).unwrap_err();
        assert!(error.to_string().contains("/proc/headroom.jsonl"));
    }

    /// A limit on file sizes fails writes half-way, as a full disk does. It is
    /// one of the whole process, so this test runs itself again in another.
    #[test]
    fn a_full_disk_is_an_error_and_leaves_the_old_file() {
        const FOLDER: &str = "HEADROOM_TEST_FULL_DISK";
        let mut large = FlightRecord::new(100_000);
        (0..20_000).for_each(|second| large.record(at(second), Event::Switch { from: 0, to: 1 }));
        if let Some(folder) = std::env::var_os(FOLDER) {
            let path = Path::new(&folder).join("flight.jsonl");
            let error = large.write(&path, at(1)).expect_err("the limit is below the record's size");
            assert!(large.events().len() == 20_000, "{error}");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("flight.jsonl");
        full_record().write(&path, at(1)).unwrap();
        let before = std::fs::read(&path).unwrap();
        let mut again = std::process::Command::new("bash");
        again.args(["-c", "trap '' XFSZ; ulimit -f 100; exec \"$@\"", "bash"]).arg(std::env::current_exe().unwrap());
        again.args(["--exact", "flight_record::tests::a_full_disk_is_an_error_and_leaves_the_old_file"]);
        let output = again.env(FOLDER, folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "something was left behind");
    }

    proptest! {
        #[test]
        fn the_last_events_are_kept_and_all_are_counted(kinds in prop::collection::vec(0usize..7, 0..200), capacity in 0usize..40) {
            let mut record = FlightRecord::new(capacity);
            for (second, kind) in (0..).zip(&kinds) {
                record.record(at(second), one_of_each()[*kind]);
            }
            let expected = kinds.len().min(capacity.max(1));
            let times: Vec<_> = record.events().map(|(time, _)| *time).collect();
            let first = (kinds.len() - expected) as u64;
            prop_assert_eq!(times, (first..kinds.len() as u64).map(at).collect::<Vec<_>>());
            let counts = record.counts();
            let total = counts.sensors + counts.decisions + counts.switches + counts.misses + counts.modes + counts.reloads
                + counts.supervisor;
            prop_assert_eq!(total, kinds.len() as u64);
            prop_assert_eq!(record.to_json_lines(at(1)).lines().count(), expected + 1);
        }
    }
}
