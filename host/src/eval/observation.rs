//! What the engine computes for every image at every rung.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use headroom_device::bundle::Bundle;
use headroom_device::engine::Workspace;
use headroom_device::images::{Preprocessor, decode_file};
use headroom_device::switch::RungTable;
use headroom_shared::{KeptStructures, SubNetwork};
use rayon::prelude::*;

use super::EvalError;
use super::integer::IntegerRungs;
use super::labelled_images::LabelledImages;
use crate::embedder::cosine;
use crate::progress::Progress;
use crate::quantisation::frames;

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

/// Runs every image at every one of `rungs`, in integers where `integers` are given; with `compared` also in f32 with all
/// structures and the original weights, for the cosines. Unreadable images are told and left out. The result does not
/// depend on the number of threads.
///
/// # Errors
/// If no image is readable, the engine fails, or `interrupt` is set.
#[expect(clippy::too_many_arguments, reason = "what is seen depends on all of them")]
pub(super) fn observe(
    bundle: &Bundle,
    integers: Option<&IntegerRungs<'_>>,
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
        integers,
        dense: SubNetwork::dense(map.shape()),
        table: RungTable::new(&map).sub_networks().to_vec(),
        rungs,
        compared,
        workspaces: Mutex::new(Vec::new()),
    };
    let done = AtomicUsize::new(0);
    let part = |(files, labels): (&[std::path::PathBuf], &[usize])| -> Result<Observations, EvalError> {
        if interrupt.load(Ordering::Relaxed) {
            return Err(EvalError::Interrupted { images: done.load(Ordering::Relaxed) });
        }
        let mut preprocessor = preprocessor.clone();
        let (mut pixels, mut readable) = (Vec::new(), Vec::new());
        for (file, &label) in files.iter().zip(labels) {
            match decode_file(file) {
                Ok(image) => {
                    pixels.extend(preprocessor.evaluation(&image)?);
                    readable.push(label);
                }
                Err(error) => progress.note(&format!("skipped: {error}")),
            }
        }
        let seen = run.batch(&pixels, readable)?;
        progress.done((done.fetch_add(files.len(), Ordering::Relaxed) + files.len()) as u64);
        Ok(seen)
    };
    let parts = images.files.par_chunks(IMAGES_PER_RUN).zip(images.labels.par_chunks(IMAGES_PER_RUN)).map(part);
    let parts: Vec<Observations> = parts.collect::<Result<_, _>>()?;
    let mut all = run.nothing();
    parts.into_iter().for_each(|part| all.add(part));
    if all.labels.is_empty() {
        let path = images.files.first().and_then(|file| file.parent()).unwrap_or(std::path::Path::new(""));
        return Err(EvalError::NoImages { path: path.to_path_buf() });
    }
    Ok(all)
}

struct Run<'a, 'm> {
    bundle: &'a Bundle,
    integers: Option<&'a IntegerRungs<'m>>,
    dense: SubNetwork,
    /// Of every rung of the ladder.
    table: Vec<SubNetwork>,
    rungs: &'a [usize],
    compared: bool,
    workspaces: Mutex<Vec<Workspace>>,
}

impl Run<'_, '_> {
    fn nothing(&self) -> Observations {
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
            seen.pooled.extend_from_slice(&pass.pooled);
            if let (Some(predicted), Some(logits)) = (&mut seen.predicted, &pass.logits) {
                predicted.extend(logits.chunks_exact(logits.len() / images).map(first_class));
            }
            let Some(dense) = &dense else { continue };
            let width = pass.pooled.len() / images;
            let cosines = |a: &[f32], b: &[f32]| -> Vec<f64> {
                a.chunks_exact(width).zip(b.chunks_exact(width)).map(|(a, b)| cosine(a, b)).collect()
            };
            seen.pooled_cosines.extend(cosines(&pass.pooled, &dense.pooled));
            let prefix = self.bundle.description().prefix_tokens() * width;
            let image = dense.tokens.len() / images;
            let pairs = pass.tokens.chunks_exact(image).zip(dense.tokens.chunks_exact(image));
            seen.patch_cosines.extend(pairs.map(|(a, b)| mean_of_tokens(&a[prefix..], &b[prefix..], width)));
            if integers.is_some() {
                seen.f32_cosines.extend(cosines(&pass.pooled, &in_f32()?.pooled));
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

impl Observations {
    fn add(&mut self, later: Self) {
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
