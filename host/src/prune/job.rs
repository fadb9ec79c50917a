//! The stages of the job, in order.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use candle_core::DType;
use headroom_device::bundle::Manifest;
use headroom_device::bundle::manifest::{
    BOARD_FILE, CHART_FILE, CONFIG_FILE, DESCRIPTION_FILE, MANIFEST_FILE, STRUCTURE_MAP_FILE, WEIGHTS_FILE, hex,
    sha256_hex,
};
use headroom_device::engine::{ElasticVit, EngineError};
use headroom_device::model::Weights;
use headroom_shared::structure_map::encoded_bound;
use headroom_shared::{Ladder, ModelShape, Rung, StructureMap};

use super::images::JobImages;
use super::report::{ImagesReport, ModelReport, PruneReport, REPORT_VERSION, ScoresReport, SearchReport, StageReport};
use super::{Method, Options, PruneError, importance_file, measure, picture};
use crate::boards::{self, Board};
use crate::bundle::{BundleWriter, Provenance};
use crate::checkpoint::{BlockOrder, Checkpoint, OpenOptions, Permutation};
use crate::embedder::CpuEmbedder;
use crate::executor::CandleVit;
use crate::importance::{self, FisherForm, Importance};
use crate::progress::Progress;
use crate::ranking::{Arrangement, Factors, Quanta, Ranking, RemovalOrder, Selection, SparsityPath, StructureCosts};
use crate::scores::SnapvitScores;
use crate::search::{
    self, CheckpointFile, Embedder, FitEvent, FitOptions, Fitted, Problem, StopReason, Xnes, XnesOptions,
};
use crate::shape::model_shape;
use crate::{demo, interrupt, ladder, sensitivity};

/// Random directions of the embedding for each image. They add little to what more images tell, and cost a pass each.
const PROBES: usize = 4;

/// How a job ended.
pub struct Ending {
    /// What came of it.
    pub report: PruneReport,
    /// Whether the search was cut short: the bundle then holds the best so far.
    pub interrupted: bool,
}

/// Runs the job.
///
/// Setting `interrupt` ends the search and writes the best so far; before the
/// search there is nothing to write, and the job ends with an error.
///
/// # Errors
/// See [`PruneError`]; nothing is then left at the destination.
pub fn run(options: &Options, progress: &dyn Progress, interrupt: &AtomicBool) -> Result<Ending, PruneError> {
    if options.fisher.is_some() && options.method() != Method::Snapvit {
        return Err(PruneError::FisherWithoutSnapvit);
    }
    let board = boards::find(options.target.as_deref().unwrap_or_default())?;
    let checkpoint = open_model(options, options.model.as_deref())?;
    let scores = options.scores.as_deref().map(SnapvitScores::read).transpose()?;
    for note in &checkpoint.notes {
        progress.note(note);
    }
    let destination = destination(options, &board);
    let kept_state = JobState::open(&destination, options)?;
    let bundle = BundleWriter::create(&destination, options.force || options.resume)?;
    interrupt::remove_if_stopped(bundle.folder().to_path_buf());
    Job { options, progress, interrupt, board, checkpoint, scores, kept_state, stages: Vec::new() }.run(bundle)
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

/// The folder beside the bundle in which a job keeps what it needs to go on
/// after an interruption.
struct JobState {
    folder: PathBuf,
    resume: bool,
}

impl JobState {
    fn open(destination: &Path, options: &Options) -> Result<Self, PruneError> {
        let mut name = destination.file_name().unwrap_or_default().to_os_string();
        name.push(".checkpoint");
        let folder = destination.with_file_name(name);
        let occupied = folder.exists();
        if occupied && !options.resume {
            if !options.force {
                return Err(PruneError::Unfinished { folder });
            }
            std::fs::remove_dir_all(&folder).map_err(|source| PruneError::State { folder: folder.clone(), source })?;
        }
        if options.resume && !occupied {
            return Err(PruneError::NothingToResume { folder });
        }
        Ok(Self { folder, resume: options.resume })
    }

    fn create(&self) -> Result<(), PruneError> {
        std::fs::create_dir_all(&self.folder)
            .map_err(|source| PruneError::State { folder: self.folder.clone(), source })
    }

    fn importance(&self) -> PathBuf {
        self.folder.join("importance.safetensors")
    }

    fn search(&self) -> CheckpointFile {
        CheckpointFile { path: self.folder.join("search.json"), resume: self.resume }
    }

    /// A finished job needs no state; what cannot be removed is only clutter.
    fn remove(&self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
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

struct Job<'a> {
    options: &'a Options,
    progress: &'a dyn Progress,
    interrupt: &'a AtomicBool,
    board: Board,
    checkpoint: Checkpoint,
    scores: Option<SnapvitScores>,
    kept_state: JobState,
    stages: Vec<StageReport>,
}

impl Job<'_> {
    fn run(mut self, bundle: BundleWriter) -> Result<Ending, PruneError> {
        let shape = shape_with_floors(&self.checkpoint, self.options)?;
        if let Some(scores) = &self.scores {
            scores.for_model(&self.checkpoint.description)?;
        }
        let weights = self.checkpoint.weights()?;
        let images = self.images()?;
        let importance = self.importance(&weights, &images)?;
        let quanta = Quanta::new(&shape, &importance.neurons, &importance.heads)?;
        let fitted = self.search(&weights, &quanta, &images)?;
        let interrupted = fitted.stop == StopReason::Interrupted;

        let path = SparsityPath::new(&self.options.sparsities, quanta.limit())?;
        let ranking = RemovalOrder::new(&quanta, &fitted.factors, self.arrangement(&shape)).rank(&path);
        let permutation = permutation(&ranking);
        let rungs =
            self.ladder(&permutation.apply(&self.checkpoint.description, &weights)?, &shape, &ranking, &images)?;
        drop(weights);

        let report = self.write(bundle, &shape, &ranking, &permutation, &rungs, &fitted, &images)?;
        if !interrupted {
            self.kept_state.remove();
        }
        Ok(Ending { report, interrupted })
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
        let result = run(self)?;
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

    /// The importance of every structure: from `--scores`, or from an interrupted job where it fits, or else computed.
    fn importance(&mut self, weights: &Weights, images: &JobImages) -> Result<Importance, PruneError> {
        if let Some(scores) = &self.scores {
            let made_for = scores.model_type.as_deref().unwrap_or("an unnamed model");
            self.progress.note(&format!("importance: the published scores for {made_for}"));
            return Ok(scores.for_model(&self.checkpoint.description)?.clone());
        }
        let fingerprint = self.importance_fingerprint(weights, images);
        let file = self.kept_state.importance();
        let blocks = self.checkpoint.description.blocks.len();
        if let Some(importance) = importance_file::load(&file, blocks, &fingerprint) {
            self.progress.note("importance: taken from the interrupted job");
            return Ok(importance);
        }
        let count = images.calibration_count() as u64;
        let (per_image, what) = match self.options.method() {
            Method::Headroom => (Passes { forward: 1, backward: PROBES as u64 }, "fidelity along the masks"),
            Method::Snapvit => {
                let views = images.views_per_image() as u64;
                (Passes { forward: views, backward: views }, "self-supervised Fisher")
            }
        };
        let passes = Passes { forward: count * per_image.forward, backward: count * per_image.backward };
        let importance = self.stage(
            "importance",
            |_| passes,
            |job| {
                let device = job.options.device.resolve()?;
                job.progress.begin("importance", count, "images");
                let model = CandleVit::load(&job.checkpoint.description, weights, &device, DType::F32)?;
                let importance = match job.options.method() {
                    Method::Headroom => job.sensitivity(&model, images)?,
                    Method::Snapvit => job.fisher(&model, images)?,
                };
                job.progress.end(&format!("{what} of {count} images"));
                Ok(importance)
            },
        )?;
        self.kept_state.create()?;
        importance_file::save(&file, &importance, &fingerprint)
            .map_err(|source| PruneError::State { folder: self.kept_state.folder.clone(), source })?;
        Ok(importance)
    }

    fn sensitivity(&self, model: &CandleVit, images: &JobImages) -> Result<Importance, PruneError> {
        let options = sensitivity::Options { probes: PROBES, seed: self.options.seed, interrupt: self.interrupt };
        Ok(sensitivity::estimate(model, images.calibration(), options, &|done| self.progress.done(done as u64))?)
    }

    fn fisher(&self, model: &CandleVit, images: &JobImages) -> Result<Importance, PruneError> {
        let on_cpu = model.device().is_cpu();
        let workers = if on_cpu { std::thread::available_parallelism().ok() } else { None };
        let options = importance::Options {
            form: self.options.fisher.unwrap_or(FisherForm::Accumulated),
            workers: workers.unwrap_or(NonZeroUsize::MIN),
            interrupt: self.interrupt,
        };
        let views = images.views()?.map(Ok::<_, Infallible>);
        Ok(importance::estimate(model, views, options, &|done| self.progress.done(done as u64))?)
    }

    /// Everything that importance depends on.
    fn importance_fingerprint(&self, weights: &Weights, images: &JobImages) -> String {
        let Options { fisher, seed, .. } = self.options;
        let mut text = format!("{:?} {fisher:?} {seed} {:?}", self.options.method(), self.checkpoint.description);
        for (name, tensor) in weights.iter() {
            text.push_str(name);
            text.push_str(&sha256_hex(&little_endian(&tensor.data)));
        }
        text.push_str(&sha256_hex(&little_endian(images.calibration())));
        sha256_hex(text.as_bytes())
    }

    fn search(&mut self, weights: &Weights, quanta: &Quanta, images: &JobImages) -> Result<Fitted, PruneError> {
        let count = images.calibration_count() as u64;
        let dense = u64::from(self.options.evaluations() > 0);
        let passes = |fitted: &Fitted| Passes::forward((fitted.statistics.embedded as u64 + dense) * count);
        let arrangement = self.arrangement(quanta.shape());
        self.stage("search", passes, |job| {
            let description = &job.checkpoint.description;
            let sorted = sorted_neurons(quanta, description.heads).apply(description, weights)?;
            let vit = ElasticVit::new(description, &sorted)?;
            let embedder =
                CpuEmbedder::new(&vit, images.calibration(), images.pixels_per_image(), description.embed_dim);
            let fisher = job.scores.is_none() && job.options.method() == Method::Snapvit;
            // Other scores compare between blocks as they are.
            let start = if fisher { Factors::start } else { Factors::ones }(quanta.shape());
            let problem = Problem { quanta, arrangement, sparsities: &job.options.sparsities, start: &start };
            let options = FitOptions {
                evaluations: job.options.evaluations() as usize,
                checkpoint: Some(job.kept_state.search()),
                ..FitOptions::new(job.interrupt)
            };
            let strategy = Xnes::new(XnesOptions::new(start.values().to_vec(), job.options.seed))?;
            let mut observe = |event| job.tell(event);
            job.progress.begin("search", u64::from(job.options.evaluations()), "evaluations");
            let fitted = search::fit(&problem, strategy, &mut SearchEmbedder(embedder), &options, &mut observe)?;
            job.progress.end(&match (fitted.fitness, fitted.history.first()) {
                (Some(best), Some(start)) => {
                    format!("{}; fitness {best:.4} (start {start:.4}); {}", fitted.stop, fitted.statistics)
                }
                _ => "none: the scores rank as they are".to_owned(),
            });
            Ok(fitted)
        })
    }

    fn tell(&self, event: FitEvent) {
        if let FitEvent::Evaluated { evaluated, .. } = event {
            self.progress.done(evaluated as u64);
        }
    }

    fn ladder(
        &mut self,
        weights: &Weights,
        shape: &ModelShape,
        ranking: &Ranking,
        images: &JobImages,
    ) -> Result<Vec<Rung<'static>>, PruneError> {
        let passes = |rungs: &Vec<Rung<'_>>| Passes::forward((rungs.len() * images.fidelity_count()) as u64);
        self.stage("ladder", passes, |job| {
            let description = &job.checkpoint.description;
            let rungs = ladder::even_rungs(shape, &ranking.steps, usize::from(job.options.rungs))?;
            let vit = ElasticVit::new(description, weights)?;
            let embedder = CpuEmbedder::new(&vit, images.fidelity(), images.pixels_per_image(), description.embed_dim);
            job.progress.begin("ladder", rungs.len() as u64, "rungs");
            let measured =
                measure::measure(shape, &ranking.steps, &rungs, &embedder, &job.board.profile, job.progress)?;
            job.progress.end(&format!("{} rungs measured on {} images", rungs.len(), images.fidelity_count()));
            Ok(measured)
        })
    }

    #[expect(clippy::too_many_arguments, reason = "everything the job has made comes together here")]
    fn write(
        &mut self,
        mut bundle: BundleWriter,
        shape: &ModelShape,
        ranking: &Ranking,
        permutation: &Permutation,
        rungs: &[Rung<'_>],
        fitted: &Fitted,
        images: &JobImages,
    ) -> Result<PruneReport, PruneError> {
        let weights_path = bundle.folder().join(WEIGHTS_FILE);
        let weights_sha256 = self.checkpoint.write_permuted(permutation, &weights_path).map_err(PruneError::Weights)?;
        let size = std::fs::metadata(&weights_path)
            .map_err(|source| PruneError::State { folder: bundle.folder().to_path_buf(), source })?;
        bundle.record(WEIGHTS_FILE, size.len(), hex(&weights_sha256));

        let map = structure_map(shape, weights_sha256, &ranking.steps, rungs)?;
        bundle.add(STRUCTURE_MAP_FILE, &map)?;
        let description = serde_json::to_vec_pretty(&self.checkpoint.description).map_err(PruneError::Description)?;
        bundle.add(DESCRIPTION_FILE, &description)?;
        bundle.add(BOARD_FILE, self.board.text.as_bytes())?;
        if let Some(config) = self.checkpoint.config() {
            bundle.add(CONFIG_FILE, config.as_bytes())?;
        }
        let lines = measure::report(shape, &ranking.steps, rungs)?;
        let title = format!("{} on {}", self.checkpoint.description.family, self.board.name);
        bundle.add(CHART_FILE, picture::svg(&title, &lines).map_err(PruneError::Picture)?.as_bytes())?;

        let destination = bundle.destination().to_path_buf();
        let manifest = bundle.finish(&Provenance {
            target: self.board.name.to_owned(),
            model: self.checkpoint.description.family.clone(),
            seed: self.options.seed,
            search: fitted.stop.to_string(),
        })?;
        self.progress.note(&format!("bundle: {}", destination.display()));
        self.report(&manifest, destination, shape, fitted, images, lines, map.len())
    }

    #[expect(clippy::too_many_arguments, reason = "everything the job has made is told here")]
    fn report(
        &mut self,
        manifest: &Manifest,
        bundle: PathBuf,
        shape: &ModelShape,
        fitted: &Fitted,
        images: &JobImages,
        ladder: Vec<super::RungReport>,
        structure_map_bytes: usize,
    ) -> Result<PruneReport, PruneError> {
        let image = &self.checkpoint.description.image;
        let written = std::fs::read(bundle.join(MANIFEST_FILE))
            .map_err(|source| PruneError::State { folder: bundle.clone(), source })?;
        Ok(PruneReport {
            version: REPORT_VERSION,
            target: manifest.target.clone(),
            method: if self.scores.is_some() { "published scores" } else { self.options.method().name() },
            model: ModelReport {
                family: manifest.model.clone(),
                parameters: self.checkpoint.parameters(),
                blocks: usize::from(shape.blocks),
                heads: usize::from(shape.heads),
                neurons: usize::from(shape.neurons),
                image_size: (image.height, image.width),
            },
            images: ImagesReport {
                source: images.source().to_owned(),
                calibration: images.calibration_count(),
                fidelity: images.fidelity_count(),
                held_out: images.held_out(),
                unreadable: images.unreadable(),
            },
            stages: std::mem::take(&mut self.stages),
            scores: self.scores.as_ref().map(|scores| ScoresReport::new(scores, self.options)),
            search: SearchReport {
                stopped: fitted.stop.to_string(),
                evaluations: fitted.history.len(),
                sub_networks: fitted.statistics.asked,
                saved_by_memo: fitted.statistics.saved(),
                first_fitness: fitted.history.first().copied(),
                best_fitness: fitted.fitness,
            },
            ladder,
            bundle_sha256: sha256_hex(&written),
            bundle,
            structure_map_bytes,
        })
    }
}

/// The shape of the model with the floors of the options.
pub(super) fn shape_with_floors(checkpoint: &Checkpoint, options: &Options) -> Result<ModelShape, PruneError> {
    let mut shape = model_shape(checkpoint)?;
    options.floors().apply(&mut shape)?;
    Ok(shape)
}

/// The file content of the map.
fn structure_map(
    shape: &ModelShape,
    weights_sha256: [u8; 32],
    steps: &[u8],
    rungs: &[Rung<'_>],
) -> Result<Vec<u8>, PruneError> {
    let ladder = Ladder::from_rungs(rungs).map_err(headroom_shared::StructureMapError::from)?;
    let map = StructureMap::new(*shape, weights_sha256, steps, ladder)?;
    let mut bytes = vec![0; encoded_bound(steps.len())];
    let length = map.write(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}

/// The order of heads and neurons that makes every sub-network a prefix.
fn permutation(ranking: &Ranking) -> Permutation {
    let order = |order: &[u16]| order.iter().map(|&index| usize::from(index)).collect();
    let blocks = ranking.heads.iter().zip(&ranking.neurons);
    let blocks = blocks.map(|(heads, neurons)| BlockOrder { heads: order(heads), neurons: order(neurons) }).collect();
    Permutation { blocks }
}

/// Neurons by falling importance, heads as they are: what the search runs on.
fn sorted_neurons(quanta: &Quanta, heads: usize) -> Permutation {
    let order = |neurons: &[u16]| BlockOrder {
        heads: (0..heads).collect(),
        neurons: neurons.iter().map(|&index| usize::from(index)).collect(),
    };
    Permutation { blocks: quanta.neuron_orders().map(order).collect() }
}

fn little_endian(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// The engine as the search sees it.
struct SearchEmbedder<'a>(CpuEmbedder<'a>);

impl Embedder for SearchEmbedder<'_> {
    type Error = EngineError;

    fn dimensions(&self) -> usize {
        self.0.embed_dim()
    }

    fn embed(&mut self, kept: &Selection) -> Result<Option<Vec<f32>>, EngineError> {
        self.0.embed(kept).map(Some)
    }
}

/// Whether the user has asked to stop.
pub(super) fn is_set(interrupt: &AtomicBool) -> bool {
    interrupt.load(Ordering::Relaxed)
}
