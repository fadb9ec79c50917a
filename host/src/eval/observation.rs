//! What the engine computes for every image at every rung.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use headroom_device::bundle::Bundle;
use headroom_device::engine::Workspace;
use headroom_device::images::{Preprocessor, decode_file};
use headroom_device::integer::frames;
use headroom_device::switch::RungTable;
use headroom_shared::{KeptStructures, SubNetwork};
use rayon::prelude::*;

use super::EvalError;
use super::gpu::GpuRungs;
use super::integer::IntegerRungs;
use super::labelled_images::LabelledImages;
use crate::embedder::cosine;
use crate::progress::Progress;

/// Images that one thread decodes and runs together.
const IMAGES_PER_RUN: usize = 4;

/// What was seen of the readable images of a folder.
pub(super) struct Observations {
    pub embed_dim: usize,
    /// The class of each image.
    pub labels: Vec<usize>,
    pub rungs: Vec<RungObservations>,
}

/// What was seen at one rung.
#[derive(Clone, Default)]
pub(super) struct RungObservations {
    /// `[images, embed_dim]`.
    pub pooled: Vec<f32>,
    /// The head's first class for each image, where the model has a head.
    pub predicted: Option<Vec<usize>>,
    /// For each image its cosine to the dense model, of the embedding, and the mean over patch tokens. Empty unless
    /// asked for.
    pub pooled_cosines: Vec<f64>,
    pub patch_cosines: Vec<f64>,
    /// In integers: for each image its embedding's cosine to that of the same rung in f32. Empty unless asked for.
    pub f32_cosines: Vec<f64>,
}

/// What an engine computed for some images.
pub(super) struct Pass {
    /// `[images, embed_dim]`.
    pub pooled: Vec<f32>,
    /// After the final norm, `[images, tokens, embed_dim]`.
    pub tokens: Vec<f32>,
    /// `[images, classes]`.
    pub logits: Option<Vec<f32>>,
}

/// What runs the rungs.
pub(super) enum RungEngine<'a> {
    /// The engine of the bundle, in f32.
    Cpu,
    Integers(Box<IntegerRungs<'a>>),
    Gpus(GpuRungs),
}

impl<'a> RungEngine<'a> {
    /// Where rungs run in integers.
    pub fn integers(&self) -> Option<&IntegerRungs<'a>> {
        match self {
            Self::Integers(integers) => Some(integers),
            Self::Cpu | Self::Gpus(_) => None,
        }
    }
}

/// Runs every image at every one of `rungs`; with `compared` also in f32 with all
/// structures and the original weights, for the cosines. Unreadable images are told and left out. The result does not
/// depend on the number of threads.
///
/// # Errors
/// If no image is readable, the engine fails, or `interrupt` is set.
#[expect(clippy::too_many_arguments, reason = "what is seen depends on all of them")]
pub(super) fn observe(
    bundle: &Bundle,
    engine: &RungEngine<'_>,
    rungs: &[usize],
    images: &LabelledImages,
    preprocessor: &Preprocessor,
    compared: bool,
    progress: &dyn Progress,
    interrupt: &AtomicBool,
) -> Result<Observations, EvalError> {
    let map = bundle.structure_map();
    let run = Run {
        bundle,
        integers: engine.integers(),
        dense: SubNetwork::dense(map.shape()),
        table: RungTable::new(&map).sub_networks().to_vec(),
        rungs,
        compared,
        workspaces: Mutex::new(Vec::new()),
    };
    let mut all = run.nothing();
    let parts = match engine {
        RungEngine::Gpus(gpus) => {
            gpus.observe(&run, &images.files, &images.labels, preprocessor, progress, interrupt)?
        }
        RungEngine::Cpu | RungEngine::Integers(_) => on_cpu(&run, images, preprocessor, progress, interrupt)?,
    };
    parts.into_iter().for_each(|part| all.extend(part));
    if all.labels.is_empty() {
        let path = images.files.first().and_then(|file| file.parent()).unwrap_or(std::path::Path::new(""));
        return Err(EvalError::NoImages { path: path.to_path_buf() });
    }
    Ok(all)
}

fn on_cpu(
    run: &Run<'_, '_>,
    images: &LabelledImages,
    preprocessor: &Preprocessor,
    progress: &dyn Progress,
    interrupt: &AtomicBool,
) -> Result<Vec<Observations>, EvalError> {
    let done = AtomicUsize::new(0);
    let part = |(files, labels): (&[PathBuf], &[usize])| -> Result<Observations, EvalError> {
        if interrupt.load(Ordering::Relaxed) {
            return Err(EvalError::Interrupted { images: done.load(Ordering::Relaxed) });
        }
        let (pixels, readable) = decoded(files, labels, preprocessor, progress)?;
        let seen = run.batch(&pixels, readable)?;
        progress.done((done.fetch_add(files.len(), Ordering::Relaxed) + files.len()) as u64);
        Ok(seen)
    };
    let parts = images.files.par_chunks(IMAGES_PER_RUN).zip(images.labels.par_chunks(IMAGES_PER_RUN)).map(part);
    parts.collect()
}

/// The pixels of the readable images among `files`, and their labels. Files of the calling thread's pool in parallel.
pub(super) fn decoded(
    files: &[PathBuf],
    labels: &[usize],
    preprocessor: &Preprocessor,
    progress: &dyn Progress,
) -> Result<(Vec<f32>, Vec<usize>), EvalError> {
    let decode = |preprocessor: &mut Preprocessor, (file, &label): (&PathBuf, &usize)| match decode_file(file) {
        Ok(image) => Ok::<_, EvalError>(Some((preprocessor.evaluation(&image)?, label))),
        Err(error) => {
            progress.note(&format!("skipped: {error}"));
            Ok(None)
        }
    };
    let found = files.par_iter().zip(labels).with_min_len(IMAGES_PER_RUN);
    let found = found.map_init(|| preprocessor.clone(), decode).collect::<Result<Vec<_>, _>>()?;
    let (pixels, readable): (Vec<_>, Vec<usize>) = found.into_iter().flatten().unzip();
    Ok((pixels.concat(), readable))
}

pub(super) struct Run<'a, 'm> {
    pub bundle: &'a Bundle,
    integers: Option<&'a IntegerRungs<'m>>,
    pub dense: SubNetwork,
    /// Of every rung of the ladder.
    pub table: Vec<SubNetwork>,
    pub rungs: &'a [usize],
    pub compared: bool,
    workspaces: Mutex<Vec<Workspace>>,
}

impl Run<'_, '_> {
    pub fn nothing(&self) -> Observations {
        let predicted = self.bundle.vit().classes().map(|_| Vec::new());
        let rung = RungObservations { predicted, ..RungObservations::default() };
        let embed_dim = self.bundle.description().embed_dim;
        Observations { embed_dim, labels: Vec::new(), rungs: vec![rung; self.rungs.len()] }
    }

    fn batch(&self, pixels: &[f32], labels: Vec<usize>) -> Result<Observations, EvalError> {
        let mut seen = self.nothing();
        let images = labels.len();
        seen.labels = labels;
        if images == 0 {
            return Ok(seen);
        }
        let spare = self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut workspace = spare.unwrap_or_else(|| self.bundle.vit().workspace(IMAGES_PER_RUN));
        let image = &self.bundle.description().image;
        let integers = self.integers.map(|integers| (integers, frames(pixels, image)));
        let dense = self.compared.then(|| self.run(&mut workspace, pixels, images, &self.dense)).transpose()?;
        for (&rung, seen) in self.rungs.iter().zip(&mut seen.rungs) {
            let mut in_f32 =
                || self.run(&mut workspace, pixels, images, &self.bundle.corrected(rung, &self.table[rung]));
            let pass = match &integers {
                Some((integers, frames)) => integers.run(frames, rung, &self.table[rung])?,
                None => in_f32()?,
            };
            let width = pass.pooled.len() / images;
            let patch_cosines = dense.as_ref().map_or_else(Vec::new, |dense| {
                let prefix = self.bundle.description().prefix_tokens() * width;
                let image = dense.tokens.len() / images;
                let pairs = pass.tokens.chunks_exact(image).zip(dense.tokens.chunks_exact(image));
                pairs.map(|(a, b)| mean_of_tokens(&a[prefix..], &b[prefix..], width)).collect()
            });
            let dense = dense.as_ref().map(|dense| dense.pooled.as_slice());
            seen.add(images, &pass.pooled, pass.logits.as_deref(), dense, patch_cosines);
            if integers.is_some() && dense.is_some() {
                seen.f32_cosines.extend(cosines(&pass.pooled, &in_f32()?.pooled, width));
            }
        }
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        Ok(seen)
    }

    fn run(
        &self,
        workspace: &mut Workspace,
        pixels: &[f32],
        images: usize,
        kept: &impl KeptStructures,
    ) -> Result<Pass, EvalError> {
        let output = self.bundle.vit().forward(workspace, pixels, images, kept)?;
        let logits = output.logits.map(<[f32]>::to_vec);
        Ok(Pass { pooled: output.pooled.to_vec(), tokens: output.tokens.to_vec(), logits })
    }
}

impl RungObservations {
    /// Adds what was computed for so many images, and where there is something to compare with by how much it is off.
    pub fn add(
        &mut self,
        images: usize,
        pooled: &[f32],
        logits: Option<&[f32]>,
        dense: Option<&[f32]>,
        patch_cosines: Vec<f64>,
    ) {
        self.pooled.extend_from_slice(pooled);
        if let (Some(predicted), Some(logits)) = (&mut self.predicted, logits) {
            predicted.extend(logits.chunks_exact(logits.len() / images).map(first_class));
        }
        self.pooled_cosines.extend(dense.map_or_else(Vec::new, |dense| cosines(pooled, dense, pooled.len() / images)));
        self.patch_cosines.extend(patch_cosines);
    }
}

impl Observations {
    fn extend(&mut self, later: Self) {
        self.labels.extend(later.labels);
        for (rung, later) in self.rungs.iter_mut().zip(later.rungs) {
            rung.pooled.extend(later.pooled);
            rung.pooled_cosines.extend(later.pooled_cosines);
            rung.patch_cosines.extend(later.patch_cosines);
            rung.f32_cosines.extend(later.f32_cosines);
            if let (Some(predicted), Some(later)) = (&mut rung.predicted, later.predicted) {
                predicted.extend(later);
            }
        }
    }
}

/// The cosine of every row.
fn cosines(a: &[f32], b: &[f32], width: usize) -> Vec<f64> {
    a.chunks_exact(width).zip(b.chunks_exact(width)).map(|(a, b)| cosine(a, b)).collect()
}

fn mean_of_tokens(a: &[f32], b: &[f32], width: usize) -> f64 {
    let pairs = a.chunks_exact(width).zip(b.chunks_exact(width));
    let tokens = pairs.len() as f64;
    pairs.map(|(a, b)| cosine(a, b)).sum::<f64>() / tokens
}

/// The class of the largest logit, the first of equal ones.
fn first_class(logits: &[f32]) -> usize {
    let better = |best: usize, class: usize| if logits[class] > logits[best] { class } else { best };
    (0..logits.len()).reduce(better).unwrap_or(0)
}
