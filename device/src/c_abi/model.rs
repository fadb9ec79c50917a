//! A bundle: sizes, rungs and the choice of one.

use std::ffi::{CString, c_char};
use std::path::Path;
use std::sync::Arc;

use headroom_shared::{Energy, Origin, Power, Rung, TimeSpan};

use super::pointer::{self, Output};
use super::status::{Failure, HeadroomStatus, guarded};
use crate::budget::Budget;
use crate::bundle::trust::Trust;
use crate::bundle::{Bundle, BundleError};
use crate::measured_profile::{Execution, Found, default_path};
use crate::precision::Precision;
use crate::rung_engine::{RungEngine, RungWorkspace};

/// An opened bundle. Immutable: any number of threads and sessions share one.
pub struct HeadroomModel(pub(super) Arc<OpenModel>);

pub(super) struct OpenModel {
    pub engine: RungEngine,
    /// That share each inference.
    pub threads: usize,
    pub rungs: Vec<HeadroomRung>,
    labels: Vec<CString>,
}

/// Sizes of a model; each a number of values, but for height, width and rungs.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeadroomSizes {
    /// Of one input: channels x height x width.
    pub pixels: usize,
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Of an image embedding.
    pub embedding: usize,
    /// Of the logits; 0 where the model has no classifier.
    pub classes: usize,
    /// Of the ladder.
    pub rungs: usize,
}

/// What a rung costs, for one inference of one image, and what it is worth.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HeadroomRung {
    /// Steps of the ranking that are removed.
    pub steps: u32,
    /// Mean cosine similarity to the dense model's embedding.
    pub fidelity: f32,
    pub macs: u64,
    pub weight_bytes: u64,
    pub latency_nanoseconds: u64,
    pub energy_microjoules: u64,
    /// 1 where the latency was measured on this machine, 0 where it is predicted.
    pub latency_is_measured: u8,
    /// 1 where the energy was measured on this machine, 0 where it is predicted.
    pub energy_is_measured: u8,
}

/// `HeadroomBudget::set`: `macs` is a limit.
pub const HEADROOM_BUDGET_MACS: u32 = 1;
/// `HeadroomBudget::set`: `latency_nanoseconds` is a limit.
pub const HEADROOM_BUDGET_LATENCY: u32 = 2;
/// `HeadroomBudget::set`: `energy_microjoules` is a limit.
pub const HEADROOM_BUDGET_ENERGY: u32 = 4;
/// `HeadroomBudget::set`: `power_milliwatts` is a limit.
pub const HEADROOM_BUDGET_POWER: u32 = 8;

/// What one inference may cost.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadroomBudget {
    /// Which of the other fields are limits: a sum of `HEADROOM_BUDGET_*`.
    pub set: u32,
    /// Mean power of the board while it infers without a pause.
    pub power_milliwatts: u32,
    pub macs: u64,
    pub latency_nanoseconds: u64,
    pub energy_microjoules: u64,
}

/// `precision`: 32-bit floating point.
pub const HEADROOM_PRECISION_F32: u32 = 0;
/// `precision`: the eight-bit integers of the bundle's `model.int8`. Pixels become the nearest 8-bit image.
pub const HEADROOM_PRECISION_INT8: u32 = 1;

/// Opens the bundle in the folder `bundle`: checks every hash and packs the weights.
///
/// `threads` share each inference of a session; 0 is one. The results do not depend on it. `measured_profile` is the
/// file of `device-run --calibrate`; null is the one beside the bundle, if there is one. A profile of another machine,
/// power mode, bundle, precision or number of threads is not used.
///
/// # Safety
/// The texts are null or end in 0; `model` is null or room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_open(
    bundle: *const c_char,
    threads: u32,
    measured_profile: *const c_char,
    model: *mut *mut HeadroomModel,
) -> HeadroomStatus {
    // SAFETY: the promises of this function's own caller.
    unsafe { headroom_model_open_in(bundle, HEADROOM_PRECISION_F32, threads, measured_profile, model) }
}

/// As `headroom_model_open`, with sessions that run in `precision`, one of `HEADROOM_PRECISION_*`.
///
/// `HEADROOM_STATUS_BUNDLE` says that the bundle has no `model.int8`, or one that cannot run a rung of the ladder.
///
/// # Safety
/// As of `headroom_model_open`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_open_in(
    bundle: *const c_char,
    precision: u32,
    threads: u32,
    measured_profile: *const c_char,
    model: *mut *mut HeadroomModel,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, path) = unsafe { (Output::new(model, "model")?, pointer::path(bundle, "bundle")?) };
        let profile = if measured_profile.is_null() {
            default_path(&path)
        } else {
            // SAFETY: the promise of this function's own caller.
            unsafe { pointer::path(measured_profile, "measured_profile")? }
        };
        let (precision, threads) = (checked_precision(precision)?, checked_threads(threads)?);
        let opened = OpenModel::new(&path, precision, threads, &profile)?;
        output.write(Box::into_raw(Box::new(HeadroomModel(Arc::new(opened)))));
        Ok(())
    })
}

/// Closes a model; null is none. Sessions and governors of it stay valid.
///
/// # Safety
/// `model` is null, or a model that was not closed and that no other thread uses.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_close(model: *mut HeadroomModel) {
    guarded(|| {
        // SAFETY: the promise of this function's own caller.
        unsafe { pointer::close(model) };
        Ok(())
    });
}

/// Writes the sizes of a model.
///
/// # Safety
/// `model` is null or open; `sizes` is null or room for them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_sizes(
    model: *const HeadroomModel,
    sizes: *mut HeadroomSizes,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, model) = unsafe { (Output::new(sizes, "sizes")?, pointer::reference(model, "model")?) };
        output.write(sizes_of(model.0.engine.bundle()));
        Ok(())
    })
}

/// Writes what rung `index` costs; 0 is the dense model, and costs fall with the index.
///
/// # Safety
/// `model` is null or open; `rung` is null or room for it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_rung(
    model: *const HeadroomModel,
    index: usize,
    rung: *mut HeadroomRung,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, model) = unsafe { (Output::new(rung, "rung")?, pointer::reference(model, "model")?) };
        output.write(*model.0.rung(index)?);
        Ok(())
    })
}

/// Writes the name of a class, which is valid until the model is closed; null where the checkpoint has no name for it.
///
/// # Safety
/// `model` is null or open; `label` is null or room for a pointer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_label(
    model: *const HeadroomModel,
    class: usize,
    label: *mut *const c_char,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, model) = unsafe { (Output::new(label, "label")?, pointer::reference(model, "model")?) };
        output.write(model.0.labels.get(class).map_or(std::ptr::null(), |label| label.as_ptr()));
        Ok(())
    })
}

/// Writes the index of the rung with the highest fidelity within a budget, which `HEADROOM_STATUS_NOTHING_FITS` says
/// that there is none of.
///
/// # Safety
/// `model` is null or open; `budget` is null or one; `rung` is null or room for an index.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn headroom_model_choose(
    model: *const HeadroomModel,
    budget: *const HeadroomBudget,
    rung: *mut usize,
) -> HeadroomStatus {
    guarded(|| {
        // SAFETY: the promises of this function's own caller.
        let (output, model, budget) = unsafe {
            let budget = pointer::reference(budget, "budget")?;
            (Output::new(rung, "rung")?, pointer::reference(model, "model")?, *budget)
        };
        let chosen = budget.checked()?.choose(&model.0.ladder());
        output.write(chosen.map_err(|error| Failure::of(HeadroomStatus::NothingFits, &error))?);
        Ok(())
    })
}

pub(super) fn open_bundle(path: &Path) -> Result<Bundle, Failure> {
    let trusted = Trust::find(None).map_err(BundleError::from);
    trusted.and_then(|trust| Bundle::open_with(path, trust.as_ref())).map_err(|error| {
        let failure = Failure::of(HeadroomStatus::Bundle, &error);
        Failure { message: format!("cannot open the bundle `{}`: {}", path.display(), failure.message), ..failure }
    })
}

/// A bundle all of whose rungs run in `precision`.
pub(super) fn open_engine(path: &Path, precision: Precision) -> Result<RungEngine, Failure> {
    let refused = |error| Failure::of(HeadroomStatus::Bundle, &error);
    RungEngine::new(open_bundle(path)?, precision).map_err(refused)
}

/// One of `HEADROOM_PRECISION_*`.
pub(super) fn checked_precision(precision: u32) -> Result<Precision, Failure> {
    match precision {
        HEADROOM_PRECISION_F32 => Ok(Precision::F32),
        HEADROOM_PRECISION_INT8 => Ok(Precision::Int8),
        found => {
            let message = format!("`precision` is {found}, expected 0 or 1");
            Err(Failure::new(HeadroomStatus::InvalidArgument, message))
        }
    }
}

/// More threads share no inference of an image.
const MOST_THREADS: u32 = 256;

/// 0 is one.
pub(super) fn checked_threads(threads: u32) -> Result<usize, Failure> {
    if threads > MOST_THREADS {
        let message = format!("`threads` is {threads}, expected 0 to {MOST_THREADS}");
        return Err(Failure::new(HeadroomStatus::InvalidArgument, message));
    }
    Ok(threads.max(1) as usize)
}

pub(super) fn sizes_of(bundle: &Bundle) -> HeadroomSizes {
    let image = &bundle.description().image;
    HeadroomSizes {
        pixels: bundle.vit().pixels(),
        channels: image.channels,
        height: image.height,
        width: image.width,
        embedding: bundle.vit().embed_dim(),
        classes: bundle.vit().classes().unwrap_or(0),
        rungs: bundle.structure_map().rungs().len(),
    }
}

impl OpenModel {
    fn new(path: &Path, precision: Precision, threads: usize, measured_profile: &Path) -> Result<Self, Failure> {
        let engine = open_engine(path, precision)?;
        let bundle = engine.bundle();
        let found = Found::on_this_machine(
            measured_profile,
            Path::new("/"),
            Execution { precision, threads, accelerator: None },
            bundle.hash(),
        )
        .map_err(|error| Failure::of(HeadroomStatus::MeasuredProfile, &error))?;
        let rungs = {
            let map = bundle.structure_map();
            let ladder = match found.profile() {
                Some(profile) => profile
                    .overlay(map.rungs())
                    .map_err(|error| Failure::of(HeadroomStatus::MeasuredProfile, &error))?,
                None => map.rungs().to_vec(),
            };
            ladder.iter().map(HeadroomRung::new).collect()
        };
        let labels = bundle.description().labels.iter().flatten();
        let labels: Vec<_> = labels.map(|label| CString::new(label.replace('\0', " ")).unwrap_or_default()).collect();
        Ok(Self { engine, threads, rungs, labels })
    }

    /// What a session infers with.
    pub(super) fn workspace(&self) -> RungWorkspace {
        self.engine.workspace(self.threads)
    }

    pub(super) fn rung(&self, index: usize) -> Result<&HeadroomRung, Failure> {
        self.rungs.get(index).ok_or_else(|| {
            let last = self.rungs.len() - 1;
            let message = format!("there is no rung {index}: the ladder has rungs 0 to {last}");
            Failure::new(HeadroomStatus::NoSuchRung, message)
        })
    }

    /// The ladder with the costs of [`Self::rungs`].
    pub(super) fn ladder(&self) -> Vec<Rung<'_>> {
        let map = self.engine.bundle().structure_map();
        map.rungs().iter().zip(&self.rungs).map(|(rung, costs)| costs.overlay(rung)).collect()
    }
}

impl HeadroomRung {
    fn new(rung: &Rung<'_>) -> Self {
        let (latency, energy) = (rung.latency(), rung.energy());
        Self {
            steps: rung.steps,
            fidelity: rung.fidelity,
            macs: rung.macs,
            weight_bytes: rung.weight_bytes,
            latency_nanoseconds: latency.value.as_nanoseconds(),
            energy_microjoules: energy.value.as_microjoules(),
            latency_is_measured: u8::from(latency.origin == Origin::Measured),
            energy_is_measured: u8::from(energy.origin == Origin::Measured),
        }
    }

    fn overlay<'a>(&self, rung: &Rung<'a>) -> Rung<'a> {
        let latency = TimeSpan::from_nanoseconds(self.latency_nanoseconds);
        let energy = Energy::from_microjoules(self.energy_microjoules);
        Rung {
            measured_latency: (self.latency_is_measured != 0).then_some(latency),
            measured_energy: (self.energy_is_measured != 0).then_some(energy),
            ..*rung
        }
    }
}

impl HeadroomBudget {
    fn checked(&self) -> Result<Budget, Failure> {
        let known = HEADROOM_BUDGET_MACS | HEADROOM_BUDGET_LATENCY | HEADROOM_BUDGET_ENERGY | HEADROOM_BUDGET_POWER;
        known_bits(self.set, known, "budget.set")?;
        let is_set = |limit: u32| self.set & limit != 0;
        Ok(Budget {
            macs: is_set(HEADROOM_BUDGET_MACS).then_some(self.macs),
            latency: is_set(HEADROOM_BUDGET_LATENCY).then(|| TimeSpan::from_nanoseconds(self.latency_nanoseconds)),
            energy: is_set(HEADROOM_BUDGET_ENERGY).then(|| Energy::from_microjoules(self.energy_microjoules)),
            power: is_set(HEADROOM_BUDGET_POWER).then(|| Power::from_milliwatts(self.power_milliwatts)),
        })
    }
}

/// A bit that this version does not know would be a limit that is not kept.
pub(super) fn known_bits(found: u32, known: u32, name: &str) -> Result<(), Failure> {
    if found & !known == 0 {
        return Ok(());
    }
    let message = format!("`{name}` is {found:#x}, this version knows {known:#x}");
    Err(Failure::new(HeadroomStatus::InvalidArgument, message))
}
