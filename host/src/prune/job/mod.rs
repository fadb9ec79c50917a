//! The stages of the job, in order.

mod bundle;
mod compensation;
mod fit;
mod head_basis;
mod importance;
mod integer;
mod ladder;
mod memory;
mod search;
mod state;
mod tokens;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use headroom_device::error_text::with_causes;
use headroom_device::model::Weights;
use headroom_device::run::Precision;
use headroom_shared::{MAX_RUNGS, ModelShape, SubNetwork};

use super::images::JobImages;
use super::report::{PruneReport, StageReport};
use super::{AttentionUnits, Method, Options, PruneError};
use crate::boards::{self, Board};
use crate::bundle::BundleWriter;
use crate::checkpoint::{BlockOrder, Checkpoint, OpenOptions, Permutation};
use crate::executor::{self, ChosenDevices};
use crate::head_basis::HeadBasis;
use crate::progress::Progress;
use crate::ranking::{Arrangement, Quanta, Ranking, RemovalOrder, SparsityPath, StructureCosts};
use crate::scores::SnapvitScores;
use crate::search::StopReason;
use crate::shape::model_shape;
use crate::{demo, interrupt, ladder as rungs_of};
pub use memory::Remedy;
use state::JobState;

/// How a job ended.
pub struct Ending {
    /// What came of it.
    pub report: PruneReport,
    /// Whether search or compensation was cut short: the bundle then holds the best so far.
    pub interrupted: bool,
    /// What else cut one of them short, such as a GPU that was lost.
    pub failure: Option<PruneError>,
}

/// Runs the job.
///
/// Setting `interrupt` ends the search, or the fit of corrections, and writes
/// the best so far; before the search there is nothing to write, and the job
/// ends with an error. A device that fails in one of them does the same, with
/// [`Ending::failure`].
///
/// # Errors
/// See [`PruneError`]; nothing is then left at the destination.
pub fn run(options: &Options, progress: &dyn Progress, interrupt: &AtomicBool) -> Result<Ending, PruneError> {
    // What contradicts itself is told before what the machine lacks.
    check(options)?;
    let devices = executor::choose(&options.device)?.in_precision(options.gpu_precision);
    run_on(options, devices, progress, interrupt)
}

/// [`run`] on these devices, whatever `--device` says.
///
/// # Errors
/// As [`run`].
pub fn run_on(
    options: &Options,
    devices: ChosenDevices,
    progress: &dyn Progress,
    interrupt: &AtomicBool,
) -> Result<Ending, PruneError> {
    check(options)?;
    let board = boards::find(options.target.as_deref().unwrap_or_default())?;
    let checkpoint = open_model(options, options.model.as_deref())?;
    let scores = options.scores.as_deref().map(SnapvitScores::read).transpose()?;
    for note in devices.reason.iter().chain(&checkpoint.notes) {
        progress.note(note);
    }
    let scored = options.scores.is_none() && options.method() == Method::Headroom;
    if options.batch.is_some() && devices.gpus.is_empty() && !scored {
        progress.note("--batch is ignored: on the CPU only importance with --method headroom uses it");
    }
    let destination = destination(options, &board);
    let kept_state = JobState::open(&destination, options)?;
    let bundle = BundleWriter::create(&destination, options.force || options.resume)?;
    interrupt::remove_if_stopped(bundle.folder().to_path_buf());
    let (judges, stages, failure) = (devices.clone(), Vec::new(), None);
    let job =
        Job { options, progress, interrupt, devices, judges, board, checkpoint, scores, kept_state, stages, failure };
    job.run(bundle)
}

/// Refuses options that contradict each other.
fn check(options: &Options) -> Result<(), PruneError> {
    if options.fisher.is_some() && options.method() != Method::Snapvit {
        return Err(PruneError::FisherWithoutSnapvit);
    }
    let scored = options.scores.is_none() && options.method() == Method::Headroom;
    if options.attention_units() == AttentionUnits::Dimensions && !scored {
        return Err(PruneError::DimensionsWithoutScores);
    }
    // The dense rung comes on top.
    let (most, found) = (MAX_RUNGS - 1, options.rung_macs.len());
    if found > most {
        return Err(PruneError::TooManyRungs { most, found });
    }
    Ok(())
}

/// The checkpoint at `path`, or the demo model.
pub(super) fn open_model(options: &Options, path: Option<&Path>) -> Result<Checkpoint, PruneError> {
    let choices = OpenOptions { heads: options.heads, image_size: options.image_size };
    Ok(match path {
        Some(path) => Checkpoint::open_with(path, &choices)?,
        None => Checkpoint::from_bytes(demo::WEIGHTS, Some(demo::CONFIG), &choices)?,
    })
}

/// `--out`, or a folder named after model and board.
fn destination(options: &Options, board: &Board) -> PathBuf {
    options.out.clone().unwrap_or_else(|| {
        let model = options.model.as_deref().and_then(Path::file_stem).map(|stem| stem.to_string_lossy().into_owned());
        Path::new("bundles").join(format!("{}-{}", model.as_deref().unwrap_or(demo::NAME), board.name))
    })
}

/// Images that went through the whole model.
#[derive(Clone, Copy, Debug, Default)]
struct Passes {
    forward: u64,
    backward: u64,
}

impl Passes {
    fn forward(forward: u64) -> Self {
        Self { forward, backward: 0 }
    }
}

/// The order in which structures go, and where the rungs stop.
struct Ranked {
    shape: ModelShape,
    ranking: Ranking,
    permutation: Permutation,
    /// Tensors that are not the checkpoint's own, before the permutation.
    changed: Weights,
    /// Steps of each rung, and what they leave.
    rungs: Vec<u32>,
    sub_networks: Vec<SubNetwork>,
}

struct Job<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a AtomicBool,
    /// Where gradients and moments are computed.
    devices: ChosenDevices,
    /// Where sub-networks are judged: the same, or the CPU after a GPU has failed.
    judges: ChosenDevices,
    board: Board,
    checkpoint: Checkpoint,
    scores: Option<SnapvitScores>,
    kept_state: JobState,
    stages: Vec<StageReport>,
    failure: Option<PruneError>,
}

impl Job<'_> {
    fn run(mut self, bundle: BundleWriter) -> Result<Ending, PruneError> {
        self.check_token_merging()?;
        let mut shape = shape_with_floors(&self.checkpoint, self.options)?;
        let integers = self.precision() == Precision::Int8;
        if integers {
            shape.outside_weight_bytes /= u64::from(shape.bytes_per_weight);
            shape.bytes_per_weight = 1;
        }
        if let Some(scores) = &self.scores {
            scores.for_model(&self.checkpoint.description)?;
        }
        let mut weights = self.checkpoint.weights()?;
        self.check_integers(&shape, &weights)?;
        let images = self.images()?;
        let mut basis = self.head_basis(&weights, &images)?;
        if let Some(basis) = &basis {
            basis.apply(&mut weights);
        }
        let mut importance = self.importance(&weights, &images)?;
        let mut quanta = Quanta::new(&shape, &importance.neurons, &importance.heads)?;
        if let Some(basis) = &mut basis {
            basis.sort(&self.checkpoint.description, &mut importance)?;
            basis.apply(&mut weights);
            quanta = quanta.with_value_dims(&importance.value_dims)?;
            if basis.has_queries() {
                quanta = quanta.with_query_dims(&importance.query_dims)?;
            }
        }
        let fitted = self.search(&weights, &quanta, &images)?;

        let path = SparsityPath::new(&self.options.sparsities, quanta.limit())?;
        let ranking = RemovalOrder::new(&quanta, &fitted.factors, self.arrangement(&shape)).rank(&path);
        let permutation = permutation(&ranking);
        let permuted = permutation.apply(&self.checkpoint.description, &weights)?;
        drop(weights);
        let rungs = match self.options.rung_macs.as_slice() {
            [] => rungs_of::even_rungs(&shape, &ranking.steps, usize::from(self.options.rungs))?,
            shares => rungs_of::rungs_at(&shape, &ranking.steps, shares)?,
        };
        let changed = basis.map(HeadBasis::into_changed).unwrap_or_default();
        let after = |&steps: &u32| SubNetwork::after(&shape, &ranking.steps[..steps as usize]);
        let sub_networks = rungs.iter().map(after).collect::<Result<_, _>>()?;
        let mut ranked = Ranked { shape, ranking, permutation, changed, rungs, sub_networks };
        if let Some(chosen) = self.judged(|job| job.merge_tokens(&permuted, &ranked, &images))? {
            (ranked.rungs, ranked.sub_networks) =
                chosen.into_iter().map(|candidate| (candidate.steps, candidate.sub_network)).unzip();
        }
        let ladder = self.judged(|job| job.ladder(&permuted, &ranked, &images))?;
        let mut compensation = self.compensation(&permuted, &ranked, &ladder, &images)?;
        let ladder = self.corrected_ladder(ladder, &mut compensation, &ranked, &images)?;
        let corrections = &compensation.corrections;
        let (mut measured, mut integer_model) = if integers {
            let parts = self.integer_parts(&permuted, corrections)?;
            (self.integer_ladder(ladder, &permuted, &parts, corrections, &ranked, &images)?, Some(parts))
        } else {
            (ladder.measured, None)
        };
        let fit = self.fit(&permuted, corrections, &ranked, &mut measured)?.map(|(parts, fit)| {
            integer_model = Some(parts);
            fit
        });
        drop(permuted);

        let interrupted = fitted.stop == StopReason::Interrupted || compensation.interrupted;
        let report = self.write(bundle, &ranked, &measured, &compensation, integer_model, fit, &fitted, &images)?;
        if !interrupted && self.failure.is_none() {
            self.kept_state.remove();
        }
        Ok(Ending { report, interrupted, failure: self.failure })
    }

    /// Goes on with the best so far, and ends with `error`.
    fn fail(&mut self, error: PruneError) {
        self.progress.note(&format!("writing the best so far: {}", with_causes(&error)));
        self.failure.get_or_insert(error);
    }

    /// Runs what judges sub-networks, and once more on the CPU where a GPU fails: the best so far is worth a bundle, which
    /// needs a ladder.
    fn judged<T>(&mut self, run: impl Fn(&mut Self) -> Result<T, PruneError>) -> Result<T, PruneError> {
        match run(self) {
            Err(error) if error.is_of_device() && !self.judges.gpus.is_empty() => {
                self.fail(error);
                self.judges = ChosenDevices::cpu();
                run(self)
            }
            result => result,
        }
    }

    /// Only the scores of the default method are in one unit.
    fn arrangement(&self, shape: &ModelShape) -> Arrangement {
        match (&self.scores, self.options.method()) {
            (None, Method::Headroom) => {
                Arrangement::ByCost(StructureCosts::new(shape, self.options.rank_by, &self.board.profile))
            }
            _ => Arrangement::ByKind,
        }
    }

    /// Runs a stage and records its time and its work.
    fn stage<T>(
        &mut self,
        name: &'static str,
        work: impl FnOnce(&T) -> Passes,
        run: impl FnOnce(&Self) -> Result<T, PruneError>,
    ) -> Result<T, PruneError> {
        let start = Instant::now();
        let result = run(self).map_err(|error| error.in_stage(name, &self.devices))?;
        let seconds = start.elapsed().as_secs_f64();
        let Passes { forward, backward } = work(&result);
        self.stages.push(StageReport { name, seconds, image_forwards: forward, image_backwards: backward });
        Ok(result)
    }

    fn images(&mut self) -> Result<JobImages, PruneError> {
        self.stage(
            "images",
            |_| Passes::default(),
            |job| JobImages::prepare(job.options, &job.checkpoint.description.image, job.progress, job.interrupt),
        )
    }
}

/// The shape of the model with the floors of the options.
pub(super) fn shape_with_floors(checkpoint: &Checkpoint, options: &Options) -> Result<ModelShape, PruneError> {
    let mut shape = model_shape(checkpoint)?;
    options.floors().apply(&mut shape)?;
    Ok(shape)
}

/// The order of heads and neurons that makes every sub-network a prefix.
fn permutation(ranking: &Ranking) -> Permutation {
    let order = |order: &[u16]| order.iter().map(|&index| usize::from(index)).collect();
    let blocks = ranking.heads.iter().zip(&ranking.neurons);
    let blocks = blocks.map(|(heads, neurons)| BlockOrder { heads: order(heads), neurons: order(neurons) }).collect();
    Permutation { blocks }
}

/// Whether the user has asked to stop.
pub(super) fn is_set(interrupt: &AtomicBool) -> bool {
    interrupt.load(Ordering::Relaxed)
}
