//! `--probe`: what this machine tells about heat, power, clocks and batteries.

use std::fmt::Write as _;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use headroom_shared::{BoardProfile, Frequency, Power, Temperature, TimeSpan, board_file};
use serde::Serialize;

use super::{Arguments, RunError, trust};
use crate::reading::{Measurement, SensorReading};
use crate::sources::{OverCurrentKind, PowerSupply, Sensors, SupplyKind, TotalRule, Trip, TripEffect, Unmet, Zone};

/// The version of the JSON report. A field is only ever added within a version.
const PROBE_VERSION: u32 = 1;

/// Between two passes, since a rate needs two; the over-current counters are refreshed every 2 s.
const RATE_SPAN: Duration = Duration::from_millis(2100);

/// Everything that was found and that was not.
#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    root: PathBuf,
    /// The board of the profile that says what counts.
    profile: Option<String>,
    power_mode: Option<String>,
    /// The time of a pass that reads everything.
    pass_milliseconds: f64,
    /// What the governor is told.
    reading: Vec<Row>,
    found: Vec<Row>,
    missing: Vec<Gap>,
}

/// A quantity.
#[derive(Debug, Serialize)]
struct Row {
    kind: &'static str,
    name: String,
    #[serde(flatten)]
    value: Value,
    /// What it would limit, in words.
    limits: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<PathBuf>,
}

/// A measurement for people and programs.
#[derive(Debug, Serialize)]
struct Value {
    /// `measured`, `projected` or `missing`.
    state: &'static str,
    value: Option<f64>,
    unit: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_milliseconds: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Something that was looked for.
#[derive(Debug, Serialize)]
struct Gap {
    kind: &'static str,
    looked_for: String,
    reason: String,
}

/// Looks for sensors, with the profile of the bundle where there is one.
pub(super) fn run(arguments: &Arguments) -> Result<(), RunError> {
    let root = arguments.root.as_path();
    if !root.join("sys").is_dir() {
        return Err(RunError::NoSensorRoot { path: root.to_path_buf() });
    }
    let profile = arguments.bundle.as_deref().map(|bundle| profile(arguments, bundle)).transpose()?;
    let mut sensors = Sensors::discover(root, profile.as_ref());
    let start = Instant::now();
    let now = || TimeSpan::from(start.elapsed());
    let mut reading = sensors.read_everything(now());
    if !(sensors.over_current_counters().is_empty() && sensors.energy_counters().is_empty()) {
        std::thread::sleep(RATE_SPAN);
    }
    // The pass before may have looked for something again, which is no part of a usual pass.
    let mut pass = Duration::MAX;
    for _ in 0..2 {
        let before = start.elapsed();
        reading = sensors.read_everything(now());
        pass = pass.min(start.elapsed() - before);
    }
    let report = Report {
        version: PROBE_VERSION,
        root: root.to_path_buf(),
        profile: profile.as_ref().map(|profile| profile.name.to_string()),
        power_mode: power_mode(&sensors),
        pass_milliseconds: pass.as_secs_f64() * 1e3,
        reading: reading_rows(&sensors, &reading),
        found: found(&sensors),
        missing: gaps(root, &sensors),
    };
    let mut out = std::io::stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        out.write_all(text(&report).as_bytes())?;
    }
    Ok(())
}

fn profile(arguments: &Arguments, bundle: &Path) -> Result<BoardProfile, RunError> {
    let refuse = |source| RunError::Bundle { path: bundle.to_path_buf(), source };
    let bundle = trust::open(bundle, trust::policy(arguments)?.as_ref()).map_err(refuse)?;
    board_file::parse(bundle.board()).map_err(|error| refuse(crate::bundle::BundleError::Board(error.into())))
}

fn power_mode(sensors: &Sensors) -> Option<String> {
    let mode = sensors.power_mode();
    let id = mode.id().value()?;
    Some(format!("{} (id {id})", mode.name().unwrap_or("of unknown name")))
}

fn value<T: Copy>(measurement: Measurement<T>, unit: &'static str, number: impl Fn(T) -> f64) -> Value {
    let (state, reason, age_milliseconds) = match measurement {
        Measurement::Measured(_) => ("measured", None, None),
        Measurement::Projected { age, .. } => ("projected", None, Some(age.as_seconds() * 1e3)),
        Measurement::Missing(reason) => ("missing", Some(reason.to_string()), None),
    };
    // No sensor is finer than a thousandth of its unit.
    let rounded = |value| (number(value) * 1e3).round() / 1e3;
    Value { state, value: measurement.value().map(rounded), unit, age_milliseconds, reason }
}

fn degrees(temperature: Temperature) -> f64 {
    f64::from(temperature.as_millidegrees()) / 1e3
}

fn megahertz(frequency: Frequency) -> f64 {
    frequency.as_hertz() as f64 / 1e6
}

/// What the governor is told.
fn reading_rows(sensors: &Sensors, reading: &SensorReading) -> Vec<Row> {
    let total = match sensors.total_rule() {
        TotalRule::ProfileRails => "rails of the profile",
        TotalRule::Platform => "energy counter of the platform",
        TotalRule::Batteries => "what the batteries give",
        TotalRule::Packages => "processor packages only: less than the whole machine",
        TotalRule::None => "nothing stands for the whole board",
    };
    let temperature = sensors.temperature_limits().map_or_else(
        || "no limits known".to_owned(),
        |limits| {
            let [target, passive, critical] = [limits.target, limits.passive, limits.critical].map(degrees);
            format!("target {target} °C, clocks are cut at {passive} °C, shutdown at {critical} °C")
        },
    );
    let (oc, per_second) = (reading.over_current, "/s");
    let row = |name: &str, value, limits: String| Row { kind: "reading", name: name.into(), value, limits, path: None };
    vec![
        row("temperature", value(reading.temperature, "°C", degrees), temperature),
        row("power", value(reading.power, "W", Power::as_watts), total.to_owned()),
        row("throttled", value(reading.throttled, "", |cut| f64::from(u8::from(cut))), String::new()),
        row("over-current, sustained", value(oc, per_second, |rates| rates.sustained.into()), String::new()),
        row("over-current, instantaneous", value(oc, per_second, |rates| rates.instantaneous.into()), String::new()),
        row("charge", value(reading.charge, "%", |charge| f64::from(charge.fraction()) * 100.0), String::new()),
    ]
}

/// Everything that was found, with what it would limit.
fn found(sensors: &Sensors) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |kind, name: &str, value, limits: String, folder: &Path| {
        rows.push(Row { kind, name: name.to_owned(), value, limits, path: Some(folder.to_path_buf()) });
    };
    for zone in sensors.zones() {
        row("thermal zone", &zone.name, value(zone.temperature(), "°C", degrees), zone_limits(zone), &zone.folder);
    }
    for chip in sensors.chip_temperatures() {
        let limits = [("maximum", chip.maximum), ("critical", chip.critical)];
        let limits: Vec<_> =
            limits.iter().filter_map(|(what, at)| Some(format!("{what} {} °C", degrees((*at)?)))).collect();
        let limits = if chip.counts { format!("temperature: {}", limits.join(", ")) } else { "nothing".into() };
        row("chip temperature", &chip.name, value(chip.temperature(), "°C", degrees), limits, &chip.folder);
    }
    for device in sensors.cooling_devices() {
        let limits = if device.cuts_clocks { "tells that clocks are cut" } else { "nothing" };
        row("cooling device", &device.name, value(device.state(), "", f64::from), limits.into(), &device.folder);
    }
    for rail in sensors.rails() {
        let mut limits = String::from(match sensors.profile() {
            _ if rail.in_total => "power: part of the total",
            Some(_) => "nothing",
            None => "nothing: no profile names the total",
        });
        for (what, current) in [("warns", rail.warning_milliamperes), ("critical", rail.critical_milliamperes)] {
            if let Some(current) = current {
                let _ = write!(limits, ", {what} at {} A", f64::from(current) / 1e3);
            }
        }
        row("power rail", &rail.label, value(rail.power(), "W", Power::as_watts), limits, &rail.folder);
    }
    for counter in sensors.energy_counters() {
        let limits = match sensors.profile() {
            None if counter.is_in_total() => "power, unless something better is known",
            _ => "nothing",
        };
        let power = value(counter.power(), "W", Power::as_watts);
        row("energy counter", &counter.name, power, limits.into(), &counter.folder);
    }
    for counter in sensors.over_current_counters() {
        let cause = match counter.kind {
            OverCurrentKind::UnderVoltage => "under-voltage",
            OverCurrentKind::AveragePower => "average power",
            OverCurrentKind::InstantaneousPower => "instantaneous power",
        };
        let limits =
            if counter.throttles { format!("over-current: {cause}") } else { format!("nothing: {cause}, off") };
        row("over-current counter", &counter.name, value(counter.rate(), "/s", f64::from), limits, &counter.folder);
    }
    for gpu in sensors.gpus() {
        let mut limits = clock_limits(gpu.cap(), gpu.maximum);
        if let Some(tpcs) = gpu.tpcs {
            let _ = write!(limits, ", {tpcs} TPCs on");
        }
        row("GPU clock", &gpu.name, value(gpu.frequency(), "MHz", megahertz), limits, &gpu.folder);
        let load = value(gpu.load(), "%", |load| f64::from(load) / 10.0);
        row("GPU load", &gpu.name, load, "nothing".into(), &gpu.folder);
    }
    for clock in sensors.cpu_clocks() {
        let limits = clock_limits(clock.cap(), clock.maximum);
        row("CPU clock", &clock.name, value(clock.frequency(), "MHz", megahertz), limits, &clock.folder);
        let counted = "tells half-clock throttling".into();
        row("CPU clock, counted", &clock.name, value(clock.measured(), "MHz", megahertz), counted, &clock.folder);
    }
    for supply in sensors.power_supplies() {
        let power = value(supply.power(), "W", Power::as_watts);
        if supply.kind == SupplyKind::Battery {
            let charge = value(supply.charge(), "%", |charge| f64::from(charge.fraction()) * 100.0);
            row("battery", &supply.name, charge, battery_limits(supply).into(), &supply.folder);
            row("battery power", &supply.name, power, "nothing".into(), &supply.folder);
        } else {
            row("charger", &supply.name, power, "nothing".into(), &supply.folder);
        }
    }
    rows
}

fn battery_limits(supply: &PowerSupply) -> &'static str {
    if supply.is_battery() { "charge" } else { "nothing: not the board's" }
}

fn zone_limits(zone: &Zone) -> String {
    if !zone.counts {
        return "nothing".into();
    }
    let of = |trip: &Trip| {
        let effect = match trip.effect {
            TripEffect::CutsClocks => "cuts clocks",
            TripEffect::ShutsDown => "shuts down",
            TripEffect::Unknown => "may cut clocks",
            TripEffect::Nothing => return None,
        };
        Some(format!("{effect} at {} °C", degrees(trip.temperature)))
    };
    let trips: Vec<String> = zone.trips.iter().filter_map(of).collect();
    if trips.is_empty() { "temperature".into() } else { format!("temperature: {}", trips.join(", ")) }
}

fn clock_limits(cap: Measurement<Frequency>, maximum: Option<Frequency>) -> String {
    match (cap.value(), maximum) {
        (Some(cap), Some(maximum)) => format!("speed: capped at {cap:.0} of {maximum:.0}"),
        (Some(cap), None) => format!("speed: capped at {cap:.0}"),
        (None, _) => "speed".into(),
    }
}

/// What was looked for in vain: kinds of which there is nothing, and what the profile expects.
fn gaps(root: &Path, sensors: &Sensors) -> Vec<Gap> {
    let kinds = [
        ("thermal zone", "sys/class/thermal", sensors.zones().is_empty()),
        ("cooling device", "sys/class/thermal", sensors.cooling_devices().is_empty()),
        ("chip temperature", "sys/class/hwmon", sensors.chip_temperatures().is_empty()),
        ("power rail", "sys/class/hwmon", sensors.rails().is_empty()),
        ("over-current counter", "sys/class/hwmon", sensors.over_current_counters().is_empty()),
        ("energy counter", "sys/class/powercap", sensors.energy_counters().is_empty()),
        ("GPU clock", "sys/class/devfreq", sensors.gpus().is_empty()),
        ("CPU clock", "sys/devices/system/cpu/cpufreq", sensors.cpu_clocks().is_empty()),
        ("battery or charger", "sys/class/power_supply", sensors.power_supplies().is_empty()),
        ("power mode", "var/lib/nvpmodel", sensors.power_mode().id().value().is_none()),
    ];
    let mut gaps: Vec<Gap> = kinds
        .into_iter()
        .filter(|(.., is_empty)| *is_empty)
        .map(|(kind, folder, _)| {
            let folder = root.join(folder);
            let reason = match std::fs::read_dir(&folder) {
                Ok(_) => "none there".to_owned(),
                Err(error) if error.kind() == ErrorKind::NotFound => "no such folder".to_owned(),
                Err(error) if error.kind() == ErrorKind::PermissionDenied => "no permission".to_owned(),
                Err(error) => error.to_string(),
            };
            Gap { kind, looked_for: folder.display().to_string(), reason }
        })
        .collect();
    gaps.extend(sensors.unmet().into_iter().map(|unmet| {
        let (kind, looked_for) = match unmet {
            Unmet::Zone(stem) => ("thermal zone", stem),
            Unmet::Rail(label) => ("power rail", label),
        };
        Gap { kind, looked_for, reason: "the profile has it, this machine does not".into() }
    }));
    gaps
}

/// The report for people.
fn text(report: &Report) -> String {
    let mut text = format!("sensors under {}", report.root.display());
    match &report.profile {
        Some(board) => _ = writeln!(text, ", with the profile of {board}"),
        None => text += ", without a board profile (--bundle DIR brings one)\n",
    }
    if let Some(mode) = &report.power_mode {
        let _ = writeln!(text, "power mode {mode}");
    }
    let _ = writeln!(text, "a pass over everything takes {:.3} ms", report.pass_milliseconds);
    text += "\nthe governor is told\n";
    table(&mut text, report.reading.iter().map(|row| vec![row.name.clone(), shown(&row.value), row.limits.clone()]));
    text += "\nfound: kind, name, value, what it limits, where\n";
    table(
        &mut text,
        report.found.iter().map(|row| {
            let path = row.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
            vec![row.kind.to_owned(), row.name.clone(), shown(&row.value), row.limits.clone(), path]
        }),
    );
    text += "\nnot found: kind, looked for, reason\n";
    table(
        &mut text,
        report.missing.iter().map(|gap| vec![gap.kind.to_owned(), gap.looked_for.clone(), gap.reason.clone()]),
    );
    text
}

fn shown(value: &Value) -> String {
    match (value.value, &value.reason) {
        (_, Some(reason)) => format!("missing: {reason}"),
        (Some(number), _) => {
            let mut text = format!("{number:.3}").trim_end_matches('0').trim_end_matches('.').to_owned();
            if !value.unit.is_empty() {
                let _ = write!(text, " {}", value.unit);
            }
            if let Some(age) = value.age_milliseconds {
                let _ = write!(text, " ({:.1} s ago)", age / 1e3);
            }
            text
        }
        (None, None) => String::new(),
    }
}

/// Rows of equally many cells, the columns as wide as they need.
fn table(text: &mut String, rows: impl Iterator<Item = Vec<String>>) {
    let rows: Vec<Vec<String>> = rows.collect();
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for row in &rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            let _ = write!(line, "  {cell:width$}");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
}
