//! The machine that serves: its sensors, its temperatures, and whether it is the board that a bundle was made for.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use headroom_shared::{BoardProfile, Power, Rung, TimeSpan, board_file};

use crate::bundle::Bundle;
use crate::governor::{Governor, GovernorError, Inputs, Limits, RungProfile, TemperatureLimits};
use crate::lock::lock;
use crate::measured_profile::{self, Found, rung_profiles};
use crate::reading::SensorReading;
use crate::rung_engine::{RungEngine, RungEngineError};
use crate::runtime::profile;
use crate::sources::Sensors;

/// What a machine of which nothing is known is taken to draw while it infers. It stands for all rungs, so that heat
/// depends on how long they run; the governor corrects it by the power that is measured.
const NOMINAL: Power = Power::from_milliwatts(10_000);

/// What is known about the machine.
pub(super) struct Machine {
    /// The parent of `sys`.
    root: PathBuf,
    /// Where bundles are, beside which calibrations are.
    bundle: PathBuf,
    /// Where calibrations are instead.
    calibrations: Option<PathBuf>,
    /// That share an inference.
    threads: usize,
    sensors: Mutex<Sensors>,
    last_reading: Mutex<Option<SensorReading>>,
    /// The hash and the profile of the bundle that was profiled last.
    profiled: Mutex<Option<(String, Vec<RungProfile>)>>,
    knows_energy: AtomicBool,
}

impl Machine {
    /// Looks for sensors below `root`, for a bundle at the path `bundle`, calibrated beside it or in `calibrations`, and
    /// inferences that `threads` threads share.
    pub(super) fn new(root: PathBuf, bundle: PathBuf, calibrations: Option<PathBuf>, threads: usize) -> Self {
        let sensors = Mutex::new(Sensors::discover(&root, None));
        Self {
            root,
            bundle,
            calibrations,
            threads,
            sensors,
            last_reading: Mutex::default(),
            profiled: Mutex::default(),
            knows_energy: AtomicBool::new(false),
        }
    }

    /// Reads the sensors.
    pub(super) fn read(&self, now: TimeSpan) -> SensorReading {
        let reading = self.with_sensors(|sensors| sensors.read(now));
        *lock(&self.last_reading) = Some(reading);
        reading
    }

    /// Whether the energies of the bundle that was profiled last are more than a guess.
    pub(super) fn knows_energy(&self) -> bool {
        self.knows_energy.load(Ordering::Relaxed)
    }

    /// The temperatures to stay below, where anything tells them.
    pub(super) fn temperature_limits(&self) -> Option<TemperatureLimits> {
        self.with_sensors(|sensors| sensors.temperature_limits())
    }

    /// Whether this is the board that `bundle` was made for. If so, the sensors are from now on those that the board's
    /// profile names.
    fn recognise(&self, bundle: &Bundle) -> bool {
        // The bundle was opened, so that its profile can be read.
        let board = board_file::parse(bundle.board()).ok();
        let sensors = board.as_ref().and_then(|board| self.sensors_of(board));
        let is_its_board = sensors.is_some();
        if let Some(found) = sensors {
            self.with_sensors(|sensors| *sensors = found);
        }
        is_its_board
    }

    /// What each rung of a bundle costs here: as it was calibrated in this state of this machine, or else timed now, or
    /// a moment ago. On another board than the bundle's, nothing of the predicted figures is used: without a
    /// calibration, all rungs draw [`NOMINAL`] power then.
    pub(super) fn profile(&self, engine: &RungEngine) -> Result<Vec<RungProfile>, RungEngineError> {
        let bundle = engine.bundle();
        if let Some((_, profile)) = lock(&self.profiled).as_ref().filter(|(hash, _)| hash == bundle.hash()) {
            return Ok(profile.clone());
        }
        let is_its_board = self.recognise(bundle);
        if !is_its_board {
            anstream::eprintln!(
                "warning: the bundle is for {}, and this machine does not have that board's sensors: its figures are not used",
                bundle.manifest().target
            );
        }
        let calibrated = self.calibrated(engine);
        let has_energy =
            calibrated.as_ref().is_some_and(|rungs| rungs.iter().all(|rung| rung.measured_energy.is_some()));
        let mut profile = match calibrated {
            Some(rungs) => rung_profiles(&rungs),
            None => profile::timed(engine, self.threads, profile::TIMING)?,
        };
        if let (Some(dense), Some(smallest)) = (profile.first(), profile.last()) {
            let (dense, smallest) = (dense.latency, smallest.latency);
            anstream::eprintln!("rungs take {dense:.3} (dense) to {smallest:.3} (smallest) on this machine");
        }
        self.knows_energy.store(is_its_board || has_energy, Ordering::Relaxed);
        if !is_its_board && !has_energy {
            profile.iter_mut().for_each(|rung| rung.energy = NOMINAL.during(rung.latency));
        }
        *lock(&self.profiled) = Some((bundle.hash().to_owned(), profile.clone()));
        Ok(profile)
    }

    /// A governor that knows the board's idle power, and that a limit without its sensor cannot be kept.
    pub(super) fn governor(&self, profile: &[RungProfile], limits: Limits) -> Result<Governor, GovernorError> {
        let last = *lock(&self.last_reading);
        let reading = last.unwrap_or_else(|| self.read(TimeSpan::from_nanoseconds(0)));
        let governor = Governor::new(profile, limits)?.with_inputs(Inputs::of(&reading))?;
        Ok(match self.idle_power() {
            Some(idle) => governor.with_idle_power(idle),
            None => governor,
        })
    }

    /// What the board draws while nothing runs, where its profile says it.
    pub(super) fn idle_power(&self) -> Option<Power> {
        self.with_sensors(|sensors| sensors.profile().map(|board| board.power.idle.value))
    }

    /// The ladder with what `--calibrate` measured of it in this state of this machine, if it did.
    fn calibrated<'a>(&self, engine: &'a RungEngine) -> Option<Vec<Rung<'a>>> {
        let bundle = engine.bundle();
        let unused = |error: &dyn Error| anstream::eprintln!("warning: the calibration is not used: {error}");
        let beside = || measured_profile::default_path(&self.bundle);
        let path = self.calibrations.clone().unwrap_or_else(beside);
        let found = Found::on_this_machine(&path, &self.root, engine.execution(self.threads), bundle.hash());
        match found.inspect_err(|error| unused(error)).ok()? {
            Found::Profile(profile) => {
                let rungs = profile.overlay(bundle.structure_map().rungs()).inspect_err(|error| unused(error)).ok()?;
                anstream::eprintln!("rungs are as calibrated for {}", profile.key);
                Some(rungs)
            }
            Found::OnlyOthers { what, found, expected } => {
                anstream::eprintln!("a calibration of another {what} ({found}, here {expected}) is not used");
                None
            }
            Found::Nothing => None,
        }
    }

    /// The sensors that `board` names, if they are here: each rail of its total power, and a zone.
    fn sensors_of(&self, board: &BoardProfile) -> Option<Sensors> {
        let sensors = Sensors::discover(&self.root, Some(board));
        let mut rails = board.rails.iter().filter(|rail| rail.in_total);
        let has_rails = rails.all(|wanted| sensors.rails().iter().any(|rail| rail.label == wanted.label.as_str()));
        (has_rails && sensors.zones().iter().any(|zone| zone.counts)).then_some(sensors)
    }

    fn with_sensors<T>(&self, read: impl FnOnce(&mut Sensors) -> T) -> T {
        read(&mut lock(&self.sensors))
    }
}
