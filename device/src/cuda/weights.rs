//! The weights of a model in two arenas, and where each part lies in them.
//!
//! What a model leaves out (a bias, a layer scale) is stored as zeros or ones, so that a plan has one form.

use super::unsupported::Unsupported;
use crate::model::description::{Activation, Head, LayerNorm, Linear, Mlp, Pooling, Position, TensorRef};
use crate::model::position::{learned_positions, rotary_tables};
use crate::model::{Corrections, Description, Weights};

/// The values of all weights, and their places.
#[derive(Clone, Debug)]
pub struct LaidOutWeights {
    /// Every matrix, row-major, in f32 until they go to the GPU as f16.
    pub matrices: Vec<f32>,
    /// Every vector, in f32.
    pub vectors: Vec<f32>,
    pub(super) parts: Parts,
}

/// Offsets of a norm's weight and bias, and its epsilon.
#[derive(Clone, Copy, Debug)]
pub(super) struct Norm {
    pub weight: usize,
    pub bias: usize,
    pub epsilon: f32,
}

/// Offsets of a matrix and of its bias.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layer {
    pub weight: usize,
    pub bias: usize,
}

/// The last layer of a branch, with its layer scale.
#[derive(Clone, Copy, Debug)]
pub(super) struct BranchEnd {
    pub layer: Layer,
    pub scale: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct BlockParts {
    pub norm1: Norm,
    /// Query, key and value below each other.
    pub attention: Layer,
    pub projection: BranchEnd,
    pub norm2: Norm,
    /// Of a gated MLP gate and up below each other.
    pub up: Layer,
    pub down: BranchEnd,
    pub gated: bool,
}

/// Offsets of the cosines and sines of each patch, `[patches, head_dim / 2]`: both halves of a head are turned by them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RotaryTables {
    pub cosines: usize,
    pub sines: usize,
}

#[derive(Clone, Debug)]
pub(super) enum PoolingParts {
    /// The mean of some tokens, then perhaps a norm.
    Mean { first: usize, taken: usize, norm: Option<Norm> },
    /// The class token through a layer and tanh.
    DenseTanh(Layer),
    /// A learned query attends to all tokens, then an MLP.
    Attention(Box<AttentionPoolingParts>),
}

#[derive(Clone, Debug)]
pub(super) struct AttentionPoolingParts {
    /// Offset of the query, which is the same for every image, in the matrices.
    pub query: usize,
    pub heads: usize,
    /// Key and value below each other.
    pub keys_values: Layer,
    pub projection: BranchEnd,
    pub norm: Norm,
    pub up: Layer,
    pub neurons: usize,
    pub activation: Activation,
    pub down: BranchEnd,
}

#[derive(Clone, Debug)]
pub(super) enum HeadParts {
    Linear(Layer),
    ClassAndPatchMean(Layer),
    /// The bias is the mean of both.
    AverageOfTwo {
        class: Layer,
        distillation: usize,
    },
}

#[derive(Clone, Debug)]
pub(super) struct Parts {
    pub patch: usize,
    /// Prefix tokens, positions and the bias of the patches, `[tokens, embed_dim]`.
    pub start: usize,
    pub embedding_norm: Option<Norm>,
    pub rotary: Option<RotaryTables>,
    pub blocks: Vec<BlockParts>,
    pub final_norm: Option<Norm>,
    pub pooling: PoolingParts,
    pub head: Option<HeadParts>,
    pub classes: usize,
    /// By correction, then by block: projection and down.
    pub corrections: Vec<Vec<(BranchEnd, BranchEnd)>>,
}

struct Layout<'a> {
    description: &'a Description,
    weights: &'a Weights,
    matrices: Vec<f32>,
    vectors: Vec<f32>,
}

impl LaidOutWeights {
    /// # Errors
    /// If the model has parts that the GPU engine does not run, or a tensor is missing or has another size.
    pub fn new(description: &Description, weights: &Weights, corrections: &Corrections) -> Result<Self, Unsupported> {
        let mut layout = Layout { description, weights, matrices: Vec::new(), vectors: Vec::new() };
        let parts = layout.parts(corrections)?;
        Ok(Self { matrices: layout.matrices, vectors: layout.vectors, parts })
    }
}

impl Layout<'_> {
    fn parts(&mut self, corrections: &Corrections) -> Result<Parts, Unsupported> {
        let description = self.description;
        let width = description.embed_dim;
        let (image, embedding) = (&description.image, &description.embedding);
        let patch = self.matrix(&embedding.patch.weight, width * image.channels * image.patch * image.patch)?;
        let start = self.start()?;
        let embedding_norm = embedding.norm.as_ref().map(|norm| self.norm(norm, width)).transpose()?;
        let rotary = self.rotary();
        let blocks = (0..description.blocks.len()).map(|block| self.block(block)).collect::<Result<Vec<_>, _>>()?;
        let final_norm = description.final_norm.as_ref().map(|norm| self.norm(norm, width)).transpose()?;
        let pooling = self.pooling()?;
        let classes = self.classes()?;
        let head = description.head.as_ref().map(|head| self.head(head, classes)).transpose()?;
        let corrections = self.corrections(corrections)?;
        Ok(Parts { patch, start, embedding_norm, rotary, blocks, final_norm, pooling, head, classes, corrections })
    }

    fn values(&self, tensor: &TensorRef, expected: usize) -> Result<&[f32], Unsupported> {
        let values = self.weights.values(tensor)?;
        if values.len() != expected {
            return Err(Unsupported::Shape { name: tensor.name.clone(), expected, found: values.len() });
        }
        Ok(values)
    }

    /// Matrices start where a GPU reads 16 bytes at once.
    fn push_matrix(&mut self, values: &[f32]) -> usize {
        let offset = self.matrices.len().next_multiple_of(8);
        self.matrices.resize(offset, 0.0);
        self.matrices.extend_from_slice(values);
        offset
    }

    fn push_vector(&mut self, values: impl IntoIterator<Item = f32>) -> usize {
        let offset = self.vectors.len();
        self.vectors.extend(values);
        offset
    }

    fn matrix(&mut self, tensor: &TensorRef, expected: usize) -> Result<usize, Unsupported> {
        let values = self.values(tensor, expected)?.to_vec();
        Ok(self.push_matrix(&values))
    }

    fn bias(&self, linear: &Linear, outputs: usize) -> Result<Vec<f32>, Unsupported> {
        let Some(bias) = &linear.bias else { return Ok(vec![0.0; outputs]) };
        Ok(self.values(bias, outputs)?.to_vec())
    }

    fn norm(&mut self, norm: &LayerNorm, width: usize) -> Result<Norm, Unsupported> {
        let weight = self.values(&norm.weight, width)?.to_vec();
        let bias = self.values(&norm.bias, width)?.to_vec();
        Ok(Norm { weight: self.push_vector(weight), bias: self.push_vector(bias), epsilon: norm.eps as f32 })
    }

    /// Layers with the same inputs, below each other.
    fn layers(&mut self, linears: &[&Linear], outputs: usize, inputs: usize) -> Result<Layer, Unsupported> {
        let (mut matrix, mut biases) = (Vec::new(), Vec::new());
        for linear in linears {
            matrix.extend_from_slice(self.values(&linear.weight, outputs * inputs)?);
            biases.extend(self.bias(linear, outputs)?);
        }
        Ok(Layer { weight: self.push_matrix(&matrix), bias: self.push_vector(biases) })
    }

    fn branch_end(
        &mut self,
        linear: &Linear,
        scale: Option<&TensorRef>,
        inputs: usize,
    ) -> Result<BranchEnd, Unsupported> {
        let width = self.description.embed_dim;
        let scale = match scale {
            Some(scale) => self.values(scale, width)?.to_vec(),
            None => vec![1.0; width],
        };
        Ok(BranchEnd { layer: self.layers(&[linear], width, inputs)?, scale: self.push_vector(scale) })
    }

    fn start(&mut self) -> Result<usize, Unsupported> {
        let description = self.description;
        let (width, tokens, prefix) = (description.embed_dim, description.tokens(), description.prefix_tokens());
        let prefix_positions = match description.embedding.position {
            Position::Learned { prefix_positions, .. } => prefix_positions,
            Position::Rotary { .. } => 0,
        };
        let mut start = Vec::with_capacity(tokens * width);
        for tokens in &description.embedding.prefix {
            start.extend_from_slice(self.values(&tokens.tensor, tokens.count * width)?);
        }
        let bias = self.bias(&description.embedding.patch, width)?;
        (prefix..tokens).for_each(|_| start.extend_from_slice(&bias));
        let positions = learned_positions(description, self.weights)?.unwrap_or_default();
        for (index, position) in positions.chunks_exact(width).enumerate() {
            let token = if index < prefix_positions { index } else { prefix + index - prefix_positions };
            start[token * width..][..width].iter_mut().zip(position).for_each(|(value, position)| *value += position);
        }
        Ok(self.push_vector(start))
    }

    fn rotary(&mut self) -> Option<RotaryTables> {
        let (cosines, sines) = rotary_tables(self.description)?;
        let head_dim = self.description.head_dim;
        let mut half = |table: Vec<f32>| {
            self.push_vector(table.chunks_exact(head_dim).flat_map(|row| &row[..head_dim / 2]).copied())
        };
        Some(RotaryTables { cosines: half(cosines), sines: half(sines) })
    }

    fn block(&mut self, index: usize) -> Result<BlockParts, Unsupported> {
        let description = self.description;
        let block = &description.blocks[index];
        let (width, neurons) = (description.embed_dim, description.neurons);
        let attended = description.heads * description.head_dim;
        let (up, down, gated) = match &block.mlp {
            Mlp::Plain { up, down } => (self.layers(&[up], neurons, width)?, down, false),
            Mlp::Gated { gate, up, down } => (self.layers(&[gate, up], neurons, width)?, down, true),
        };
        Ok(BlockParts {
            norm1: self.norm(&block.norm1, width)?,
            attention: self.layers(&[&block.query, &block.key, &block.value], attended, width)?,
            projection: self.branch_end(&block.projection, block.layer_scale1.as_ref(), attended)?,
            norm2: self.norm(&block.norm2, width)?,
            up,
            down: self.branch_end(down, block.layer_scale2.as_ref(), neurons)?,
            gated,
        })
    }

    fn pooling(&mut self) -> Result<PoolingParts, Unsupported> {
        let description = self.description;
        let width = description.embed_dim;
        let prefix = description.prefix_tokens();
        let patches = description.tokens() - prefix;
        let (first, taken, norm) = match &description.pooling {
            Pooling::Class => (0, 1, None),
            Pooling::ClassThenNorm { norm } => (0, 1, Some(norm)),
            Pooling::MeanClassDistillation => (0, 2, None),
            Pooling::MeanPatches => (prefix, patches, None),
            Pooling::MeanPatchesThenNorm { norm } => (prefix, patches, Some(norm)),
            Pooling::ClassDenseTanh { dense } => {
                return Ok(PoolingParts::DenseTanh(self.layers(&[dense], width, width)?));
            }
            Pooling::Attention { .. } => {
                return Ok(PoolingParts::Attention(Box::new(self.attention_pooling(&description.pooling)?)));
            }
        };
        Ok(PoolingParts::Mean { first, taken, norm: norm.map(|norm| self.norm(norm, width)).transpose()? })
    }

    fn attention_pooling(&mut self, pooling: &Pooling) -> Result<AttentionPoolingParts, Unsupported> {
        let Pooling::Attention { probe, heads, query, key, value, out, norm, up, down, activation } = pooling else {
            unreachable!("called for attention pooling only")
        };
        let width = self.description.embed_dim;
        let probe = self.values(probe, width)?;
        let rows = self.values(&query.weight, width * width)?.chunks_exact(width);
        let dot = |row: &[f32]| row.iter().zip(probe).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>();
        let bias = self.bias(query, width)?;
        let query: Vec<f32> = rows.zip(bias).map(|(row, bias)| (dot(row) + f64::from(bias)) as f32).collect();
        let neurons = self.weights.values(&up.weight)?.len() / width;
        Ok(AttentionPoolingParts {
            query: self.push_matrix(&query),
            heads: *heads,
            keys_values: self.layers(&[key, value], width, width)?,
            projection: self.branch_end(out, None, width)?,
            norm: self.norm(norm, width)?,
            up: self.layers(&[up], neurons, width)?,
            neurons,
            activation: *activation,
            down: self.branch_end(down, None, neurons)?,
        })
    }

    fn classes(&self) -> Result<usize, Unsupported> {
        let width = self.description.embed_dim;
        let (linear, inputs) = match &self.description.head {
            None => return Ok(0),
            Some(Head::Linear { linear }) => (linear, width),
            Some(Head::ClassAndPatchMean { linear }) => (linear, 2 * width),
            Some(Head::AverageOfTwo { class, .. }) => (class, width),
        };
        Ok(self.weights.values(&linear.weight)?.len() / inputs)
    }

    fn head(&mut self, head: &Head, classes: usize) -> Result<HeadParts, Unsupported> {
        let width = self.description.embed_dim;
        Ok(match head {
            Head::Linear { linear } => HeadParts::Linear(self.layers(&[linear], classes, width)?),
            Head::ClassAndPatchMean { linear } => {
                HeadParts::ClassAndPatchMean(self.layers(&[linear], classes, 2 * width)?)
            }
            Head::AverageOfTwo { class, distillation } => {
                let biases = self.bias(class, classes)?.into_iter().zip(self.bias(distillation, classes)?);
                let mean: Vec<f32> = biases.map(|(a, b)| (a + b) / 2.0).collect();
                let weight = self.matrix(&class.weight, classes * width)?;
                let distillation = self.matrix(&distillation.weight, classes * width)?;
                HeadParts::AverageOfTwo { class: Layer { weight, bias: self.push_vector(mean) }, distillation }
            }
        })
    }

    /// Layer scales are folded into corrections.
    fn corrections(&mut self, corrections: &Corrections) -> Result<Vec<Vec<(BranchEnd, BranchEnd)>>, Unsupported> {
        let description = self.description;
        let width = description.embed_dim;
        let ones = self.push_vector(vec![1.0; width]);
        let mut laid_out = Vec::new();
        for (number, group) in corrections.groups.iter().enumerate() {
            let mut ends = Vec::new();
            for (index, block) in group.blocks.iter().enumerate() {
                let sides = [
                    ("projection", &block.projection, description.heads * description.head_dim),
                    ("down", &block.down, description.neurons),
                ];
                for (layer, correction, inputs) in sides {
                    let tensors = [
                        ("weight", &correction.weight, width * inputs),
                        ("bias", &correction.biases, width * group.rungs.len()),
                    ];
                    for (part, tensor, expected) in tensors {
                        if tensor.data.len() != expected {
                            let name = format!("{number}.{index}.{layer}.{part}");
                            return Err(Unsupported::Shape { name, expected, found: tensor.data.len() });
                        }
                    }
                    let bias = self.push_vector(correction.biases.data.iter().copied());
                    ends.push((self.push_matrix(&correction.weight.data), bias));
                }
            }
            if group.blocks.len() != description.blocks.len() {
                let name = format!("corrections of group {number}");
                let expected = description.blocks.len();
                return Err(Unsupported::Shape { name, expected, found: group.blocks.len() });
            }
            for place in 0..group.rungs.len() {
                let end = |&(weight, biases): &(usize, usize)| BranchEnd {
                    layer: Layer { weight, bias: biases + place * width },
                    scale: ones,
                };
                laid_out.push(ends.chunks_exact(2).map(|pair| (end(&pair[0]), end(&pair[1]))).collect());
            }
        }
        Ok(laid_out)
    }
}
