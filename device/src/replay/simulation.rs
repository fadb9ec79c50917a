//! Runs a policy through a scenario in virtual time.

use headroom_shared::{Power, TimeSpan};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::metrics::{Counter, Metrics, Moment, STEADY_AFTER_SECONDS};
use super::scenario::{Change, LimitsModel, Scenario};
use super::{LadderModel, SimulatedRung, oracle};
use crate::governor::{Binding, Decision, Governor, GovernorError, Limits, Mode, State};
use crate::plant::{Environment, Fault, Plant, Sensors};
use crate::reading::{InferenceSample, Reading};

/// Where the caller's clock begins, so that it can be set back.
const CLOCK_START: u64 = 10_000_000_000_000;
/// How many times longer an odd inference takes.
const ODD_LATENCY: f64 = 5.0;

/// Who chooses the rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    Governor,
    /// See [`oracle`].
    Oracle,
    /// Always the same rung, with no pause.
    Fixed(usize),
}

/// A finished run.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    pub metrics: Metrics,
    pub history: Vec<Moment>,
    /// Decisions of the governor by the limit that bound, in the order of [`Binding::ALL`].
    pub bindings: [u64; Binding::ALL.len()],
    /// Seconds in safe and in emergency mode.
    pub safe_seconds: f64,
    pub emergency_seconds: f64,
}

/// A scenario that is being run.
pub struct Simulation<'a> {
    scenario: &'a Scenario,
    policy: Policy,
    plant: Plant,
    sensors: Sensors,
    rungs: Vec<SimulatedRung>,
    limits: Limits,
    governor: Governor,
    state: State,
    decision: Option<Decision>,
    frames_per_second: Option<f64>,
    fault: Fault,
    odd_latencies: f64,
    clock_offset: i64,
    next_event: usize,
    last_event: f64,
    next_pass: f64,
    next_frame: f64,
    sensor_noise: ChaCha8Rng,
    latency_noise: ChaCha8Rng,
    counter: Counter,
    second: Moment,
    second_joules: f64,
    run: Run,
    keep_history: bool,
    observer: Box<Observer<'a>>,
}

/// Is shown every decision of the governor, with the board at that moment.
pub type Observer<'a> = dyn FnMut(&Plant, &Governor, &Decision) + 'a;

impl<'a> Simulation<'a> {
    /// # Errors
    /// If the governor refuses the scenario's limits or ladder.
    pub fn new(scenario: &'a Scenario, policy: Policy) -> Result<Self, GovernorError> {
        let mut environment = Environment::default();
        scenario.start.apply(&mut environment);
        let rungs = scenario.ladder.rungs(scenario.board.idle_watts);
        let limits = scenario.start.limits.unwrap_or(scenario.limits).limits(&scenario.board);
        let governor = governor(&rungs, limits, scenario.board.idle_watts)?;
        let random = |stream: u64| ChaCha8Rng::seed_from_u64(scenario.seed.wrapping_mul(2).wrapping_add(stream));
        let run = Run {
            metrics: Metrics::default(),
            history: Vec::new(),
            bindings: [0; Binding::ALL.len()],
            safe_seconds: 0.0,
            emergency_seconds: 0.0,
        };
        Ok(Self {
            scenario,
            policy,
            plant: Plant::settled(
                scenario.board,
                environment,
                scenario.watts_before.unwrap_or(scenario.board.idle_watts),
            ),
            sensors: Sensors::default(),
            rungs,
            limits,
            state: governor.start(),
            governor,
            decision: None,
            frames_per_second: scenario.start.frames_per_second.or(scenario.frames_per_second),
            fault: scenario.start.fault.unwrap_or_default(),
            odd_latencies: scenario.start.odd_latencies.unwrap_or(0.0),
            clock_offset: 0,
            next_event: 0,
            last_event: 0.0,
            next_pass: 0.0,
            next_frame: 0.0,
            sensor_noise: random(0),
            latency_noise: random(1),
            counter: Counter::default(),
            second: Moment::default(),
            second_joules: 0.0,
            run,
            keep_history: true,
            observer: Box::new(|_, _, _| {}),
        })
    }

    /// Shows every decision of the governor to `observer`.
    #[must_use]
    pub fn observed(mut self, observer: impl FnMut(&Plant, &Governor, &Decision) + 'a) -> Self {
        self.observer = Box::new(observer);
        self
    }

    /// Keeps no history: for many short runs.
    #[must_use]
    pub fn without_history(mut self) -> Self {
        self.keep_history = false;
        self
    }

    /// Runs to the end, or to the shutdown of the board.
    ///
    /// # Errors
    /// If the governor refuses what an event changes.
    pub fn run(mut self) -> Result<Run, GovernorError> {
        self.advance(0.0, 0.0)?;
        let mut last_start = f64::NEG_INFINITY;
        while self.time() < self.scenario.seconds && !self.plant.is_shut_down() {
            let noise = self.latency_factor();
            let start = self.wait_for_work(last_start, noise)?;
            let Some((rung, _)) = start.filter(|_| self.time() < self.scenario.seconds) else { break };
            last_start = self.time();
            self.infer(rung, noise)?;
        }
        let seconds = self.time().max(1e-9);
        self.counter.metrics.shut_down = self.plant.is_shut_down();
        self.run.metrics = self.counter.finish(seconds);
        Ok(self.run)
    }

    /// Waits for a frame and for the pause to end; returns the rung for it. `None` at the end of the scenario.
    fn wait_for_work(&mut self, last_start: f64, noise: f64) -> Result<Option<(usize, f64)>, GovernorError> {
        loop {
            if self.time() >= self.scenario.seconds || self.plant.is_shut_down() {
                return Ok(None);
            }
            let (rung, pace) = self.choice(noise);
            let mut ready = (last_start + pace).max(self.time());
            if let Some(rate) = self.frames_per_second {
                // The newest frame wins: those that came before it while nobody looked are dropped.
                if self.next_frame <= ready {
                    let waiting = ((ready - self.next_frame) * rate + 1e-9).floor();
                    self.counter.metrics.frames += waiting as u64;
                    self.counter.dropped(self.time(), waiting as u64, self.limits.deadline.is_some());
                    self.next_frame += waiting / rate;
                }
                ready = ready.max(self.next_frame);
            }
            if ready <= self.time() {
                if let Some(rate) = self.frames_per_second {
                    self.next_frame += 1.0 / rate;
                    self.counter.metrics.frames += 1;
                }
                return Ok(Some((rung, pace)));
            }
            // A pass over the sensors may change the pause meanwhile.
            let until = ready.min(self.next_pass).max(self.time() + 1e-6);
            self.advance(until - self.time(), 0.0)?;
        }
    }

    fn infer(&mut self, rung: usize, noise: f64) -> Result<(), GovernorError> {
        let (work, fidelity) = (self.rungs[rung].work, f64::from(self.rungs[rung].profile.fidelity));
        let seconds = self.plant.latency(&work) * noise;
        self.advance(seconds, self.plant.joules(&work) / seconds)?;
        let steady = self.is_steady();
        let deadline = self.limits.deadline.map(|deadline| deadline.latency.as_seconds());
        self.counter.inference(self.time(), seconds, deadline, rung, fidelity, steady);
        self.second.milliseconds = self.second.milliseconds.max(seconds * 1e3);
        self.second.rung = rung;
        // A rung of the bundle before a swap is none of this ladder.
        let latency = TimeSpan::from_seconds(seconds).unwrap_or_default();
        let inference = Some(InferenceSample { rung: rung as u8, latency });
        self.step(&Reading { inference, sensors: None });
        Ok(())
    }

    fn choice(&mut self, noise: f64) -> (usize, f64) {
        let last = self.rungs.len() - 1;
        match self.policy {
            Policy::Fixed(rung) => (rung.min(last), 0.0),
            Policy::Oracle => {
                let choice = oracle::choose(&self.plant, &self.rungs, &self.limits, self.frames_per_second, noise);
                (choice.rung, choice.pace)
            }
            Policy::Governor => {
                if self.decision.is_none() {
                    self.step(&Reading::default());
                }
                self.decision.map_or((last, 0.0), |decision| (usize::from(decision.rung), decision.pace.as_seconds()))
            }
        }
    }

    fn step(&mut self, reading: &Reading) {
        if self.policy != Policy::Governor {
            return;
        }
        let nanoseconds = CLOCK_START as i64 + self.clock_offset + (self.time() * 1e9) as i64;
        let now = TimeSpan::from_nanoseconds(nanoseconds.max(0) as u64);
        let decision = self.governor.step(&mut self.state, reading, now);
        let bound = Binding::ALL.iter().position(|binding| *binding == decision.binding);
        self.run.bindings[bound.unwrap_or(0)] += 1;
        (self.observer)(&self.plant, &self.governor, &decision);
        self.decision = Some(decision);
    }

    /// Lets time pass, with the events and the passes over the sensors that fall into it.
    fn advance(&mut self, seconds: f64, watts: f64) -> Result<(), GovernorError> {
        let end = self.time() + seconds;
        loop {
            while let Some(event) =
                self.scenario.event.get(self.next_event).filter(|event| event.at_seconds <= self.time())
            {
                self.next_event += 1;
                self.last_event = self.time();
                self.change(event)?;
            }
            if self.next_pass <= self.time() {
                self.next_pass += self.scenario.board.polling_seconds;
                let sensors = self.sensors.read(&self.plant, self.fault, &mut self.sensor_noise);
                if sensors.is_some() {
                    self.step(&Reading { inference: None, sensors });
                }
            }
            if self.time() >= end || self.plant.is_shut_down() {
                return Ok(());
            }
            let event = self.scenario.event.get(self.next_event).map_or(f64::INFINITY, |event| event.at_seconds);
            let until = end.min(self.next_pass).min(event).min((self.second.seconds + 1.0).max(self.time() + 1e-6));
            self.pass(until - self.time(), watts);
        }
    }

    fn pass(&mut self, seconds: f64, watts: f64) {
        let joules = (self.plant.power_without_work() + watts) * seconds;
        self.counter.joules += joules;
        self.second_joules += joules;
        self.plant.advance(&mut self.sensors, watts, seconds.max(1e-9));
        let celsius = self.plant.celsius();
        let metrics = &mut self.counter.metrics;
        metrics.highest_celsius = metrics.highest_celsius.max(celsius);
        let target = self.limits.temperature.map(|limits| f64::from(limits.target.as_millidegrees()) * 1e-3);
        if target.is_some_and(|target| celsius > target) {
            metrics.seconds_above_target += seconds;
        }
        if celsius > self.scenario.board.passive_celsius {
            metrics.seconds_above_passive += seconds;
        }
        if self.is_steady() {
            self.counter.steady_seconds += seconds;
        }
        match self.state.mode() {
            Mode::Safe => self.run.safe_seconds += seconds,
            Mode::Emergency => self.run.emergency_seconds += seconds,
            Mode::Normal => {}
        }
        if self.time() >= self.second.seconds + 1.0 {
            let moment = Moment { celsius, watts: self.second_joules, ..self.second };
            if self.keep_history {
                self.run.history.push(moment);
            }
            self.second = Moment { seconds: self.second.seconds + 1.0, rung: moment.rung, ..Moment::default() };
            self.second_joules = 0.0;
        }
    }

    fn change(&mut self, change: &Change) -> Result<(), GovernorError> {
        change.apply(&mut self.plant.environment);
        self.fault = change.fault.unwrap_or(self.fault);
        self.odd_latencies = change.odd_latencies.unwrap_or(self.odd_latencies);
        if let Some(rate) = change.frames_per_second {
            self.frames_per_second = Some(rate);
            self.next_frame = self.time();
        }
        self.clock_offset += (change.clock_jump_seconds.unwrap_or(0.0) * 1e9) as i64;
        if change.limits.is_some() || change.ladder.is_some() {
            self.replace(change.limits, change.ladder)?;
        }
        Ok(())
    }

    fn replace(&mut self, limits: Option<LimitsModel>, ladder: Option<LadderModel>) -> Result<(), GovernorError> {
        let board = &self.scenario.board;
        if let Some(limits) = limits {
            self.limits = limits.limits(board);
        }
        if let Some(ladder) = ladder {
            self.rungs = ladder.rungs(board.idle_watts);
        }
        self.governor = governor(&self.rungs, self.limits, board.idle_watts)?;
        self.state = self.governor.carry_on(&self.state);
        self.decision = None;
        Ok(())
    }

    fn latency_factor(&mut self) -> f64 {
        let normal: f64 = StandardNormal.sample(&mut self.latency_noise);
        let odd = self.odd_latencies > 0.0 && self.latency_noise.random::<f64>() < self.odd_latencies;
        (self.scenario.board.latency_noise * normal).exp() * if odd { ODD_LATENCY } else { 1.0 }
    }

    fn is_steady(&self) -> bool {
        self.time() - self.last_event > STEADY_AFTER_SECONDS
    }

    fn time(&self) -> f64 {
        self.plant.seconds()
    }
}

fn governor(rungs: &[SimulatedRung], limits: Limits, idle_watts: f64) -> Result<Governor, GovernorError> {
    let profiles: Vec<_> = rungs.iter().map(|rung| rung.profile).collect();
    Ok(Governor::new(&profiles, limits)?.with_idle_power(Power::from_milliwatts((idle_watts * 1e3) as u32)))
}
