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
}

/// Runs every image at every one of `rungs`; with `compared` also with all structures and the original weights, for the
/// cosines. Unreadable images are told and left out. The result does not depend on the number of threads.
///
/// # Errors
/// If no image is readable, the engine fails, or `interrupt` is set.
pub(super) fn observe(
    bundle: &Bundle,
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

struct Run<'a> {
    bundle: &'a Bundle,
    dense: SubNetwork,
    /// Of every rung of the ladder.
    table: Vec<SubNetwork>,
    rungs: &'a [usize],
    compared: bool,
    workspaces: Mutex<Vec<Workspace>>,
}

impl Run<'_> {
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
        let dense = if self.compared {
            let output = self.run(&mut workspace, pixels, images, &self.dense)?;
            Some((output.pooled.to_vec(), output.tokens.to_vec()))
        } else {
            None
        };
        for (&rung, seen) in self.rungs.iter().zip(&mut seen.rungs) {
            let kept = self.bundle.corrected(rung, &self.table[rung]);
            let output = self.run(&mut workspace, pixels, images, &kept)?;
            seen.pooled.extend_from_slice(output.pooled);
            if let (Some(predicted), Some(logits)) = (&mut seen.predicted, output.logits) {
                predicted.extend(logits.chunks_exact(logits.len() / images).map(first_class));
            }
            if let Some((pooled, tokens)) = &dense {
                let width = pooled.len() / images;
                let pairs = output.pooled.chunks_exact(width).zip(pooled.chunks_exact(width));
                seen.pooled_cosines.extend(pairs.map(|(a, b)| cosine(a, b)));
                let prefix = self.bundle.description().prefix_tokens() * width;
                let image = tokens.len() / images;
                let pairs = output.tokens.chunks_exact(image).zip(tokens.chunks_exact(image));
                seen.patch_cosines.extend(pairs.map(|(a, b)| mean_of_tokens(&a[prefix..], &b[prefix..], width)));
            }
        }
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner).push(workspace);
        Ok(seen)
    }

    fn run<'w>(
        &self,
        workspace: &'w mut Workspace,
        pixels: &[f32],
        images: usize,
        kept: &impl KeptStructures,
    ) -> Result<headroom_device::engine::Output<'w>, EvalError> {
        Ok(self.bundle.vit().forward(workspace, pixels, images, kept)?)
    }
}

impl Observations {
    fn add(&mut self, later: Self) {
        self.labels.extend(later.labels);
        for (rung, later) in self.rungs.iter_mut().zip(later.rungs) {
            rung.pooled.extend(later.pooled);
            rung.pooled_cosines.extend(later.pooled_cosines);
            rung.patch_cosines.extend(later.patch_cosines);
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
