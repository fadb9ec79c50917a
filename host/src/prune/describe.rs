//! What a checkpoint is, what of it can be pruned, and what it costs. Reads
//! configs and the headers of weight files, no weights.

use comfy_table::presets::NOTHING;
use comfy_table::{ContentArrangement, Table};
use headroom_device::model::Description;
use headroom_device::model::description::{
    Activation, Block, CropMode, Head, Linear, Mlp, Pooling, Position, PositionResampling, PrefixKind,
};
use headroom_shared::shape::NEURON_QUANTUM;
use headroom_shared::{ModelShape, Step, StepKind, SubNetwork, cost};
use serde::Serialize;

use super::job::{open_model, shape_with_floors};
use super::report::{ScoresReport, with_prefix};
use super::{Options, PruneError};
use crate::checkpoint::{Checkpoint, TensorStore};
use crate::scores::SnapvitScores;

/// The version of the JSON that `--describe --json` prints. A field is only
/// ever added within a version.
pub const DESCRIBE_VERSION: u32 = 1;

/// What `--describe` tells.
#[derive(Clone, Debug, Serialize)]
pub struct DescribeReport {
    /// [`DESCRIBE_VERSION`].
    pub version: u32,
    /// What the checkpoint was recognised as.
    pub family: String,
    /// What was assumed, chosen or left aside.
    pub notes: Vec<String>,
    /// How weights are stored: F32, F16 or BF16.
    pub stored_as: String,
    /// The input.
    pub input: InputReport,
    /// The tokens of one image.
    pub tokens: TokensReport,
    /// Width of a token.
    pub embed_dim: usize,
    /// Transformer blocks.
    pub blocks: usize,
    /// Heads of a block.
    pub heads: usize,
    /// Dimensions of a head.
    pub head_dim: usize,
    /// Hidden neurons of a block.
    pub neurons: usize,
    /// The MLP: `plain`, or `gated` (gate, up and down go together).
    pub mlp: &'static str,
    /// The nonlinearity of the MLPs.
    pub activation: &'static str,
    /// How tokens know where they are.
    pub positions: String,
    /// Whether branches are scaled before they are added.
    pub layer_scale: bool,
    /// From tokens to the image embedding.
    pub pooling: &'static str,
    /// Outputs of the classifier or projection, where there is one.
    pub classes: Option<usize>,
    /// Weights of the image path.
    pub parameters: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// What pruning can remove.
    pub prunable: PrunableReport,
    /// What stays whole at every size.
    pub whole: Vec<WholeReport>,
    /// The file of `--scores`, where one is given.
    pub scores: Option<ScoresReport>,
}

/// The input that the model expects.
#[derive(Clone, Debug, Serialize)]
pub struct InputReport {
    /// Pixels.
    pub height: usize,
    /// Pixels.
    pub width: usize,
    /// Side of a patch, pixels.
    pub patch: usize,
    /// Of each channel, for values of 0 to 1.
    pub mean: [f32; 3],
    /// Of each channel.
    pub std: [f32; 3],
    /// The filter that images are resized with.
    pub interpolation: String,
    /// The part of the resized shorter side that the centre crop keeps.
    pub crop_fraction: f32,
    /// `center`: what stands out is cut off; `squash`: the sides are scaled each for itself.
    pub crop_mode: &'static str,
}

/// The tokens of one image.
#[derive(Clone, Debug, Serialize)]
pub struct TokensReport {
    /// Class tokens.
    pub class: usize,
    /// Distillation tokens.
    pub distillation: usize,
    /// Registers.
    pub registers: usize,
    /// Patches.
    pub patches: usize,
    /// All of them.
    pub all: usize,
}

/// What pruning can remove.
#[derive(Clone, Debug, Serialize)]
pub struct PrunableReport {
    /// Heads of all blocks.
    pub heads: usize,
    /// Dimensions of all heads.
    pub value_dims: usize,
    /// Neurons of all blocks.
    pub neurons: usize,
    /// Weights of these heads and neurons.
    pub parameters: u64,
    /// Heads that every block keeps.
    pub fewest_heads: usize,
    /// Neurons that every block keeps.
    pub fewest_neurons: usize,
    /// Steps of the ranking down to there.
    pub steps: usize,
    /// Multiply-accumulates of what is then left.
    pub fewest_macs: u64,
}

/// A part that stays whole.
#[derive(Clone, Debug, Serialize)]
pub struct WholeReport {
    /// Which part.
    pub part: &'static str,
    /// Its weights.
    pub parameters: u64,
}

/// Describes `--describe MODEL`, or the checkpoint of `--model`.
///
/// # Errors
/// If the checkpoint cannot be used, or `--scores` is not for it.
pub fn describe(options: &Options) -> Result<DescribeReport, PruneError> {
    let named = options.describe.as_ref().and_then(Option::as_ref);
    let checkpoint = open_model(options, named.or(options.model.as_ref()).map(AsRef::as_ref))?;
    let shape = shape_with_floors(&checkpoint, options)?;
    let mut report = DescribeReport::new(&checkpoint, &shape)?;
    if let Some(path) = &options.scores {
        let scores = SnapvitScores::read(path)?;
        scores.for_model(&checkpoint.description)?;
        report.scores = Some(ScoresReport::new(&scores, options));
    }
    Ok(report)
}

impl DescribeReport {
    fn new(checkpoint: &Checkpoint, shape: &ModelShape) -> Result<Self, PruneError> {
        let (description, tensors) = (&checkpoint.description, checkpoint.tensors());
        let image = &description.image;
        let parameters = checkpoint.parameters();
        let prunable = PrunableReport::new(description, tensors, shape)?;
        Ok(Self {
            version: DESCRIBE_VERSION,
            family: description.family.clone(),
            notes: checkpoint.notes.clone(),
            stored_as: format!("{:?}", checkpoint.dtype()),
            input: InputReport {
                height: image.height,
                width: image.width,
                patch: image.patch,
                mean: image.mean,
                std: image.std,
                interpolation: format!("{:?}", image.interpolation).to_lowercase(),
                crop_fraction: image.crop_fraction,
                crop_mode: match image.crop_mode {
                    CropMode::Center => "center",
                    CropMode::Squash => "squash",
                },
            },
            tokens: TokensReport::new(description),
            embed_dim: description.embed_dim,
            blocks: description.blocks.len(),
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
            mlp: if is_gated(description) { "gated" } else { "plain" },
            activation: activation(description.activation),
            positions: positions(description),
            layer_scale: description.blocks.iter().any(|block| block.layer_scale1.is_some()),
            pooling: pooling(&description.pooling),
            classes: classes(description, tensors),
            parameters,
            macs: cost::macs(shape, &SubNetwork::dense(shape)),
            whole: whole(description, tensors, parameters - prunable.parameters),
            prunable,
            scores: None,
        })
    }

    /// The report as a table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { input, tokens, prunable, .. } = self;
        let mut table = Table::new();
        table.load_style(NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
        let mut row = |name: &str, value: String| {
            table.add_row([name.to_owned(), value]);
        };
        row("family", self.family.clone());
        row(
            "input",
            format!(
                "{}x{} pixels, {} resized, {} crop {:.3}, mean {:?}, std {:?}",
                input.height,
                input.width,
                input.interpolation,
                input.crop_mode,
                input.crop_fraction,
                input.mean,
                input.std
            ),
        );
        row("tokens", tokens.text(input.patch));
        row("positions", self.positions.clone());
        let scale = if self.layer_scale { ", with layer scale" } else { "" };
        row("blocks", format!("{}, of width {}{scale}", self.blocks, self.embed_dim));
        row("heads", format!("{} a block, of {} dimensions", self.heads, self.head_dim));
        row("neurons", format!("{} a block, {} MLP, {}", self.neurons, self.mlp, self.activation));
        let classes = self.classes.map_or_else(String::new, |classes| format!(", then {classes} outputs"));
        row("embedding", format!("{}{classes}", self.pooling));
        row("parameters", format!("{}, stored as {}", count(self.parameters), self.stored_as));
        row("MACs", format!("{} an image", count(self.macs)));
        row(
            "prunable",
            format!(
                "{} heads, {} dimensions inside them and {} neurons in {} steps: {:.1} % of the parameters",
                prunable.heads,
                prunable.value_dims,
                prunable.neurons,
                prunable.steps,
                100.0 * prunable.parameters as f64 / self.parameters as f64
            ),
        );
        row(
            "smallest",
            format!(
                "{} heads and {} neurons a block: {:.1} % of the MACs",
                prunable.fewest_heads,
                prunable.fewest_neurons,
                100.0 * prunable.fewest_macs as f64 / self.macs as f64
            ),
        );
        let whole = self.whole.iter();
        let whole = whole.map(|part| format!("{} ({})", part.part, count(part.parameters)));
        row("stays whole", whole.collect::<Vec<_>>().join(", "));
        for published in self.scores.iter().flat_map(|scores| &scores.published) {
            row(
                &format!("scores at {}/{}", published.neuron_sparsity, published.head_sparsity),
                format!("neurons {:?}, heads {:?}", published.kept.neurons, published.kept.heads),
            );
        }
        for note in &self.notes {
            row("note", note.clone());
        }
        table.trim_fmt()
    }
}

impl TokensReport {
    fn new(description: &Description) -> Self {
        let of = |kind: PrefixKind| -> usize {
            let prefix = description.embedding.prefix.iter().filter(|prefix| prefix.kind == kind);
            prefix.map(|prefix| prefix.count).sum()
        };
        let (rows, columns) = description.grid();
        Self {
            class: of(PrefixKind::Class),
            distillation: of(PrefixKind::Distillation),
            registers: of(PrefixKind::Registers),
            patches: rows * columns,
            all: description.tokens(),
        }
    }

    fn text(&self, patch: usize) -> String {
        let mut parts = vec![format!("{} patches of {patch} pixels", self.patches)];
        for (count, name) in [(self.class, "class"), (self.distillation, "distillation"), (self.registers, "register")]
        {
            if count > 0 {
                parts.push(format!("{count} {name}"));
            }
        }
        format!("{}: {}", self.all, parts.join(", "))
    }
}

impl PrunableReport {
    fn new(description: &Description, tensors: &TensorStore, shape: &ModelShape) -> Result<Self, PruneError> {
        let blocks = description.blocks.len();
        let fewest_neurons = shape.floor_neurons.next_multiple_of(NEURON_QUANTUM).min(shape.neurons);
        let fewest = (usize::from(shape.floor_heads), usize::from(fewest_neurons));
        let mut smallest = SubNetwork::from_counts(shape, &vec![fewest; blocks])?;
        let rotary = matches!(description.embedding.position, Position::Rotary { .. });
        let kinds: &[StepKind] =
            if rotary { &[StepKind::ValueDims] } else { &[StepKind::ValueDims, StepKind::QueryDims] };
        for block in 0..blocks {
            for kind in kinds {
                let step = Step::new(block, *kind);
                while step.is_some_and(|step| smallest.remove(shape, step).is_ok()) {}
            }
        }
        Ok(Self {
            heads: blocks * description.heads,
            value_dims: blocks * description.heads * description.head_dim,
            neurons: blocks * description.neurons,
            parameters: description.blocks.iter().map(|block| prunable_weights(block, tensors)).sum(),
            fewest_heads: fewest.0,
            fewest_neurons: fewest.1,
            steps: shape.removable_steps() + kinds.len() * shape.removable_dimension_steps(),
            fewest_macs: cost::macs(shape, &smallest),
        })
    }
}

/// A small count as it is, a large one in three digits.
fn count(number: u64) -> String {
    if number < 1000 { number.to_string() } else { with_prefix(number as f64, "") }
}

/// The weights of a block that belong to one head or neuron. The biases after the branches do not.
fn prunable_weights(block: &Block, tensors: &TensorStore) -> u64 {
    let (into, out) = match &block.mlp {
        Mlp::Plain { up, down } => (vec![up], down),
        Mlp::Gated { gate, up, down } => (vec![gate, up], down),
    };
    let into = into.into_iter().chain([&block.query, &block.key, &block.value]);
    let into: u64 = into.map(|layer| linear(layer, tensors)).sum();
    into + tensors.values(&block.projection.weight) + tensors.values(&out.weight)
}

fn linear(layer: &Linear, tensors: &TensorStore) -> u64 {
    tensors.values(&layer.weight) + layer.bias.as_ref().map_or(0, |bias| tensors.values(bias))
}

fn is_gated(description: &Description) -> bool {
    matches!(description.blocks.first().map(|block| &block.mlp), Some(Mlp::Gated { .. }))
}

fn activation(activation: Activation) -> &'static str {
    match activation {
        Activation::Gelu => "gelu",
        Activation::GeluTanh => "gelu-tanh",
        Activation::QuickGelu => "quick-gelu",
        Activation::Silu => "silu",
    }
}

fn positions(description: &Description) -> String {
    let (rows, columns) = description.grid();
    match &description.embedding.position {
        Position::Rotary { theta } => format!("rotary, base {theta}"),
        Position::Learned { grid, .. } if *grid == (rows, columns) => format!("learned, {rows}x{columns}"),
        Position::Learned { grid, resampling, .. } => {
            let how = match resampling {
                PositionResampling::Bicubic => "bicubic",
                PositionResampling::BicubicAntialias => "bicubic with antialiasing",
            };
            format!("learned, {}x{} resampled to {rows}x{columns} ({how})", grid.0, grid.1)
        }
    }
}

fn pooling(pooling: &Pooling) -> &'static str {
    match pooling {
        Pooling::Class => "class token",
        Pooling::ClassThenNorm { .. } => "class token, normalised",
        Pooling::ClassDenseTanh { .. } => "class token through a dense layer and tanh",
        Pooling::MeanClassDistillation => "mean of class and distillation token",
        Pooling::MeanPatches => "mean of the patches",
        Pooling::MeanPatchesThenNorm { .. } => "mean of the patches, normalised",
        Pooling::Attention { .. } => "attention pool",
    }
}

fn classes(description: &Description, tensors: &TensorStore) -> Option<usize> {
    let layer = match description.head.as_ref()? {
        Head::Linear { linear } | Head::ClassAndPatchMean { linear } => linear,
        Head::AverageOfTwo { class, .. } => class,
    };
    tensors.info(&layer.weight.name)?.shape.first().copied()
}

/// What stays whole, `all` weights of it together.
fn whole(description: &Description, tensors: &TensorStore, all: u64) -> Vec<WholeReport> {
    let embedding = &description.embedding;
    let prefix: u64 = embedding.prefix.iter().map(|prefix| tensors.values(&prefix.tensor)).sum();
    let positions = match &embedding.position {
        Position::Learned { tensor, .. } => tensors.values(tensor),
        Position::Rotary { .. } => 0,
    };
    let pool = match &description.pooling {
        Pooling::Attention { probe, query, key, value, out, norm, up, down, .. } => {
            let layers = [query, key, value, out, up, down].map(|layer| linear(layer, tensors));
            let rest = [probe, &norm.weight, &norm.bias].map(|tensor| tensors.values(tensor));
            layers.into_iter().chain(rest).sum()
        }
        Pooling::ClassDenseTanh { dense } => linear(dense, tensors),
        _ => 0,
    };
    let head = match &description.head {
        None => 0,
        Some(Head::Linear { linear: layer } | Head::ClassAndPatchMean { linear: layer }) => linear(layer, tensors),
        Some(Head::AverageOfTwo { class, distillation }) => linear(class, tensors) + linear(distillation, tensors),
    };
    let mut parts = vec![
        ("patch embedding", linear(&embedding.patch, tensors)),
        ("prefix tokens", prefix),
        ("positions", positions),
        ("pooling layers", pool),
        ("classifier", head),
    ];
    let named: u64 = parts.iter().map(|(_, parameters)| parameters).sum();
    parts.push(("norms, layer scales and biases after branches", all - named));
    parts.retain(|(_, parameters)| *parameters > 0);
    parts.into_iter().map(|(part, parameters)| WholeReport { part, parameters }).collect()
}
