//! Making and writing an integer model, on a host.

use super::header::header_of;
use super::sections::SECTION_ALIGNMENT;
use super::{
    ACTIVATIONS, AttentionPooling, BlockCounts, FLAGS, HEADS, HeadKind, IntegerModelError, IntegerSizes, POOLINGS,
    PoolingKind, SIZES_BYTES, row_stride,
};
use crate::shape::MlpKind;

/// An int8 matrix: `weights` is `[rows, columns]` without padding, `scales` has one entry for each row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MatrixParts {
    pub columns: usize,
    pub weights: Vec<i8>,
    pub scales: Vec<f32>,
}

/// A matrix and a bias for each row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LinearParts {
    pub matrix: MatrixParts,
    pub biases: Vec<f32>,
}

/// LayerNorm over the token width.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NormParts {
    pub eps: f32,
    pub weight: Vec<f32>,
    pub bias: Vec<f32>,
}

/// The two layers that write to the residual stream.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EndsParts {
    pub projection: LinearParts,
    pub down: LinearParts,
}

/// A block, cut to its counts.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockParts {
    pub counts: BlockCounts,
    pub norm1: NormParts,
    pub query: LinearParts,
    pub key: LinearParts,
    pub value: LinearParts,
    pub norm2: NormParts,
    pub gate: Option<LinearParts>,
    pub up: LinearParts,
    pub ends: Option<EndsParts>,
}

/// The layer of a pooling, where it has one.
#[derive(Clone, Debug, PartialEq)]
pub enum PoolingParts {
    None,
    Norm(NormParts),
    Dense(LinearParts),
    Attention(Box<PoolingAttentionParts>),
}

/// As [`PoolingAttention`](super::PoolingAttention).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolingAttentionParts {
    pub query: Vec<f32>,
    pub key: LinearParts,
    pub value: LinearParts,
    pub out: LinearParts,
    pub norm: NormParts,
    pub up: LinearParts,
    pub down: LinearParts,
}

/// Corrections that share their matrices. The biases are those of all its rungs, `[rungs, embed_dim]`.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionGroupParts {
    /// The rungs of the structure map's ladder that run with it, in the order of the biases.
    pub rungs: Vec<usize>,
    /// One for each block.
    pub blocks: Vec<EndsParts>,
}

/// All of a model, as [`IntegerModelParts::write`] writes it. What a field means is said in the
/// [module](super).
#[derive(Clone, Debug, PartialEq)]
pub struct IntegerModelParts {
    pub weights_sha256: [u8; 32],
    pub sizes: IntegerSizes,
    /// `[tokens, embed_dim]`.
    pub tokens: Vec<f32>,
    pub patch: LinearParts,
    pub embedding_norm: Option<NormParts>,
    /// Cosines and then sines of each patch, `[patches, head_dim]`.
    pub rotary: Option<Vec<f32>>,
    pub blocks: Vec<BlockParts>,
    pub final_norm: Option<NormParts>,
    pub pooling: PoolingParts,
    /// As many as the kind of head has.
    pub head: Vec<LinearParts>,
    pub groups: Vec<CorrectionGroupParts>,
}

impl MatrixParts {
    /// Rounds each row of `weights`, `[rows, columns]`, to the nearest multiple of a 127th of its largest number.
    ///
    /// # Panics
    /// If `columns` is 0 or the rows are not whole.
    #[must_use]
    pub fn quantise(weights: &[f32], columns: usize) -> Self {
        assert!(columns > 0 && weights.len().is_multiple_of(columns), "whole rows of {columns} columns");
        let mut matrix = Self { columns, weights: Vec::with_capacity(weights.len()), scales: Vec::new() };
        for row in weights.chunks_exact(columns) {
            let largest = row.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
            let scale = largest / 127.0;
            let number =
                |weight: &f32| if scale > 0.0 { (weight / scale).round().clamp(-127.0, 127.0) as i8 } else { 0 };
            matrix.weights.extend(row.iter().map(number));
            matrix.scales.push(scale);
        }
        matrix
    }
}

impl IntegerModelParts {
    /// The file.
    ///
    /// # Errors
    /// The first part whose size is not what the sizes say, or the first size that is out of range.
    pub fn write(&self) -> Result<Vec<u8>, IntegerModelError> {
        let sizes = &self.sizes;
        super::in_range("patch", 1, sizes.image_height.min(sizes.image_width), sizes.patch)?;
        sizes.validate()?;
        let width = sizes.embed_dim;
        let mut content = Content::default();
        content.section(&self.weights_sha256);
        content.section(&self.sizes_bytes()?);
        expect("blocks", sizes.blocks, self.blocks.len())?;
        let counts = self.blocks.iter().map(|block| block.counts);
        let counts = counts.flat_map(|counts| [counts.heads, counts.query_dims, counts.value_dims, counts.neurons]);
        content.section(&u16s("stored count", counts)?);
        let groups = self.groups.iter().enumerate();
        let places = groups.flat_map(|(group, parts)| parts.rungs.iter().flat_map(move |&rung| [rung, group]));
        content.section(&u16s("rung", places)?);
        content.floats("tokens", sizes.tokens() * width, &self.tokens)?;
        content.linear("patch embedding", width, sizes.patch_values(), &self.patch)?;
        content.optional_norm("embedding norm", sizes.embedding_norm, width, self.embedding_norm.as_ref())?;
        expect("rotary positions", usize::from(sizes.rotary), usize::from(self.rotary.is_some()))?;
        if let Some(rotary) = &self.rotary {
            content.floats("rotary positions", sizes.patches() * sizes.head_dim, rotary)?;
        }
        for block in &self.blocks {
            block.counts.validate(sizes)?;
            self.write_block(block, &mut content)?;
        }
        content.optional_norm("final norm", sizes.final_norm, width, self.final_norm.as_ref())?;
        match (sizes.pooling, &self.pooling) {
            (PoolingKind::ClassThenNorm | PoolingKind::MeanPatchesThenNorm, PoolingParts::Norm(norm)) => {
                content.norm("pooling norm", width, norm)?;
            }
            (PoolingKind::ClassDenseTanh, PoolingParts::Dense(dense)) => {
                content.linear("pooling layer", width, width, dense)?;
            }
            (PoolingKind::Attention(AttentionPooling { neurons, .. }), PoolingParts::Attention(parts)) => {
                content.floats("pooling query", width, &parts.query)?;
                content.linear("pooling key", width, width, &parts.key)?;
                content.linear("pooling value", width, width, &parts.value)?;
                content.linear("pooling projection", width, width, &parts.out)?;
                content.norm("pooling norm", width, &parts.norm)?;
                content.linear("pooling up", neurons, width, &parts.up)?;
                content.linear("pooling down", width, neurons, &parts.down)?;
            }
            (
                PoolingKind::Class | PoolingKind::MeanClassDistillation | PoolingKind::MeanPatches,
                PoolingParts::None,
            ) => {}
            (_, parts) => {
                let found = usize::from(*parts != PoolingParts::None);
                return Err(wrong("pooling layer", 1 - found, found));
            }
        }
        let classifiers = match sizes.head {
            None => 0,
            Some(HeadKind::Linear | HeadKind::ClassAndPatchMean) => 1,
            Some(HeadKind::AverageOfTwo) => 2,
        };
        expect("head", classifiers, self.head.len())?;
        for classifier in &self.head {
            content.linear("head", sizes.classes, sizes.head_inputs(), classifier)?;
        }
        for group in &self.groups {
            expect("blocks of a correction", sizes.blocks, group.blocks.len())?;
            for (ends, BlockParts { counts, .. }) in group.blocks.iter().zip(&self.blocks) {
                for (part, columns, layer) in [
                    ("corrected projection", counts.heads * counts.value_dims, &ends.projection),
                    ("corrected down layer", counts.neurons, &ends.down),
                ] {
                    content.matrix(part, width, columns, &layer.matrix)?;
                    content.floats(part, group.rungs.len() * width, &layer.biases)?;
                }
            }
        }
        let mut file = header_of(self.sizes.format_version(), &content.bytes)?.to_vec();
        file.append(&mut content.bytes);
        Ok(file)
    }

    fn sizes_bytes(&self) -> Result<[u8; SIZES_BYTES], IntegerModelError> {
        let sizes = &self.sizes;
        let corrections = self.groups.iter().map(|group| group.rungs.len()).sum();
        let numbers = [
            sizes.image_height,
            sizes.image_width,
            sizes.patch,
            sizes.prefix_tokens,
            sizes.embed_dim,
            sizes.heads,
            sizes.head_dim,
            sizes.neurons,
            sizes.classes,
            sizes.blocks,
            corrections,
            self.groups.len(),
        ];
        let mut bytes = [0; SIZES_BYTES];
        bytes[..24].copy_from_slice(&u16s("size", numbers)?);
        bytes[24] = u8::from(sizes.mlp == MlpKind::Gated);
        bytes[25] = place_in(&ACTIVATIONS, &sizes.activation);
        bytes[27] = place_in(&HEADS, &sizes.head);
        let flags = [sizes.embedding_norm, sizes.final_norm, sizes.original_ends, sizes.rotary];
        bytes[28] = flags.iter().enumerate().map(|(bit, &set)| u8::from(set) << bit).sum();
        if let PoolingKind::Attention(AttentionPooling { heads, neurons, activation }) = sizes.pooling {
            bytes[26] = POOLINGS.len() as u8;
            bytes[28] |= place_in(&ACTIVATIONS, &activation) << FLAGS;
            bytes[29] = heads as u8;
            bytes[30..].copy_from_slice(&u16s("pooling neurons", [neurons])?);
        } else {
            bytes[26] = place_in(&POOLINGS, &sizes.pooling);
        }
        Ok(bytes)
    }

    fn write_block(&self, block: &BlockParts, content: &mut Content) -> Result<(), IntegerModelError> {
        let width = self.sizes.embed_dim;
        let BlockCounts { heads, query_dims, value_dims, neurons } = block.counts;
        content.norm("norm 1", width, &block.norm1)?;
        content.linear("query", heads * query_dims, width, &block.query)?;
        content.linear("key", heads * query_dims, width, &block.key)?;
        content.linear("value", heads * value_dims, width, &block.value)?;
        content.norm("norm 2", width, &block.norm2)?;
        expect("gate", usize::from(self.sizes.mlp == MlpKind::Gated), usize::from(block.gate.is_some()))?;
        if let Some(gate) = &block.gate {
            content.linear("gate", neurons, width, gate)?;
        }
        content.linear("up", neurons, width, &block.up)?;
        expect("original ends", usize::from(self.sizes.original_ends), usize::from(block.ends.is_some()))?;
        if let Some(ends) = &block.ends {
            content.linear("projection", width, heads * value_dims, &ends.projection)?;
            content.linear("down", width, neurons, &ends.down)?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Content {
    bytes: Vec<u8>,
}

impl Content {
    fn section(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTION_ALIGNMENT), 0);
    }

    fn floats(&mut self, part: &'static str, count: usize, values: &[f32]) -> Result<(), IntegerModelError> {
        expect(part, count, values.len())?;
        self.section(values.iter().map(|value| value.to_le_bytes()).collect::<Vec<_>>().as_flattened());
        Ok(())
    }

    fn matrix(
        &mut self,
        part: &'static str,
        rows: usize,
        columns: usize,
        matrix: &MatrixParts,
    ) -> Result<(), IntegerModelError> {
        expect(part, rows * columns, matrix.weights.len())?;
        let mut bytes = Vec::with_capacity(rows * row_stride(columns));
        for row in 0..rows {
            let weights = &matrix.weights[row * columns..(row + 1) * columns];
            bytes.extend(weights.iter().map(|weight| weight.cast_unsigned()));
            bytes.resize((row + 1) * row_stride(columns), 0);
        }
        self.section(&bytes);
        self.floats(part, rows, &matrix.scales)
    }

    fn linear(
        &mut self,
        part: &'static str,
        rows: usize,
        columns: usize,
        linear: &LinearParts,
    ) -> Result<(), IntegerModelError> {
        self.matrix(part, rows, columns, &linear.matrix)?;
        self.floats(part, rows, &linear.biases)
    }

    fn norm(&mut self, part: &'static str, width: usize, norm: &NormParts) -> Result<(), IntegerModelError> {
        self.floats(part, 1, &[norm.eps])?;
        self.floats(part, width, &norm.weight)?;
        self.floats(part, width, &norm.bias)
    }

    fn optional_norm(
        &mut self,
        part: &'static str,
        expected: bool,
        width: usize,
        norm: Option<&NormParts>,
    ) -> Result<(), IntegerModelError> {
        expect(part, usize::from(expected), usize::from(norm.is_some()))?;
        norm.map_or(Ok(()), |norm| self.norm(part, width, norm))
    }
}

fn place_in<T: PartialEq>(kinds: &[T], kind: &T) -> u8 {
    let place = kinds.iter().position(|listed| listed == kind).expect("every kind is listed");
    u8::try_from(place).expect("a handful of kinds")
}

fn u16s(field: &'static str, numbers: impl IntoIterator<Item = usize>) -> Result<Vec<u8>, IntegerModelError> {
    let mut bytes = Vec::new();
    for number in numbers {
        super::in_range(field, 0, usize::from(u16::MAX), number)?;
        bytes.extend_from_slice(&(number as u16).to_le_bytes());
    }
    Ok(bytes)
}

fn expect(part: &'static str, expected: usize, found: usize) -> Result<(), IntegerModelError> {
    if expected == found { Ok(()) } else { Err(wrong(part, expected, found)) }
}

fn wrong(part: &'static str, expected: usize, found: usize) -> IntegerModelError {
    IntegerModelError::Part { part, expected: expected as u64, found: found as u64 }
}
