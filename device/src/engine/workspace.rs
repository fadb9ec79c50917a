//! The buffers and threads of a forward pass, made once for the dense model.

use super::chunks::{MOST_TOKENS, most_of_few_chunks};
use super::heads_step::{Progress, slot_size, slots};
use super::matmul::Segment;
use super::merge_step::MergeScratch;
use super::panel::{PanelRow, panels, storage};
use super::selection::Selection;
use super::simd::MAX_TILE_ROWS;
use super::sizes::Sizes;
use super::team::Team;
use super::token_groups::TokenGroups;

/// Rows (tokens of whole images) whose attention is computed together: enough to use each weight
/// many times, few enough to stay in a core's own cache.
const ATTENTION_ROWS: usize = 196;

/// What a forward pass writes to, and the threads that share it: one for each pass at a time.
///
/// Made by [`ElasticVit::workspace`](super::ElasticVit::workspace). No buffer grows afterwards. The
/// threads of a workspace sleep between passes and end with it.
#[derive(Debug)]
pub struct Workspace {
    pub(super) sizes: Sizes,
    pub(super) max_batch: usize,
    pub(super) selection: Selection,
    /// The residual stream, `[batch, tokens, embed_dim]`.
    pub(super) stream: Vec<f32>,
    /// The tokens after the final norm, `[batch, tokens, embed_dim]`.
    pub(super) tokens: Vec<f32>,
    /// Which patches each token stands for, once tokens were merged.
    pub(super) groups: TokenGroups,
    pub(super) pooled: Vec<f32>,
    /// `[batch, classes]` each; the second and third only for a head of two classifiers.
    pub(super) logits: [Vec<f32>; 3],
    pub(super) scratch: Scratch,
    /// One for each thread.
    pub(super) locals: Vec<Local>,
    pub(super) team: Team,
}

/// Buffers of all threads that hold nothing from one step to the next but one.
#[derive(Debug)]
pub(super) struct Scratch {
    /// Normalised tokens, `[batch * tokens, embed_dim]`.
    pub normed: Vec<PanelRow>,
    /// Query, key and value of the heads that are being computed.
    pub slots: Vec<PanelRow>,
    pub progress: Vec<Progress>,
    /// What the heads found, before the projection, `[batch * tokens, heads * head_dim]`.
    pub attended: Vec<PanelRow>,
    /// The hidden layer of chunks whose outputs threads divide.
    pub hidden: Vec<PanelRow>,
    /// The keys of all heads, as `attended`, where tokens are merged.
    pub keys: Vec<PanelRow>,
    pub merge: MergeScratch,
    pub segments: Vec<Segment>,
    /// Class token and mean patch of each image, for a head that reads both.
    pub joined: Vec<f32>,
}

/// Buffers of one thread.
#[derive(Debug)]
pub(super) struct Local {
    /// One normalised row.
    pub row: Vec<PanelRow>,
    /// A chunk of normalised tokens.
    pub normed: Vec<PanelRow>,
    /// The hidden layer of a chunk.
    pub hidden: Vec<PanelRow>,
    /// Pixels of some patches.
    pub patches: Vec<PanelRow>,
    /// Keys of one head.
    pub keys: Vec<PanelRow>,
    pub scores: Vec<PanelRow>,
    /// The mean key of one token.
    pub key: Vec<f32>,
}

impl Workspace {
    pub(super) fn new(sizes: Sizes, max_batch: usize, threads: usize, two_classifiers: bool) -> Self {
        let values = max_batch * sizes.image_values();
        let classes = max_batch * sizes.classes;
        let second = if two_classifiers { classes } else { 0 };
        let team = Team::new(threads);
        Self {
            sizes,
            max_batch,
            selection: Selection::new(&sizes),
            stream: vec![0.0; values],
            tokens: vec![0.0; values],
            groups: TokenGroups::new(&sizes, max_batch),
            pooled: vec![0.0; max_batch * sizes.embed_dim],
            logits: [classes, second, second].map(|length| vec![0.0; length]),
            scratch: Scratch::new(&sizes, max_batch, team.threads()),
            locals: (0..team.threads()).map(|_| Local::new(&sizes, max_batch)).collect(),
            team,
        }
    }

    /// The threads that share a pass, the calling one counted.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.team.threads()
    }

    /// The most images of a batch.
    #[must_use]
    pub fn max_batch(&self) -> usize {
        self.max_batch
    }
}

impl Scratch {
    fn new(sizes: &Sizes, max_batch: usize, threads: usize) -> Self {
        let Sizes { tokens, embed_dim, heads, head_dim, .. } = *sizes;
        let rows = max_batch * tokens;
        let (pooling_heads, pooling_head_dim) = (sizes.pooling_heads, sizes.pooling_head_dim());
        let slot = slot_size(sizes, images_together(tokens).min(max_batch));
        let attended = (rows * heads * panels(head_dim)).max(max_batch * pooling_heads * panels(pooling_head_dim));
        let few = if threads == 1 { 0 } else { rows.min(most_of_few_chunks(threads)) };
        // The head of a classifier may read two tokens.
        let normed = (rows * panels(embed_dim)).max(max_batch * panels(2 * embed_dim));
        Self {
            normed: vec![PanelRow::ZERO; normed],
            slots: vec![PanelRow::ZERO; (slots(threads) * slot).max(2 * tokens * panels(pooling_head_dim))],
            progress: (0..slots(threads)).map(|_| Progress::default()).collect(),
            attended: vec![PanelRow::ZERO; attended],
            hidden: vec![PanelRow::ZERO; few * panels(sizes.neurons)],
            keys: vec![PanelRow::ZERO; rows * heads * panels(head_dim)],
            merge: MergeScratch::new(sizes, max_batch),
            segments: Vec::with_capacity(heads.max(pooling_heads)),
            joined: vec![0.0; max_batch * 2 * embed_dim],
        }
    }
}

impl Local {
    fn new(sizes: &Sizes, max_batch: usize) -> Self {
        let Sizes { tokens, embed_dim, head_dim, neurons, .. } = *sizes;
        let chunk = MOST_TOKENS.min(max_batch * tokens);
        let together = images_together(tokens).min(max_batch) * tokens;
        let keys = (together * panels(head_dim)).max(sizes.pooling_head_dim() * panels(tokens));
        let hidden = (chunk * panels(neurons)).max(max_batch * panels(sizes.pooling_neurons));
        Self {
            row: storage(1, embed_dim),
            normed: vec![PanelRow::ZERO; chunk * panels(embed_dim)],
            hidden: vec![PanelRow::ZERO; hidden],
            patches: storage(chunk.min(sizes.patches()), sizes.patch_values()),
            keys: vec![PanelRow::ZERO; keys],
            scores: storage(MAX_TILE_ROWS, tokens),
            key: vec![0.0; head_dim],
        }
    }
}

/// Images whose attention is computed together, at least one.
pub(super) fn images_together(tokens: usize) -> usize {
    (ATTENTION_ROWS / tokens).max(1)
}
