//! The integer model: a Vision Transformer with int8 weights, in one file that
//! an engine reads in place, from flash where need be.
//!
//! It is the part `model.int8` of a bundle, made by the host from the permuted
//! weights. Every rung is a prefix of what is stored: a device whose flash does
//! not hold the dense model gets the first heads, dimensions and neurons of
//! each block that its largest fitting rung needs.
//!
//! # The file
//! All numbers are little-endian.
//! ```text
//! byte  0        8         12        16        20      32
//!       +--------+---------+---------+---------+-------+--------------------+
//!       | magic  | version | length  | CRC-32  | zeros | content            |
//!       | 8      | u32     | u32     | u32     | 12    | `length` bytes     |
//!       +--------+---------+---------+---------+-------+--------------------+
//! ```
//! The content is a row of sections, each of which begins at a multiple of 16
//! bytes; zeros fill the gaps.
//!
//! | section | bytes |
//! |---|---|
//! | SHA-256 of the `model.safetensors` it was made from | 32 |
//! | sizes and kinds ([`IntegerSizes`]) | 32, see below |
//! | stored counts | for each block u16: heads, query dimensions, value dimensions, neurons |
//! | corrections | for each u16: rung, group; in order of the groups |
//! | tokens | f32 `[tokens, embed_dim]`: prefix tokens and positions, added up |
//! | patch embedding | linear, inputs are the RGB bytes of a patch, row by row |
//! | embedding norm | norm, if there is one |
//! | rotary positions | f32 `[patches, head_dim]`: cosines and sines of half a head, if there are any |
//! | each block | norm1; query, key, value: linear; norm2; gate (if gated), up: linear; projection, down: linear, if the original ends are stored |
//! | final norm | norm, if there is one |
//! | pooling | norm or linear, if its kind has one; of attention f32 `[embed_dim]`: the query; key, value, projection: linear; norm; up, down: linear |
//! | head | linear, or two |
//! | each group, each block | projection: matrix, f32 biases `[corrections of the group, embed_dim]`; down: the same |
//!
//! A *matrix* is a section of int8 rows, each padded with zeros to a multiple
//! of 16 bytes, and a section with an f32 scale for each row. A *linear* layer
//! is a matrix and a section with an f32 bias for each row. A *norm* is three
//! sections: eps, weight and bias.
//!
//! The 32 bytes of sizes are u16: image height, image width, patch, prefix
//! tokens, embed_dim, heads, head_dim, neurons, classes, blocks, number of
//! corrections, groups of corrections; then u8: MLP (0 plain, 1 gated),
//! activation, pooling, head (each 0, 1, ... in the order of its type here;
//! for the head 0 is none), flags (1 embedding norm, 2 final norm, 4 original
//! ends, 8 rotary positions, from 16 on the activation of attention
//! pooling), pooling heads, and u16 pooling neurons: zeros without attention pooling,
//! which is number 6.
//!
//! # What the numbers mean
//! A weight is its int8 number times its row's scale. Rows of query, key and
//! value, and columns of the projection, go head by head. Layer scales are
//! folded into projection and down; mean and standard deviation of the pixels
//! into the patch embedding. Of a corrected rung, the projection and the down
//! layer are those of its group, with its own biases.
//!
//! Rotary positions turn the query and the key of each patch token: the two
//! halves `a` and `b` of a head become `a cos - b sin` and `b cos + a sin`.
//!
//! # Reading
//! [`IntegerModel::read`] checks in this order: magic, version, length,
//! checksum, then each size against its limit, then that the sections fill the
//! content exactly. No input panics, allocates or is half accepted. The f32
//! numbers are not judged: an engine gives nonsense for nonsense.

mod error;
mod header;
mod layers;
mod sections;
mod sizes;
#[cfg(feature = "std")]
mod write;

pub use error::IntegerModelError;
pub use header::{FORMAT_VERSION, HEADER_BYTES, MAGIC};
pub use layers::{
    BlockEnds, FloatTable, HeadLayers, IntegerBlock, IntegerLinear, IntegerNorm, PoolingAttention, PoolingLayer,
    ROW_ALIGNMENT, row_stride,
};
pub use sizes::{
    ActivationKind, AttentionPooling, BlockCounts, HeadKind, IntegerSizes, MAX_HEAD_DIM, MAX_TOKENS, PoolingKind,
};
#[cfg(feature = "std")]
pub use write::{
    BlockParts, CorrectionGroupParts, EndsParts, IntegerModelParts, LinearParts, MatrixParts, NormParts,
    PoolingAttentionParts, PoolingParts,
};

use crate::ladder::MAX_RUNGS;
use crate::shape::MlpKind;
use crate::structure_map::StructureMap;
use sections::Sections;
use sizes::in_range;

/// Bytes of the sizes in the file.
const SIZES_BYTES: usize = 32;

/// An integer model that has been checked; it borrows everything from the bytes it was read from.
#[derive(Clone, Copy, Debug)]
pub struct IntegerModel<'a> {
    weights_sha256: &'a [u8],
    sizes: IntegerSizes,
    /// Four u16 for each block.
    counts: &'a [[[u8; 2]; 4]],
    /// Rung and group of each correction.
    corrections: &'a [[[u8; 2]; 2]],
    groups: usize,
    tokens: FloatTable<'a>,
    patch: IntegerLinear<'a>,
    embedding_norm: Option<IntegerNorm<'a>>,
    rotary: Option<FloatTable<'a>>,
    /// Where block 0 begins.
    blocks: Sections<'a>,
    final_norm: Option<IntegerNorm<'a>>,
    pooling: PoolingLayer<'a>,
    head: HeadLayers<'a>,
    /// Where group 0 begins.
    corrected: Sections<'a>,
}

impl<'a> IntegerModel<'a> {
    /// Reads a model in place.
    ///
    /// # Errors
    /// The first of the checks of the [module](self) that fails.
    pub fn read(bytes: &'a [u8]) -> Result<Self, IntegerModelError> {
        let (version, content) = header::content_of(bytes)?;
        let mut sections = Sections::new(content);
        let weights_sha256 = sections.bytes(32);
        let stored = sections.bytes(SIZES_BYTES as u64);
        let too_short = |sections: &Sections| IntegerModelError::Sections {
            expected: sections.taken(),
            found: content.len() as u64,
        };
        let Ok(stored) = <&[u8; SIZES_BYTES]>::try_from(stored) else { return Err(too_short(&sections)) };
        let (sizes, count, groups) = read_sizes(stored)?;
        sizes.validate()?;
        in_range("format version", sizes.format_version() as usize, FORMAT_VERSION as usize, version as usize)?;
        in_range("corrections", 0, MAX_RUNGS, count)?;
        in_range("groups of corrections", 0, count, groups)?;
        let counts = sections.bytes(8 * sizes.blocks as u64).as_chunks::<2>().0.as_chunks::<4>().0;
        let corrections = sections.bytes(4 * count as u64).as_chunks::<2>().0.as_chunks::<2>().0;
        if counts.len() != sizes.blocks || corrections.len() != count {
            return Err(too_short(&sections));
        }
        let mut model = Self {
            weights_sha256,
            sizes,
            counts,
            corrections,
            groups,
            tokens: sections.floats(sizes.tokens() * sizes.embed_dim),
            patch: sections.linear(sizes.embed_dim, sizes.patch_values()),
            embedding_norm: sizes.embedding_norm.then(|| sections.norm(sizes.embed_dim)),
            rotary: sizes.rotary.then(|| sections.floats(sizes.patches() * sizes.head_dim)),
            blocks: sections,
            final_norm: None,
            pooling: PoolingLayer::None,
            head: HeadLayers::None,
            corrected: sections,
        };
        for block in 0..sizes.blocks {
            model.counts(block).validate(&sizes)?;
            model.take_block(block, &mut sections);
        }
        model.final_norm = sizes.final_norm.then(|| sections.norm(sizes.embed_dim));
        model.pooling = match sizes.pooling {
            PoolingKind::ClassThenNorm | PoolingKind::MeanPatchesThenNorm => {
                PoolingLayer::Norm(sections.norm(sizes.embed_dim))
            }
            PoolingKind::ClassDenseTanh => PoolingLayer::Dense(sections.linear(sizes.embed_dim, sizes.embed_dim)),
            PoolingKind::Attention(AttentionPooling { neurons, .. }) => PoolingLayer::Attention(PoolingAttention {
                query: sections.floats(sizes.embed_dim),
                key: sections.linear(sizes.embed_dim, sizes.embed_dim),
                value: sections.linear(sizes.embed_dim, sizes.embed_dim),
                out: sections.linear(sizes.embed_dim, sizes.embed_dim),
                norm: sections.norm(sizes.embed_dim),
                up: sections.linear(neurons, sizes.embed_dim),
                down: sections.linear(sizes.embed_dim, neurons),
            }),
            PoolingKind::Class | PoolingKind::MeanClassDistillation | PoolingKind::MeanPatches => PoolingLayer::None,
        };
        let mut classifier = || sections.linear(sizes.classes, sizes.head_inputs());
        model.head = match sizes.head {
            None => HeadLayers::None,
            Some(HeadKind::Linear | HeadKind::ClassAndPatchMean) => HeadLayers::One(classifier()),
            Some(HeadKind::AverageOfTwo) => HeadLayers::Two(classifier(), classifier()),
        };
        model.corrected = sections;
        model.check_groups()?;
        for group in 0..groups {
            for block in 0..sizes.blocks {
                model.take_corrected(group, block, &mut sections);
            }
        }
        if sections.taken() != content.len() as u64 {
            return Err(too_short(&sections));
        }
        match sections.dirty {
            Some(at) => Err(IntegerModelError::Padding { at: HEADER_BYTES as u64 + at }),
            None => Ok(model),
        }
    }

    /// Every group has a correction, and they are in order.
    fn check_groups(&self) -> Result<(), IntegerModelError> {
        let mut last = None;
        for correction in 0..self.corrections.len() {
            let group = self.correction_group(correction);
            let (smallest, largest) = last.map_or((0, 0), |last| (last, last + 1));
            in_range("group of a correction", smallest, largest, group)?;
            last = Some(group);
        }
        let named = last.map_or(0, |last| last + 1);
        in_range("groups of corrections", named, named, self.groups)
    }

    /// Whether it was made from the weights that `map` belongs to, and has the sizes that its ladder was made for.
    #[must_use]
    pub fn is_of(&self, map: &StructureMap<'_>) -> bool {
        let (sizes, shape) = (&self.sizes, map.shape());
        self.weights_sha256 == map.weights_sha256()
            && sizes.blocks == usize::from(shape.blocks)
            && sizes.heads == usize::from(shape.heads)
            && sizes.head_dim == usize::from(shape.head_dim)
            && sizes.neurons == usize::from(shape.neurons)
    }

    /// SHA-256 of the file of permuted weights that this model was made from.
    #[must_use]
    pub fn weights_sha256(&self) -> &'a [u8] {
        self.weights_sha256
    }

    /// The sizes of the dense model.
    #[must_use]
    pub fn sizes(&self) -> &IntegerSizes {
        &self.sizes
    }

    /// What is stored of `block`.
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn counts(&self, block: usize) -> BlockCounts {
        let [heads, query_dims, value_dims, neurons] =
            self.counts[block].map(|count| usize::from(u16::from_le_bytes(count)));
        BlockCounts { heads, query_dims, value_dims, neurons }
    }

    /// The number of corrections.
    #[must_use]
    pub fn corrections(&self) -> usize {
        self.corrections.len()
    }

    /// The groups of corrections that share matrices.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// The correction that `rung` of the structure map's ladder runs with; `None` where it runs the original layers.
    #[must_use]
    pub fn correction_of_rung(&self, rung: usize) -> Option<usize> {
        self.corrections.iter().position(|[of, _]| usize::from(u16::from_le_bytes(*of)) == rung)
    }

    /// The group of a correction.
    ///
    /// # Panics
    /// If there is no such correction.
    #[must_use]
    pub fn correction_group(&self, correction: usize) -> usize {
        usize::from(u16::from_le_bytes(self.corrections[correction][1]))
    }

    /// Prefix tokens and positions, `[tokens, embed_dim]`: what the embedded patches are added to.
    #[must_use]
    pub fn tokens(&self) -> FloatTable<'a> {
        self.tokens
    }

    /// From the RGB bytes of a patch to a token.
    #[must_use]
    pub fn patch(&self) -> IntegerLinear<'a> {
        self.patch
    }

    /// Of the tokens before block 0.
    #[must_use]
    pub fn embedding_norm(&self) -> Option<IntegerNorm<'a>> {
        self.embedding_norm
    }

    /// What turns queries and keys: for each patch the cosines of half a head and then the sines.
    #[must_use]
    pub fn rotary(&self) -> Option<FloatTable<'a>> {
        self.rotary
    }

    /// The layers of `block`. Time O(block).
    ///
    /// # Panics
    /// If there is no such block.
    #[must_use]
    pub fn block(&self, block: usize) -> IntegerBlock<'a> {
        let mut sections = self.blocks;
        for before in 0..block {
            self.take_block(before, &mut sections);
        }
        self.take_block(block, &mut sections)
    }

    /// The last layers of `block`'s branches with a correction. Time O(groups x blocks).
    ///
    /// # Panics
    /// If there is no such block or correction.
    #[must_use]
    pub fn corrected_ends(&self, correction: usize, block: usize) -> BlockEnds<'a> {
        let group = self.correction_group(correction);
        let place = (0..correction).filter(|before| self.correction_group(*before) == group).count();
        let mut sections = self.corrected;
        for before in 0..group * self.sizes.blocks + block {
            self.take_corrected(before / self.sizes.blocks, before % self.sizes.blocks, &mut sections);
        }
        let [projection, down] = self.take_corrected(group, block, &mut sections);
        let width = self.sizes.embed_dim;
        let with_biases = |(matrix, biases): (IntegerLinear<'a>, FloatTable<'a>)| {
            matrix.with_biases(biases.part(place * width, width))
        };
        BlockEnds { projection: with_biases(projection), down: with_biases(down) }
    }

    /// Of all tokens after the last block.
    #[must_use]
    pub fn final_norm(&self) -> Option<IntegerNorm<'a>> {
        self.final_norm
    }

    /// What the pooling needs.
    #[must_use]
    pub fn pooling(&self) -> PoolingLayer<'a> {
        self.pooling
    }

    /// The classifiers.
    #[must_use]
    pub fn head(&self) -> HeadLayers<'a> {
        self.head
    }

    fn take_block(&self, block: usize, sections: &mut Sections<'a>) -> IntegerBlock<'a> {
        let width = self.sizes.embed_dim;
        let BlockCounts { heads, query_dims, value_dims, neurons } = self.counts(block);
        IntegerBlock {
            norm1: sections.norm(width),
            query: sections.linear(heads * query_dims, width),
            key: sections.linear(heads * query_dims, width),
            value: sections.linear(heads * value_dims, width),
            norm2: sections.norm(width),
            gate: (self.sizes.mlp == MlpKind::Gated).then(|| sections.linear(neurons, width)),
            up: sections.linear(neurons, width),
            ends: self.sizes.original_ends.then(|| BlockEnds {
                projection: sections.linear(width, heads * value_dims),
                down: sections.linear(width, neurons),
            }),
        }
    }

    /// Projection and down, each with the biases of all corrections of the group.
    fn take_corrected(
        &self,
        group: usize,
        block: usize,
        sections: &mut Sections<'a>,
    ) -> [(IntegerLinear<'a>, FloatTable<'a>); 2] {
        let width = self.sizes.embed_dim;
        let BlockCounts { heads, value_dims, neurons, .. } = self.counts(block);
        let members = (0..self.corrections.len()).filter(|of| self.correction_group(*of) == group).count();
        [heads * value_dims, neurons].map(|columns| (sections.matrix(width, columns), sections.floats(members * width)))
    }
}

fn read_sizes(stored: &[u8; SIZES_BYTES]) -> Result<(IntegerSizes, usize, usize), IntegerModelError> {
    let [
        image_height,
        image_width,
        patch,
        prefix_tokens,
        embed_dim,
        heads,
        head_dim,
        neurons,
        classes,
        blocks,
        corrections,
        groups,
    ] = core::array::from_fn(|at| usize::from(u16::from_le_bytes([stored[2 * at], stored[2 * at + 1]])));
    let [mlp, activation, pooling, head, flags, pooling_heads, of_pooling @ ..]: [u8; 8] =
        core::array::from_fn(|at| stored[24 + at]);
    let pooling_neurons = u16::from_le_bytes(of_pooling);
    in_range("MLP kind", 0, 1, usize::from(mlp))?;
    in_range("activation kind", 0, ACTIVATIONS.len() - 1, usize::from(activation))?;
    in_range("pooling kind", 0, POOLINGS.len(), usize::from(pooling))?;
    in_range("head kind", 0, HEADS.len() - 1, usize::from(head))?;
    in_range("flags", 0, (ACTIVATIONS.len() << FLAGS) - 1, usize::from(flags))?;
    let pooling_activation = usize::from(flags >> FLAGS);
    let pooling = match POOLINGS.get(usize::from(pooling)) {
        Some(pooling) => {
            let of_attention = [pooling_activation, pooling_heads.into(), pooling_neurons.into()];
            for zero in of_attention {
                in_range("size of attention pooling", 0, 0, zero)?;
            }
            *pooling
        }
        None => PoolingKind::Attention(AttentionPooling {
            heads: pooling_heads.into(),
            neurons: pooling_neurons.into(),
            activation: ACTIVATIONS[pooling_activation],
        }),
    };
    let sizes = IntegerSizes {
        image_height,
        image_width,
        patch,
        prefix_tokens,
        embed_dim,
        heads,
        head_dim,
        neurons,
        blocks,
        classes,
        mlp: if mlp == 0 { MlpKind::Plain } else { MlpKind::Gated },
        activation: ACTIVATIONS[usize::from(activation)],
        pooling,
        head: HEADS[usize::from(head)],
        embedding_norm: flags & 1 != 0,
        final_norm: flags & 2 != 0,
        original_ends: flags & 4 != 0,
        rotary: flags & 8 != 0,
    };
    // Only then may the number of patches be asked for.
    in_range("patch", 1, image_height.min(image_width), patch)?;
    Ok((sizes, corrections, groups))
}

/// Bits of the flags that say which parts there are.
const FLAGS: usize = 4;

/// The kinds in the order of their numbers in the file. Attention pooling has sizes, and comes after the others.
const ACTIVATIONS: [ActivationKind; 4] =
    [ActivationKind::Gelu, ActivationKind::GeluTanh, ActivationKind::QuickGelu, ActivationKind::Silu];
const POOLINGS: [PoolingKind; 6] = [
    PoolingKind::Class,
    PoolingKind::ClassThenNorm,
    PoolingKind::ClassDenseTanh,
    PoolingKind::MeanClassDistillation,
    PoolingKind::MeanPatches,
    PoolingKind::MeanPatchesThenNorm,
];
const HEADS: [Option<HeadKind>; 4] =
    [None, Some(HeadKind::Linear), Some(HeadKind::ClassAndPatchMean), Some(HeadKind::AverageOfTwo)];
