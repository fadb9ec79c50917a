//! From a model in f32 to the parts of an integer model, each weight rounded to the nearest number.

use headroom_shared::MlpKind;
use headroom_shared::integer_model::{
    ActivationKind, AttentionPooling, BlockCounts, BlockParts, CorrectionGroupParts, EndsParts, HeadKind,
    IntegerModelParts, IntegerSizes, LinearParts, MatrixParts, NormParts, PoolingAttentionParts, PoolingKind,
    PoolingParts,
};

use crate::model::corrections::Correction;
use crate::model::description::{Activation, Block, Head, LayerNorm, Linear, Mlp, Pooling, Position, TensorRef};
use crate::model::position::{learned_positions, rotary_tables};
use crate::model::weights::{Weights, WeightsError};
use crate::model::{Corrections, Description};

/// Why a model has no integer form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConvertError {
    /// The description names a tensor that is not there.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The integer engine does not have that part.
    #[error("the integer engine has no {part}")]
    Part { part: &'static str },
    /// A tensor has another size than its part needs.
    #[error("tensor `{name}` has {found} values, expected {expected}")]
    Size { name: String, expected: usize, found: usize },
    /// More of a block is to be stored than there is.
    #[error("counts of {found} blocks were given, the model has {expected}, or a block has less than they say")]
    Counts { expected: usize, found: usize },
}

/// What an integer model is made from.
#[derive(Clone, Copy, Debug)]
pub struct IntegerSource<'a> {
    pub description: &'a Description,
    /// Permuted.
    pub weights: &'a Weights,
    /// Of the file of these weights.
    pub weights_sha256: [u8; 32],
    /// Those that are stored.
    pub corrections: &'a Corrections,
    /// For each block the structures that are stored.
    pub counts: &'a [BlockCounts],
    /// Whether the original projections and down layers are stored.
    pub original_ends: bool,
}

/// A matrix in f32, `[rows, columns]`, with its biases.
struct Dense {
    columns: usize,
    weights: Vec<f32>,
    biases: Vec<f32>,
}

impl IntegerSource<'_> {
    /// The counts that store all of a model.
    #[must_use]
    pub fn all_counts(description: &Description) -> Vec<BlockCounts> {
        vec![dense_block(description); description.blocks.len()]
    }

    /// The parts of the model.
    ///
    /// # Errors
    /// If a tensor is missing or of another size, or the engine does not have a part.
    pub fn convert(&self) -> Result<IntegerModelParts, ConvertError> {
        let description = self.description;
        let dense = dense_block(description);
        let fits = |counts: &BlockCounts| dense.hold(counts) && counts.query_dims.min(counts.value_dims) >= 1;
        let blocks = &description.blocks;
        let of_corrections = self.corrections.groups.iter().all(|group| group.blocks.len() == blocks.len());
        if self.counts.len() != blocks.len() || !self.counts.iter().all(fits) || !of_corrections {
            return Err(ConvertError::Counts { expected: blocks.len(), found: self.counts.len() });
        }
        if description.image.channels != 3 {
            return Err(ConvertError::Part { part: "frames of other than three channels" });
        }
        let pooling = self.pooling(&description.pooling)?;
        let sizes = self.sizes()?;
        let groups = self.corrections.groups.iter().map(|group| {
            let blocks = group.blocks.iter().zip(self.counts).map(|(block, counts)| {
                Ok(EndsParts {
                    projection: self.corrected(&block.projection, counts, true, group.rungs.len())?,
                    down: self.corrected(&block.down, counts, false, group.rungs.len())?,
                })
            });
            Ok(CorrectionGroupParts {
                rungs: group.rungs.clone(),
                blocks: blocks.collect::<Result<_, ConvertError>>()?,
            })
        });
        let head = match &description.head {
            None => vec![],
            Some(Head::Linear { linear } | Head::ClassAndPatchMean { linear }) => {
                vec![self.dense(linear, sizes.classes, sizes.head_inputs())?.quantise()]
            }
            Some(Head::AverageOfTwo { class, distillation }) => {
                let layer = |linear| self.dense(linear, sizes.classes, sizes.head_inputs());
                vec![layer(class)?.quantise(), layer(distillation)?.quantise()]
            }
        };
        let norm = |norm: &Option<LayerNorm>| norm.as_ref().map(|norm| self.norm(norm)).transpose();
        Ok(IntegerModelParts {
            weights_sha256: self.weights_sha256,
            sizes,
            tokens: self.tokens()?,
            patch: self.patch()?,
            embedding_norm: norm(&description.embedding.norm)?,
            rotary: rotary(description),
            blocks: blocks
                .iter()
                .zip(self.counts)
                .map(|(block, counts)| self.block(block, *counts))
                .collect::<Result<_, _>>()?,
            final_norm: norm(&description.final_norm)?,
            pooling,
            head,
            groups: groups.collect::<Result<_, ConvertError>>()?,
        })
    }

    fn sizes(&self) -> Result<IntegerSizes, ConvertError> {
        let description = self.description;
        let head = description.head.as_ref();
        let classes = match head {
            None => 0,
            Some(Head::Linear { linear } | Head::ClassAndPatchMean { linear }) => self.rows(&linear.weight)?,
            Some(Head::AverageOfTwo { class, .. }) => self.rows(&class.weight)?,
        };
        let gated = description.blocks.iter().any(|block| matches!(block.mlp, Mlp::Gated { .. }));
        Ok(IntegerSizes {
            image_height: description.image.height,
            image_width: description.image.width,
            patch: description.image.patch,
            prefix_tokens: description.prefix_tokens(),
            embed_dim: description.embed_dim,
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
            blocks: description.blocks.len(),
            classes,
            mlp: if gated { MlpKind::Gated } else { MlpKind::Plain },
            activation: activation_kind(description.activation),
            pooling: match &description.pooling {
                Pooling::Class => PoolingKind::Class,
                Pooling::ClassThenNorm { .. } => PoolingKind::ClassThenNorm,
                Pooling::ClassDenseTanh { .. } => PoolingKind::ClassDenseTanh,
                Pooling::MeanClassDistillation => PoolingKind::MeanClassDistillation,
                Pooling::MeanPatches => PoolingKind::MeanPatches,
                Pooling::MeanPatchesThenNorm { .. } => PoolingKind::MeanPatchesThenNorm,
                Pooling::Attention { heads, up, activation, .. } => PoolingKind::Attention(AttentionPooling {
                    heads: *heads,
                    neurons: self.rows(&up.weight)?,
                    activation: activation_kind(*activation),
                }),
            },
            head: head.map(|head| match head {
                Head::Linear { .. } => HeadKind::Linear,
                Head::ClassAndPatchMean { .. } => HeadKind::ClassAndPatchMean,
                Head::AverageOfTwo { .. } => HeadKind::AverageOfTwo,
            }),
            embedding_norm: description.embedding.norm.is_some(),
            rotary: matches!(description.embedding.position, Position::Rotary { .. }),
            final_norm: description.final_norm.is_some(),
            original_ends: self.original_ends,
        })
    }

    fn rows(&self, tensor: &TensorRef) -> Result<usize, ConvertError> {
        if let Some((_, rows)) = tensor.rows {
            return Ok(rows);
        }
        let missing = || WeightsError::Missing { name: tensor.name.clone() };
        let found = self.weights.get(&tensor.name).ok_or_else(missing)?;
        Ok(found.shape.first().copied().unwrap_or(0))
    }

    fn values(&self, tensor: &TensorRef, expected: usize) -> Result<&[f32], ConvertError> {
        let values = self.weights.values(tensor)?;
        if values.len() != expected {
            return Err(ConvertError::Size { name: tensor.name.clone(), expected, found: values.len() });
        }
        Ok(values)
    }

    fn dense(&self, linear: &Linear, rows: usize, columns: usize) -> Result<Dense, ConvertError> {
        let weights = self.values(&linear.weight, rows * columns)?.to_vec();
        let biases = match &linear.bias {
            Some(bias) => self.values(bias, rows)?.to_vec(),
            None => vec![0.0; rows],
        };
        Ok(Dense { columns, weights, biases })
    }

    fn norm(&self, norm: &LayerNorm) -> Result<NormParts, ConvertError> {
        let width = self.description.embed_dim;
        Ok(NormParts {
            eps: norm.eps as f32,
            weight: self.values(&norm.weight, width)?.to_vec(),
            bias: self.values(&norm.bias, width)?.to_vec(),
        })
    }

    /// Prefix tokens and positions.
    fn tokens(&self) -> Result<Vec<f32>, ConvertError> {
        let (description, width) = (self.description, self.description.embed_dim);
        let mut tokens = Vec::with_capacity(description.tokens() * width);
        for prefix in &description.embedding.prefix {
            tokens.extend_from_slice(self.values(&prefix.tensor, prefix.count * width)?);
        }
        let first_patch = tokens.len();
        tokens.resize(description.tokens() * width, 0.0);
        if let Position::Learned { prefix_positions, .. } = &description.embedding.position {
            let positions = learned_positions(description, self.weights)?.unwrap_or_default();
            let (prefix, patches) = positions.split_at(prefix_positions * width);
            add(&mut tokens, prefix);
            add(&mut tokens[first_patch..], patches);
        }
        Ok(tokens)
    }

    /// The patch embedding for RGB bytes row by row; mean and standard deviation of the pixels are folded in. The
    /// biases make up for the rounding of the weights at the mean pixel.
    fn patch(&self) -> Result<LinearParts, ConvertError> {
        let image = &self.description.image;
        let side = image.patch;
        let columns = 3 * side * side;
        let dense = self.dense(&self.description.embedding.patch, self.description.embed_dim, columns)?;
        let mut weights = Vec::with_capacity(dense.weights.len());
        for row in dense.weights.chunks_exact(columns) {
            for pixel in 0..side * side {
                weights.extend((0..3).map(|channel| row[channel * side * side + pixel] / (255.0 * image.std[channel])));
            }
        }
        let mut patch = Dense { columns, weights, biases: dense.biases }.quantise();
        for (row, bias) in patch.biases.iter_mut().enumerate() {
            let numbers = &patch.matrix.weights[row * columns..(row + 1) * columns];
            let mean = |place: usize| 255.0 * f64::from(image.mean[place % 3]);
            let at_mean: f64 = numbers.iter().enumerate().map(|(place, &number)| f64::from(number) * mean(place)).sum();
            *bias = (f64::from(*bias) - at_mean * f64::from(patch.matrix.scales[row])) as f32;
        }
        Ok(patch)
    }

    fn block(&self, block: &Block, counts: BlockCounts) -> Result<BlockParts, ConvertError> {
        let description = self.description;
        let (width, head_dim) = (description.embed_dim, description.head_dim);
        let inner = description.heads * head_dim;
        let heads = |linear: &Linear, dims: usize| -> Result<LinearParts, ConvertError> {
            let rows = head_places(counts.heads, head_dim, dims);
            Ok(self.dense(linear, inner, width)?.rows(&rows).quantise())
        };
        let neurons = |linear: &Linear| -> Result<LinearParts, ConvertError> {
            let rows: Vec<usize> = (0..counts.neurons).collect();
            Ok(self.dense(linear, description.neurons, width)?.rows(&rows).quantise())
        };
        let (gate, up, down) = match &block.mlp {
            Mlp::Plain { up, down } => (None, neurons(up)?, down),
            Mlp::Gated { gate, up, down } => (Some(neurons(gate)?), neurons(up)?, down),
        };
        let end = |linear: &Linear, inputs: usize, kept: &[usize], scale: &Option<TensorRef>| {
            let mut dense = self.dense(linear, width, inputs)?;
            if let Some(scale) = scale {
                dense.scale_rows(self.values(scale, width)?);
            }
            Ok::<_, ConvertError>(first_columns(dense.quantise(), kept))
        };
        let ends = self.original_ends.then(|| {
            let kept: Vec<usize> = (0..counts.neurons).collect();
            let values = head_places(counts.heads, head_dim, counts.value_dims);
            Ok::<_, ConvertError>(EndsParts {
                projection: end(&block.projection, inner, &values, &block.layer_scale1)?,
                down: end(down, description.neurons, &kept, &block.layer_scale2)?,
            })
        });
        Ok(BlockParts {
            counts,
            norm1: self.norm(&block.norm1)?,
            query: heads(&block.query, counts.query_dims)?,
            key: heads(&block.key, counts.query_dims)?,
            value: heads(&block.value, counts.value_dims)?,
            norm2: self.norm(&block.norm2)?,
            gate,
            up,
            ends: ends.transpose()?,
        })
    }

    fn pooling(&self, pooling: &Pooling) -> Result<PoolingParts, ConvertError> {
        let width = self.description.embed_dim;
        Ok(match pooling {
            Pooling::ClassThenNorm { norm } | Pooling::MeanPatchesThenNorm { norm } => {
                PoolingParts::Norm(self.norm(norm)?)
            }
            Pooling::ClassDenseTanh { dense } => PoolingParts::Dense(self.dense(dense, width, width)?.quantise()),
            Pooling::Attention { probe, query, key, value, out, norm, up, down, .. } => {
                let (probe, query) = (self.values(probe, width)?, self.dense(query, width, width)?);
                let neurons = self.rows(&up.weight)?;
                let layer = |linear: &Linear, rows: usize, columns: usize| {
                    Ok::<_, ConvertError>(self.dense(linear, rows, columns)?.quantise())
                };
                PoolingParts::Attention(Box::new(PoolingAttentionParts {
                    query: query.apply(probe),
                    key: layer(key, width, width)?,
                    value: layer(value, width, width)?,
                    out: layer(out, width, width)?,
                    norm: self.norm(norm)?,
                    up: layer(up, neurons, width)?,
                    down: layer(down, width, neurons)?,
                }))
            }
            Pooling::Class | Pooling::MeanClassDistillation | Pooling::MeanPatches => PoolingParts::None,
        })
    }

    /// A corrected projection or down layer, with the biases of all rungs of its group.
    fn corrected(
        &self,
        correction: &Correction,
        counts: &BlockCounts,
        projection: bool,
        rungs: usize,
    ) -> Result<LinearParts, ConvertError> {
        let description = self.description;
        let (width, head_dim) = (description.embed_dim, description.head_dim);
        let (inputs, kept) = if projection {
            (description.heads * head_dim, head_places(counts.heads, head_dim, counts.value_dims))
        } else {
            (description.neurons, (0..counts.neurons).collect())
        };
        for (tensor, expected) in [(&correction.weight, width * inputs), (&correction.biases, rungs * width)] {
            if tensor.data.len() != expected {
                let name = "correction".to_owned();
                return Err(ConvertError::Size { name, expected, found: tensor.data.len() });
            }
        }
        let weights = correction.weight.data.clone();
        let dense = Dense { columns: inputs, weights, biases: correction.biases.data.clone() };
        Ok(first_columns(dense.quantise(), &kept))
    }
}

impl Dense {
    fn rows(&self, rows: &[usize]) -> Self {
        let weights = rows.iter().flat_map(|row| &self.weights[row * self.columns..(row + 1) * self.columns]);
        Self {
            columns: self.columns,
            weights: weights.copied().collect(),
            biases: rows.iter().map(|&row| self.biases[row]).collect(),
        }
    }

    fn scale_rows(&mut self, scales: &[f32]) {
        for ((row, bias), scale) in self.weights.chunks_exact_mut(self.columns).zip(&mut self.biases).zip(scales) {
            row.iter_mut().for_each(|weight| *weight *= scale);
            *bias *= scale;
        }
    }

    /// One row through the layer, summed in f64.
    fn apply(&self, input: &[f32]) -> Vec<f32> {
        let dot = |row: &[f32]| row.iter().zip(input).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>();
        let products = self.weights.chunks_exact(self.columns).map(dot);
        products.zip(&self.biases).map(|(product, &bias)| (product + f64::from(bias)) as f32).collect()
    }

    fn quantise(self) -> LinearParts {
        LinearParts { matrix: MatrixParts::quantise(&self.weights, self.columns), biases: self.biases }
    }
}

/// Those columns of a layer that is rounded already: a row has the same scale however many of its columns are stored, so
/// that a rung has the same bits in every file that holds it.
fn first_columns(layer: LinearParts, columns: &[usize]) -> LinearParts {
    let MatrixParts { columns: width, weights, scales } = layer.matrix;
    let weights = weights.chunks_exact(width).flat_map(|row| columns.iter().map(|&column| row[column])).collect();
    LinearParts { matrix: MatrixParts { columns: columns.len(), weights, scales }, biases: layer.biases }
}

/// Of each patch the cosines of half a head, and the sines: both halves are turned alike.
fn rotary(description: &Description) -> Option<Vec<f32>> {
    let (cosines, sines) = rotary_tables(description)?;
    let (head_dim, half) = (description.head_dim, description.head_dim / 2);
    let patches = cosines.chunks_exact(head_dim).zip(sines.chunks_exact(head_dim));
    Some(patches.flat_map(|(cosines, sines)| [&cosines[..half], &sines[..half]].concat()).collect())
}

fn activation_kind(activation: Activation) -> ActivationKind {
    match activation {
        Activation::Gelu => ActivationKind::Gelu,
        Activation::GeluTanh => ActivationKind::GeluTanh,
        Activation::QuickGelu => ActivationKind::QuickGelu,
        Activation::Silu => ActivationKind::Silu,
    }
}

/// Everything of a block.
fn dense_block(description: &Description) -> BlockCounts {
    BlockCounts {
        heads: description.heads,
        query_dims: description.head_dim,
        value_dims: description.head_dim,
        neurons: description.neurons,
    }
}

/// The places of the first `dims` dimensions of the first heads.
fn head_places(heads: usize, head_dim: usize, dims: usize) -> Vec<usize> {
    (0..heads).flat_map(|head| head * head_dim..head * head_dim + dims).collect()
}

fn add(to: &mut [f32], values: &[f32]) {
    to.iter_mut().zip(values).for_each(|(to, value)| *to += value);
}
