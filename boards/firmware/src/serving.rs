//! Model, governor and the rung that runs.

use core::fmt::Write;

use headroom_device::corrected::Corrected;
use headroom_device::governor::{
    Deadline, Decision, Governor, GovernorError, Limits, RungProfile, State, TemperatureLimits,
};
use headroom_device::integer::{IntegerEngineError, IntegerOutput, IntegerVit};
use headroom_device::reading::{InferenceSample, Measurement, Missing, Reading, SensorReading};
use headroom_shared::wire::ServedModel;
use headroom_shared::{
    FlashImage, FlashImageError, List, MAX_RUNGS, Power, StructureMap, SubNetwork, Temperature, TimeSpan,
};

use crate::board::Board;

/// A sentence for people.
pub type Sentence = heapless::String<160>;

/// The share of inferences that may miss a deadline.
const MISS_RATE: f32 = 0.01;

/// What is served, once the image is accepted.
pub struct Serving<'a> {
    map: StructureMap<'a>,
    engine: IntegerVit<'a>,
    temperatures: TemperatureLimits,
    idle: Power,
    governor: Governor,
    state: State,
    pub decision: Decision,
    /// A rung that runs whatever the governor says.
    held: Option<u8>,
    /// The largest rung that is stored: the governor counts from it.
    largest: u8,
    /// The sub-network of a rung of the map.
    kept: (u8, SubNetwork),
    pub temperature: Measurement<Temperature>,
}

/// Why nothing is served.
pub enum Refusal {
    Image(FlashImageError),
    Board { expected: &'static str, found: headroom_shared::board::Name },
    NoRung,
    Frame { needed: usize, found: usize },
    Engine(IntegerEngineError),
    Governor(GovernorError),
}

impl Refusal {
    pub fn sentence(&self) -> Sentence {
        let mut text = Sentence::new();
        // What does not fit is cut off.
        let _ = match self {
            Self::Image(error) => write!(text, "{error}"),
            Self::Board { expected, found } => write!(text, "the flash image is for {found}, this is {expected}"),
            Self::NoRung => write!(text, "the flash image stores no whole rung"),
            Self::Frame { needed, found } => {
                write!(text, "a frame of the model has {needed} bytes, the firmware takes {found}")
            }
            Self::Engine(error) => write!(text, "{error}"),
            Self::Governor(error) => write!(text, "{error}"),
        };
        text
    }
}

/// An inference that was run.
pub struct Inference {
    pub rung: u8,
    pub fidelity: f32,
    pub macs: u64,
    pub latency: TimeSpan,
}

impl<'a> Serving<'a> {
    /// Reads the image in `region`. `most` is the size of the longest message that can be received.
    pub fn open<B: Board>(region: &'a [u8], arena: &'a mut [u8], most: usize) -> Result<Self, Refusal> {
        let image = FlashImage::read(region).map_err(Refusal::Image)?;
        if image.settings.board.as_str() != B::NAME {
            return Err(Refusal::Board { expected: B::NAME, found: image.settings.board });
        }
        // Of a message, a few bytes are not pixels, and byte stuffing adds one in 254.
        let (frame, found) = (image.model.sizes().frame_bytes(), most.saturating_sub(most / 254 + 32));
        if frame > found {
            return Err(Refusal::Frame { needed: frame, found });
        }
        let rungs = image.map.rungs().len();
        let largest = (0..rungs).find(|&rung| image.has_rung(rung)).ok_or(Refusal::NoRung)? as u8;
        let settings = image.settings;
        let temperatures =
            TemperatureLimits { target: settings.target, passive: settings.passive, critical: settings.critical };
        let limits = Limits { temperature: Some(temperatures), ..Limits::default() };
        let governor = governor(&image.map, largest, limits, settings.idle).map_err(Refusal::Governor)?;
        let mut state = governor.start();
        let decision = governor.step(&mut state, &Reading::default(), TimeSpan::from_nanoseconds(0));
        let engine = IntegerVit::new(image.model, arena).map_err(Refusal::Engine)?;
        let kept = (largest, image.map.sub_network_of(largest.into()).ok_or(Refusal::NoRung)?);
        let temperature = Measurement::Missing(Missing::Absent);
        Ok(Self {
            map: image.map,
            engine,
            temperatures,
            idle: settings.idle,
            governor,
            state,
            decision,
            held: None,
            largest,
            kept,
            temperature,
        })
    }

    /// What clients should know of the model. A flash image has no manifest: the bundle is named by its weights.
    pub fn model(&self) -> ServedModel {
        let sizes = self.engine.model().sizes();
        ServedModel {
            bundle: *self.map.weights_sha256(),
            width: sizes.image_width as u32,
            height: sizes.image_height as u32,
            embed_dim: sizes.embed_dim as u32,
            classes: sizes.classes as u32,
            rungs: self.map.rungs().len() as u8,
        }
    }

    /// Values of an embedding, and of logits.
    pub fn outputs(&self) -> (usize, usize) {
        let sizes = self.engine.model().sizes();
        (sizes.embed_dim, sizes.classes)
    }

    /// The rung of the next inference.
    pub fn rung(&self) -> u8 {
        self.held.unwrap_or(self.largest + self.decision.rung)
    }

    /// The least time between the starts of two inferences.
    pub fn pace(&self) -> TimeSpan {
        if self.held.is_some() { TimeSpan::from_nanoseconds(0) } else { self.decision.pace }
    }

    /// Runs a rung from now on, or what the governor says; `None` if the rung is not stored.
    pub fn hold(&mut self, rung: Option<u8>) -> Option<()> {
        if rung.is_some_and(|rung| rung < self.largest || usize::from(rung) >= self.map.rungs().len()) {
            return None;
        }
        self.held = rung;
        Some(())
    }

    /// Takes limits from now on.
    pub fn limit(
        &mut self,
        deadline: Option<TimeSpan>,
        power: Option<Power>,
        minimum_fidelity: Option<f32>,
    ) -> Result<(), GovernorError> {
        let deadline = deadline.map(|latency| Deadline { latency, miss_rate: MISS_RATE });
        let limits = Limits { deadline, power, temperature: Some(self.temperatures), energy: None, minimum_fidelity };
        self.governor = governor(&self.map, self.largest, limits, self.idle)?;
        self.state = self.governor.carry_on(&self.state);
        Ok(())
    }

    /// Lets the governor decide after a pass over the sensors.
    pub fn sense(&mut self, temperature: Measurement<Temperature>, now: TimeSpan) {
        self.temperature = temperature;
        let sensors = SensorReading { temperature, ..SensorReading::ABSENT };
        let reading = Reading { sensors: Some(sensors), inference: None };
        self.decision = self.governor.step(&mut self.state, &reading, now);
    }

    /// Runs a frame at the rung of the moment. An output without room is not computed.
    pub fn infer<B: Board>(
        &mut self,
        board: &mut B,
        frame: &[u8],
        embedding: &mut [f32],
        logits: &mut [f32],
    ) -> Result<Inference, IntegerEngineError> {
        let number = self.rung();
        let rung = self.map.rungs()[usize::from(number)];
        if self.kept.0 != number
            && let Some(sub_network) = self.map.sub_network_of(number.into())
        {
            self.kept = (number, sub_network);
        }
        let correction = self.engine.model().correction_of_rung(number.into());
        let kept = Corrected { kept: &self.kept.1, correction };
        let output = IntegerOutput {
            embedding: (!embedding.is_empty()).then_some(embedding),
            logits: (!logits.is_empty()).then_some(logits),
            tokens: None,
        };
        let start = board.now();
        infer(&mut self.engine, frame, &kept, output)?;
        let end = board.now();
        let latency = TimeSpan::from_nanoseconds(end.as_nanoseconds().saturating_sub(start.as_nanoseconds()));
        // A rung that is held tells the governor as much as one that it chose.
        let sample = InferenceSample { rung: number - self.largest, latency };
        let reading = Reading { inference: Some(sample), sensors: None };
        self.decision = self.governor.step(&mut self.state, &reading, end);
        Ok(Inference { rung: number, fidelity: rung.fidelity, macs: rung.macs, latency })
    }

    /// How much slower than its profile the board is.
    pub fn slowdown(&self) -> f32 {
        self.state.slowdown().mean
    }
}

/// Runs the engine. Generic code is compiled where it is first asked for, with the optimisation of that package: here,
/// and not in that of a board, which is compiled for size.
#[inline(never)]
fn infer(
    engine: &mut IntegerVit<'_>,
    frame: &[u8],
    kept: &Corrected<'_, SubNetwork>,
    output: IntegerOutput<'_>,
) -> Result<(), IntegerEngineError> {
    engine.infer(frame, kept, output)
}

/// A governor of the rungs from `largest` on.
fn governor(map: &StructureMap<'_>, largest: u8, limits: Limits, idle: Power) -> Result<Governor, GovernorError> {
    let mut profiles = List::<RungProfile, MAX_RUNGS>::new();
    for rung in &map.rungs()[usize::from(largest)..] {
        let profile =
            RungProfile { latency: rung.latency().value, energy: rung.energy().value, fidelity: rung.fidelity };
        profiles.push(profile).map_err(|_| GovernorError::TooManyRungs)?;
    }
    Ok(Governor::new(&profiles, limits)?.with_idle_power(idle))
}
