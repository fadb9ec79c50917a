//! The buffers of one thread, sized once for the dense model.

use super::matmul::Segment;
use super::panel::{PanelRow, panels, storage};
use super::selection::Selection;
use super::simd::MAX_TILE_ROWS;
use super::sizes::Sizes;

/// Rows (tokens of whole images) whose attention is computed together: enough to use each weight
/// many times, few enough to stay in a core's own cache.
const ATTENTION_ROWS: usize = 196;

/// Rows whose MLP is computed together, for the same reasons; the hidden layer is wide.
pub(super) const MLP_ROWS: usize = 112;

/// What a forward pass writes to: one for each thread that runs the model.
///
/// Made by [`ElasticVit::workspace`](super::ElasticVit::workspace). No buffer grows afterwards.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub(super) sizes: Sizes,
    pub(super) max_batch: usize,
    pub(super) selection: Selection,
    /// The residual stream, `[batch, tokens, embed_dim]`.
    pub(super) stream: Vec<f32>,
    /// The tokens after the final norm, `[batch, tokens, embed_dim]`.
    pub(super) tokens: Vec<f32>,
    pub(super) pooled: Vec<f32>,
    /// `[batch, classes]` each; the second and third only for a head of two classifiers.
    pub(super) logits: [Vec<f32>; 3],
    pub(super) scratch: Scratch,
}

/// Buffers that hold nothing from one step to the next.
#[derive(Clone, Debug)]
pub(super) struct Scratch {
    /// One normalised row.
    pub row: Vec<PanelRow>,
    /// Normalised tokens.
    pub normed: Vec<PanelRow>,
    /// Pixels of an image's patches.
    pub patches: Vec<PanelRow>,
    /// Query, key and value of one head.
    pub head: Vec<PanelRow>,
    /// Keys of one head and image, transposed.
    pub keys: Vec<PanelRow>,
    pub scores: Vec<PanelRow>,
    /// What the heads found, before the projection.
    pub attended: Vec<PanelRow>,
    pub hidden: Vec<PanelRow>,
    pub segments: Vec<Segment>,
    /// Class token and mean patch of each image, for a head that reads both.
    pub joined: Vec<f32>,
}

impl Workspace {
    pub(super) fn new(sizes: Sizes, max_batch: usize, two_classifiers: bool) -> Self {
        let values = max_batch * sizes.image_values();
        let classes = max_batch * sizes.classes;
        let second = if two_classifiers { classes } else { 0 };
        Self {
            sizes,
            max_batch,
            selection: Selection::new(&sizes),
            stream: vec![0.0; values],
            tokens: vec![0.0; values],
            pooled: vec![0.0; max_batch * sizes.embed_dim],
            logits: [classes, second, second].map(|length| vec![0.0; length]),
            scratch: Scratch::new(&sizes, max_batch),
        }
    }
}

impl Scratch {
    fn new(sizes: &Sizes, max_batch: usize) -> Self {
        let Sizes { tokens, embed_dim, heads, head_dim, neurons, .. } = *sizes;
        let attention_rows = images_together(tokens).min(max_batch) * tokens;
        let mlp_rows = MLP_ROWS.min(max_batch * tokens);
        let (pooling_heads, pooling_head_dim) = (sizes.pooling_heads, sizes.pooling_head_dim());
        let head = (3 * attention_rows * panels(head_dim)).max(2 * tokens * panels(pooling_head_dim));
        let attended =
            (attention_rows * heads * panels(head_dim)).max(max_batch * pooling_heads * panels(pooling_head_dim));
        let hidden = (mlp_rows * panels(neurons)).max(max_batch * panels(sizes.pooling_neurons));
        // The head of a classifier may read two tokens.
        let normed =
            (attention_rows.max(mlp_rows).max(tokens) * panels(embed_dim)).max(max_batch * panels(2 * embed_dim));
        Self {
            row: storage(1, embed_dim),
            normed: vec![PanelRow::ZERO; normed],
            patches: storage(sizes.patches(), sizes.patch_values()),
            head: vec![PanelRow::ZERO; head],
            keys: storage(head_dim.max(pooling_head_dim), tokens),
            scores: storage(MAX_TILE_ROWS, tokens),
            attended: vec![PanelRow::ZERO; attended],
            hidden: vec![PanelRow::ZERO; hidden],
            segments: Vec::with_capacity(heads.max(pooling_heads)),
            joined: vec![0.0; max_batch * 2 * embed_dim],
        }
    }
}

/// Images whose attention is computed together, at least one.
pub(super) fn images_together(tokens: usize) -> usize {
    (ATTENTION_ROWS / tokens).max(1)
}
