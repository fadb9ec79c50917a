//! The rungs of a bundle in one precision, behind one interface.
//!
//! - [`RungEngine`] has what inferences share: the bundle, its sub-networks and, in int8, the weights packed for this
//!   processor. Any number of threads use it at the same time.
//! - [`RungWorkspace`] has what one inference writes to, and its input. An input is set first, as an image or as
//!   pixels, and then run at any rungs: so the time of an inference is without that of its preprocessing.
//!
//! Other processors than the CPU are [`Accelerator`]s, which compute in f16 ([`RungEngine::accelerated`]). The GPU engine
//! is one.
//!
//! In int8 the model takes the bytes of an image. An image is resized and cropped as in f32 and not normalised; of
//! normalised pixels, the bytes are found again ([`frames`](crate::integer::frames)).
//!
//! A bundle's `model.int8` may hold fewer rungs than its ladder, because a board's flash holds no more, and it has its
//! own list of the rungs that run with a correction. [`RungEngine::new`] refuses such a bundle before its first
//! inference; [`RungEngine::partial`] does not.

mod accelerator;
mod error;
mod workspace;

pub use accelerator::{Accelerator, AcceleratorError, AcceleratorOutput, OpenAccelerator};
pub use error::RungEngineError;
pub use workspace::{RungOutput, RungWorkspace};

use std::fmt;
use std::sync::Arc;

use headroom_shared::IntegerModel;
use self_cell::self_cell;

use accelerator::AcceleratorThread;

use crate::bundle::Bundle;
use crate::corrected::Corrected;
use crate::integer::{PackedIntegerVit, check_kept};
use crate::measured_profile::Execution;
use crate::precision::Precision;
use crate::switch::{NoSuchRung, RungTable};

/// A bundle whose rungs can be run, in one precision.
pub struct RungEngine {
    vit: Vit,
    table: RungTable,
}

enum Vit {
    F32(Arc<Bundle>),
    Int8(PackedBundle),
    Accelerator { bundle: Arc<Bundle>, thread: AcceleratorThread },
}

self_cell!(
    /// A bundle, and its integer model packed.
    struct PackedBundle {
        owner: Arc<Bundle>,
        #[covariant]
        dependent: PackedIntegerVit,
    }
);

impl fmt::Debug for RungEngine {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        let mut debug = formatter.debug_struct("RungEngine");
        debug.field("bundle", self.bundle()).field("precision", &self.precision()).finish_non_exhaustive()
    }
}

impl RungEngine {
    /// The rungs of `bundle` in f32.
    pub fn f32(bundle: impl Into<Arc<Bundle>>) -> Self {
        let bundle = bundle.into();
        let table = RungTable::new(&bundle.structure_map());
        Self { vit: Vit::F32(bundle), table }
    }

    /// The rungs of `bundle` in `precision`, all of which can run.
    ///
    /// # Errors
    /// If the bundle has no integer model and would need one, or one that cannot run a rung of the ladder.
    pub fn new(bundle: impl Into<Arc<Bundle>>, precision: Precision) -> Result<Self, RungEngineError> {
        Self::of(bundle.into(), precision, check_all)
    }

    /// The rungs of `bundle` in `precision`, of which only some may run: [`check`](Self::check) says of each.
    ///
    /// # Errors
    /// If the bundle has no integer model and would need one.
    pub fn partial(bundle: impl Into<Arc<Bundle>>, precision: Precision) -> Result<Self, RungEngineError> {
        Self::of(bundle.into(), precision, |_, _| Ok(()))
    }

    fn of(
        bundle: Arc<Bundle>,
        precision: Precision,
        check: impl FnOnce(&IntegerModel<'_>, &RungTable) -> Result<(), RungEngineError>,
    ) -> Result<Self, RungEngineError> {
        match precision {
            Precision::F32 => return Ok(Self::f32(bundle)),
            Precision::F16 => return Err(RungEngineError::NoHalfPrecision),
            Precision::Int8 => {}
        }
        let table = RungTable::new(&bundle.structure_map());
        let packed = PackedBundle::try_new(bundle, |bundle| {
            let model = bundle.integer_model().ok_or(RungEngineError::NoIntegerModel)?;
            // Before the weights are packed, which takes time and memory.
            check(&model, &table)?;
            Ok::<_, RungEngineError>(PackedIntegerVit::new(model))
        })?;
        Ok(Self { vit: Vit::Int8(packed), table })
    }

    /// The rungs of `bundle` in f16 on the processor that `open` opens, all of which can run. One inference runs at a
    /// time; others wait.
    ///
    /// # Errors
    /// If the processor cannot be opened, or cannot run the bundle.
    pub fn accelerated(bundle: impl Into<Arc<Bundle>>, open: Arc<OpenAccelerator>) -> Result<Self, RungEngineError> {
        let bundle = bundle.into();
        let table = RungTable::new(&bundle.structure_map());
        let thread = AcceleratorThread::start(bundle.clone(), open)?;
        Ok(Self { vit: Vit::Accelerator { bundle, thread }, table })
    }

    /// The rungs of another bundle, as this one runs its own: in the same precision, on the same processor.
    ///
    /// # Errors
    /// As of [`new`](Self::new) and [`accelerated`](Self::accelerated).
    pub fn another(&self, bundle: impl Into<Arc<Bundle>>) -> Result<Self, RungEngineError> {
        match &self.vit {
            Vit::F32(_) => Ok(Self::f32(bundle)),
            Vit::Int8(_) => Self::new(bundle, Precision::Int8),
            Vit::Accelerator { thread, .. } => Self::accelerated(bundle, thread.open().clone()),
        }
    }

    /// The accelerator's name, where inferences are not on the CPU.
    #[must_use]
    pub fn accelerator(&self) -> Option<&str> {
        match &self.vit {
            Vit::F32(_) | Vit::Int8(_) => None,
            Vit::Accelerator { thread, .. } => Some(thread.name()),
        }
    }

    /// How an inference runs that is given so many threads: an accelerator needs one.
    #[must_use]
    pub fn execution(&self, threads: usize) -> Execution<'_> {
        let accelerator = self.accelerator();
        let threads = if accelerator.is_some() { 1 } else { threads };
        Execution { precision: self.precision(), threads, accelerator }
    }

    /// The bundle.
    #[must_use]
    pub fn bundle(&self) -> &Arc<Bundle> {
        match &self.vit {
            Vit::F32(bundle) | Vit::Accelerator { bundle, .. } => bundle,
            Vit::Int8(packed) => packed.borrow_owner(),
        }
    }

    /// The precision of inferences.
    #[must_use]
    pub fn precision(&self) -> Precision {
        match self.vit {
            Vit::F32(_) => Precision::F32,
            Vit::Int8(_) => Precision::Int8,
            Vit::Accelerator { .. } => Precision::F16,
        }
    }

    /// The sub-networks of the ladder.
    #[must_use]
    pub fn table(&self) -> &RungTable {
        &self.table
    }

    /// Refuses a rung that the integer model does not hold, or cannot run.
    ///
    /// # Errors
    /// What is wrong with it, or that there is no such rung.
    pub fn check(&self, rung: usize) -> Result<(), RungEngineError> {
        let found = rung;
        self.table.get(rung).ok_or(NoSuchRung { rungs: self.table.sub_networks().len(), found })?;
        match &self.vit {
            Vit::F32(_) | Vit::Accelerator { .. } => Ok(()),
            Vit::Int8(packed) => check_rung(packed.borrow_dependent().model(), &self.table, rung),
        }
    }

    /// What an inference that `threads` threads share writes to, the calling one counted; on an accelerator they do not
    /// matter.
    #[must_use]
    pub fn workspace(&self, threads: usize) -> RungWorkspace {
        match &self.vit {
            Vit::F32(bundle) => RungWorkspace::of_f32(bundle, threads),
            Vit::Accelerator { bundle, .. } => RungWorkspace::of_accelerator(bundle),
            Vit::Int8(packed) => RungWorkspace::of_int8(packed.borrow_owner(), packed.borrow_dependent(), threads),
        }
    }

    /// Runs rung `rung` on the input that was last set in `workspace`; a grey image, where none was. The bits of the
    /// result do not depend on the number of threads.
    ///
    /// # Errors
    /// If there is no such rung, it cannot be run, or the workspace was made by another engine. Nothing was computed
    /// then.
    pub fn infer<'w>(&self, workspace: &'w mut RungWorkspace, rung: usize) -> Result<RungOutput<'w>, RungEngineError> {
        let sub_networks = self.table.sub_networks();
        let kept = sub_networks.get(rung).ok_or(NoSuchRung { rungs: sub_networks.len(), found: rung })?;
        match &self.vit {
            Vit::F32(bundle) => workspace.infer_f32(bundle.vit(), &bundle.corrected(rung, kept)),
            Vit::Accelerator { bundle, thread } => workspace.infer_accelerated(thread, bundle.vit().pixels(), rung),
            Vit::Int8(packed) => {
                let vit = packed.borrow_dependent();
                let correction = vit.model().correction_of_rung(rung);
                workspace.infer_int8(vit, &Corrected { kept, correction })
            }
        }
    }
}

fn check_all(model: &IntegerModel<'_>, table: &RungTable) -> Result<(), RungEngineError> {
    (0..table.sub_networks().len()).try_for_each(|rung| check_rung(model, table, rung))
}

/// Of a rung of the ladder.
fn check_rung(model: &IntegerModel<'_>, table: &RungTable, rung: usize) -> Result<(), RungEngineError> {
    let kept = Corrected { kept: &table.sub_networks()[rung], correction: model.correction_of_rung(rung) };
    check_kept(model, &kept).map_err(|source| RungEngineError::Rung { rung, source })
}
