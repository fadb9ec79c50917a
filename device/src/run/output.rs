//! What `device-run` prints for one image: a JSON line.

use std::io::{self, Write};

use serde::Serialize;

/// The version of the JSON lines. A field is only ever added within a version.
pub const OUTPUT_VERSION: u32 = 1;

/// Classes that are printed where nothing else was asked for.
pub(crate) const DEFAULT_TOP_K: usize = 5;

/// The result of one image.
#[derive(Clone, Debug, Serialize)]
pub struct Line<'a> {
    /// [`OUTPUT_VERSION`].
    pub version: u32,
    /// The image's path, or `synthetic:N`.
    pub input: &'a str,
    /// The rung that ran.
    pub rung: usize,
    /// Its multiply-accumulates.
    pub macs: u64,
    /// Its fidelity to the dense model, as measured by the host.
    pub fidelity: f32,
    /// The time of the inference, without reading and preprocessing.
    pub milliseconds: f64,
    /// From the acceptance of the frame to the start of its inference, where it was served from a queue.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_milliseconds: Option<f64>,
    /// The most probable classes, best first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Vec<Class<'a>>>,
    /// The image embedding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding: Option<&'a [f32]>,
}

/// Prints a JSON line.
///
/// # Errors
/// If stdout cannot be written to.
pub(crate) fn write_line(line: &impl Serialize) -> io::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, line)?;
    writeln!(out)?;
    out.flush()
}

/// A class of the model's classifier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class<'a> {
    /// Its index in the classifier.
    pub class: usize,
    /// Its name, where the checkpoint's config has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub label: Option<&'a str>,
    /// Softmax of the logits.
    pub probability: f32,
}

/// The `count` most probable classes of one image, best first; `None` where
/// there are no logits, because the model has no classifier.
#[must_use]
pub fn top_classes<'a>(logits: Option<&[f32]>, count: usize, labels: Option<&'a [String]>) -> Option<Vec<Class<'a>>> {
    let logits = logits?;
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = logits.iter().map(|logit| (logit - highest).exp()).sum();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Equal logits keep the order of the classes.
    order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    let class = |class: usize| Class {
        class,
        label: labels.and_then(|labels| labels.get(class)).map(String::as_str),
        probability: (logits[class] - highest).exp() / total,
    };
    Some(order.into_iter().take(count).map(class).collect())
}
