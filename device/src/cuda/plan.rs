//! The table of one rung: matrix products and kernels in their order.

use std::ops::Range;

use headroom_shared::KeptStructures;

use super::buffer::{Buffer, BufferSizes, Place};
use super::kernel::{Function, Kernel, Launch};
use super::unsupported::Unsupported;
use super::weights::{BlockParts, BranchEnd, HeadParts, LaidOutWeights, Layer, Norm, Parts, PoolingParts};
use crate::model::Description;

/// A matrix of a product: where it starts, the distance of its rows, and that to the same matrix of the next product
/// of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matrix {
    pub place: Place,
    pub leading: usize,
    pub stride: usize,
}

/// `output[r, o] = scale * sum over i of input[r, i] * weight[o, i]`, several times.
///
/// All matrices are row-major, `[rows, inputs]`, `[outputs, inputs]` and `[rows, outputs]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Product {
    pub rows: usize,
    pub outputs: usize,
    pub inputs: usize,
    /// Whether the weight is stored as `[inputs, outputs]`.
    pub transposed: bool,
    pub weight: Matrix,
    pub input: Matrix,
    pub output: Matrix,
    /// How many such products, `stride` apart.
    pub count: usize,
    pub scale: f32,
    /// Whether the product is added to the output, rather than replacing it.
    pub accumulate: bool,
}

/// A row of the table.
#[derive(Clone, Debug, PartialEq)]
pub enum Operation {
    Product(Product),
    Kernel(Launch),
    /// Fills the first values of a buffer with zeros.
    Zeros {
        buffer: Buffer,
        values: usize,
    },
}

/// A stage of the forward pass, for times and for the message that names where a NaN came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Embedding,
    Attention { block: usize },
    Mlp { block: usize },
    Pooling,
    Head,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Self::Embedding => write!(formatter, "the embedding"),
            Self::Attention { block } => write!(formatter, "the attention of block {block}"),
            Self::Mlp { block } => write!(formatter, "the MLP of block {block}"),
            Self::Pooling => write!(formatter, "the pooling"),
            Self::Head => write!(formatter, "the head"),
        }
    }
}

/// What runs for one rung.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Each operation with the stage that it belongs to.
    pub operations: Vec<(Stage, Operation)>,
}

impl Plan {
    /// The table of the structures in `kept`, for `images` images at once.
    ///
    /// `description` is one that the CPU engine accepts and `weights` are laid out for.
    ///
    /// # Errors
    /// If the rung keeps what the model has not, or asks for what the GPU engine does not run.
    pub fn new(
        description: &Description,
        weights: &LaidOutWeights,
        images: usize,
        kept: &impl KeptStructures,
    ) -> Result<Self, Unsupported> {
        let sizes = Sizes::new(description, images);
        buffer_sizes(description, weights, images)?;
        let mut builder = Builder { sizes, parts: &weights.parts, stage: Stage::Embedding, operations: Vec::new() };
        builder.embed(description);
        for (index, block) in weights.parts.blocks.iter().enumerate() {
            let rung = BlockRung::new(description, index, kept)?;
            let (projection, down) = match kept.correction() {
                None => (block.projection, block.down),
                Some(found) => {
                    let corrections = &weights.parts.corrections;
                    let count = corrections.len();
                    corrections.get(found).ok_or(Unsupported::Correction { found, count })?[index]
                }
            };
            builder.attention(index, block, projection, &rung);
            builder.mlp(index, block, down, rung.neurons, description.activation.into());
        }
        builder.pool_and_classify();
        Ok(Self { operations: builder.operations })
    }
}

/// What each buffer must hold for `images` images of any rung.
///
/// # Errors
/// If a kernel could not index one of them.
pub fn buffer_sizes(
    description: &Description,
    weights: &LaidOutWeights,
    images: usize,
) -> Result<BufferSizes, Unsupported> {
    let sizes = Sizes::new(description, images);
    let image = &description.image;
    let stream = sizes.rows() * sizes.width;
    let attended = sizes.rows() * sizes.heads * sizes.head_dim;
    let gated = weights.parts.blocks.iter().any(|block| block.gated);
    BufferSizes::new(|buffer| match buffer {
        Buffer::Matrices => weights.matrices.len(),
        Buffer::Vectors => weights.vectors.len(),
        Buffer::Pixels => images * image.channels * image.height * image.width,
        Buffer::Patches => images * sizes.patches() * image.channels * image.patch * image.patch,
        Buffer::Stream | Buffer::Normed | Buffer::Branch | Buffer::Tokens => stream,
        Buffer::Attention => 3 * attended,
        Buffer::Scores => images * sizes.heads * sizes.tokens * sizes.score_leading(),
        Buffer::Attended => attended,
        Buffer::Hidden => sizes.rows() * description.neurons * if gated { 2 } else { 1 },
        Buffer::Pooled => images * sizes.width,
        Buffer::Features => images * 2 * sizes.width,
        Buffer::Logits => images * weights.parts.classes,
    })
}

#[derive(Clone, Copy)]
struct Sizes {
    images: usize,
    tokens: usize,
    prefix: usize,
    width: usize,
    heads: usize,
    head_dim: usize,
    neurons: usize,
}

impl Sizes {
    fn new(description: &Description, images: usize) -> Self {
        Self {
            images,
            tokens: description.tokens(),
            prefix: description.prefix_tokens(),
            width: description.embed_dim,
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
        }
    }

    fn rows(&self) -> usize {
        self.images * self.tokens
    }

    fn patches(&self) -> usize {
        self.tokens - self.prefix
    }

    /// Rows of scores start where tensor cores can read them.
    fn score_leading(&self) -> usize {
        self.tokens.next_multiple_of(8)
    }
}

/// What a rung keeps of a block.
struct BlockRung {
    heads: usize,
    query_dims: usize,
    value_dims: usize,
    neurons: usize,
}

impl BlockRung {
    fn new(description: &Description, block: usize, kept: &impl KeptStructures) -> Result<Self, Unsupported> {
        let merged = kept.merged_tokens(block);
        if merged > 0 {
            return Err(Unsupported::MergedTokens { block, merged });
        }
        let head_dim = description.head_dim;
        let rung = Self {
            heads: kept.heads(block),
            query_dims: kept.query_dims(block).unwrap_or(head_dim),
            value_dims: kept.value_dims(block).unwrap_or(head_dim),
            neurons: kept.neurons(block),
        };
        let limits = [
            ("heads", description.heads, rung.heads),
            ("query dimensions", head_dim, rung.query_dims),
            ("value dimensions", head_dim, rung.value_dims),
            ("neurons", description.neurons, rung.neurons),
        ];
        for (structure, most, found) in limits {
            if found > most {
                return Err(Unsupported::TooMany { block, structure, most, found });
            }
        }
        for place in 0..rung.heads {
            let head = kept.head(block, place);
            if head != place {
                return Err(Unsupported::NotTheFirstHeads { block, place, head });
            }
        }
        Ok(rung)
    }
}

fn matrix(place: Place, leading: usize) -> Matrix {
    Matrix { place, leading, stride: 0 }
}

struct Builder<'a> {
    sizes: Sizes,
    parts: &'a Parts,
    stage: Stage,
    operations: Vec<(Stage, Operation)>,
}

impl Builder<'_> {
    fn launch(&mut self, kernel: Kernel, places: &[Place], integers: &[usize]) {
        // A kernel with nothing to do cannot be launched.
        if integers[0] > 0 {
            self.operations.push((self.stage, Operation::Kernel(Launch::new(kernel, places, integers))));
        }
    }

    fn product(&mut self, product: Product) {
        self.operations.push((self.stage, Operation::Product(product)));
    }

    /// `rows` of `input` through the first `outputs` rows and `inputs` columns of a matrix with rows of `leading`.
    fn linear(&mut self, weight: Matrix, input: Matrix, output: Matrix, [rows, outputs, inputs]: [usize; 3]) {
        let (transposed, count, scale, accumulate) = (false, 1, 1.0, false);
        self.product(Product { rows, outputs, inputs, transposed, weight, input, output, count, scale, accumulate });
    }

    /// Adds a branch to the stream where there is one, and normalises for what follows.
    fn residual_norm(
        &mut self,
        rows: usize,
        stream: Buffer,
        branch: Option<BranchEnd>,
        norm: Option<Norm>,
        out: Buffer,
    ) {
        if branch.is_none() && norm.is_none() {
            return;
        }
        let (bias, scale) = branch.map_or((0, 0), |end| (end.layer.bias, end.scale));
        let wide = out.storage() == super::Storage::F32;
        let (narrow_out, wide_out) = if wide { (Buffer::Normed, out) } else { (out, Buffer::Tokens) };
        let unused = Norm { weight: 0, bias: 0, epsilon: 0.0 };
        let Norm { weight, bias: norm_bias, epsilon } = norm.unwrap_or(unused);
        let places = [
            stream.at(0),
            Buffer::Branch.at(0),
            Buffer::Vectors.at(bias),
            Buffer::Vectors.at(scale),
            Buffer::Vectors.at(weight),
            Buffer::Vectors.at(norm_bias),
            narrow_out.at(0),
            wide_out.at(0),
        ];
        let integers = [rows, self.sizes.width, branch.is_some().into(), norm.is_some().into(), wide.into()];
        let mut launch = Launch::new(Kernel::ResidualNorm, &places, &integers);
        launch.number = Some(epsilon);
        self.operations.push((self.stage, Operation::Kernel(launch)));
    }

    fn embed(&mut self, description: &Description) {
        let Sizes { images, tokens, prefix, width, .. } = self.sizes;
        let image = &description.image;
        let (rows, columns) = description.grid();
        let values = image.channels * image.patch * image.patch;
        let patches = images * rows * columns;
        self.launch(
            Kernel::GatherPatches,
            &[Buffer::Pixels.at(0), Buffer::Patches.at(0)],
            &[patches * values, image.channels, image.height, image.width, image.patch, rows, columns],
        );
        self.linear(
            matrix(Buffer::Matrices.at(self.parts.patch), values),
            matrix(Buffer::Patches.at(0), values),
            matrix(Buffer::Branch.at(0), width),
            [patches, width, values],
        );
        self.launch(
            Kernel::AddTokens,
            &[Buffer::Vectors.at(self.parts.start), Buffer::Branch.at(0), Buffer::Stream.at(0)],
            &[images * tokens * width, tokens, prefix, width],
        );
        // A row's norm reads all of it before it writes.
        self.residual_norm(images * tokens, Buffer::Stream, None, self.parts.embedding_norm, Buffer::Stream);
        let first = self.norm_before(0);
        self.residual_norm(images * tokens, Buffer::Stream, None, first, self.normed_before(0));
    }

    /// The norm of what goes into block `index`, or out of the last one.
    fn norm_before(&self, index: usize) -> Option<Norm> {
        self.parts.blocks.get(index).map_or(self.parts.final_norm, |block| Some(block.norm1))
    }

    fn normed_before(&self, index: usize) -> Buffer {
        if index < self.parts.blocks.len() { Buffer::Normed } else { Buffer::Tokens }
    }

    fn attention(&mut self, index: usize, block: &BlockParts, end: BranchEnd, rung: &BlockRung) {
        self.stage = Stage::Attention { block: index };
        if rung.heads > 0 && rung.value_dims > 0 {
            self.queries_keys_values(block.attention, rung);
            self.attend(rung);
            let attended = rung.heads * self.sizes.head_dim;
            self.linear(
                matrix(Buffer::Matrices.at(end.layer.weight), self.sizes.heads * self.sizes.head_dim),
                matrix(Buffer::Attended.at(0), attended),
                matrix(Buffer::Branch.at(0), self.sizes.width),
                [self.sizes.rows(), self.sizes.width, attended],
            );
        } else {
            self.empty_branch();
        }
        self.residual_norm(self.sizes.rows(), Buffer::Stream, Some(end), Some(block.norm2), Buffer::Normed);
    }

    /// The branch of nothing, to which its bias is added still.
    fn empty_branch(&mut self) {
        let values = self.sizes.rows() * self.sizes.width;
        self.operations.push((self.stage, Operation::Zeros { buffer: Buffer::Branch, values }));
    }

    /// Each token's row has the kept heads' queries, then their keys, then their values, each head in `head_dim` places
    /// of which the first are computed.
    fn queries_keys_values(&mut self, layer: Layer, rung: &BlockRung) {
        let Sizes { width, heads, head_dim, .. } = self.sizes;
        let (rows, part) = (self.sizes.rows(), rung.heads * head_dim);
        let all_dims = rung.query_dims == head_dim && rung.value_dims == head_dim;
        let product = |first: usize, outputs: usize, weight_rows: usize, output_columns: usize, count: usize| Product {
            rows,
            outputs,
            inputs: width,
            transposed: false,
            weight: Matrix {
                place: Buffer::Matrices.at(layer.weight + first * heads * head_dim * width),
                leading: width,
                stride: weight_rows * width,
            },
            input: matrix(Buffer::Normed.at(0), width),
            output: Matrix { place: Buffer::Attention.at(first * part), leading: 3 * part, stride: output_columns },
            count,
            scale: 1.0,
            accumulate: false,
        };
        if all_dims {
            // Queries, keys and values at once.
            self.product(product(0, part, heads * head_dim, part, 3));
        } else {
            for (first, dims) in [rung.query_dims, rung.query_dims, rung.value_dims].into_iter().enumerate() {
                if dims > 0 {
                    self.product(product(first, dims, head_dim, head_dim, rung.heads));
                }
            }
        }
        self.launch(
            Kernel::BiasFunction,
            &[Buffer::Attention.at(0), Buffer::Vectors.at(layer.bias)],
            &[rows * 3 * part, part, 3, heads * head_dim, Function::Identity as usize],
        );
    }

    fn attend(&mut self, rung: &BlockRung) {
        let Sizes { images, tokens, head_dim, .. } = self.sizes;
        let (part, leading) = (rung.heads * head_dim, self.sizes.score_leading());
        let scores_of_image = rung.heads * tokens * leading;
        let of_attention = |image: usize, part_index: usize| Matrix {
            place: Buffer::Attention.at((image * tokens * 3 + part_index) * part),
            leading: 3 * part,
            stride: head_dim,
        };
        let scores = |image: usize| Matrix {
            place: Buffer::Scores.at(image * scores_of_image),
            leading,
            stride: tokens * leading,
        };
        for image in 0..images {
            self.product(Product {
                rows: tokens,
                outputs: tokens,
                inputs: rung.query_dims,
                transposed: false,
                weight: of_attention(image, 1),
                input: of_attention(image, 0),
                output: scores(image),
                count: rung.heads,
                scale: 1.0 / (head_dim as f32).sqrt(),
                accumulate: false,
            });
        }
        self.launch(Kernel::Softmax, &[Buffer::Scores.at(0)], &[images * rung.heads * tokens, tokens, leading]);
        if rung.value_dims < head_dim {
            // The projection meets all dimensions of a head.
            let values = images * tokens * part;
            self.operations.push((self.stage, Operation::Zeros { buffer: Buffer::Attended, values }));
        }
        for image in 0..images {
            self.product(Product {
                rows: tokens,
                outputs: rung.value_dims,
                inputs: tokens,
                transposed: true,
                weight: of_attention(image, 2),
                input: scores(image),
                output: Matrix { place: Buffer::Attended.at(image * tokens * part), leading: part, stride: head_dim },
                count: rung.heads,
                scale: 1.0,
                accumulate: false,
            });
        }
    }

    fn mlp(&mut self, index: usize, block: &BlockParts, end: BranchEnd, neurons: usize, function: Function) {
        self.stage = Stage::Mlp { block: index };
        let (rows, width) = (self.sizes.rows(), self.sizes.width);
        let hidden_parts = if block.gated { 2 } else { 1 };
        let leading = hidden_parts * neurons;
        if neurons > 0 {
            self.product(Product {
                rows,
                outputs: neurons,
                inputs: width,
                transposed: false,
                weight: Matrix {
                    place: Buffer::Matrices.at(block.up.weight),
                    leading: width,
                    stride: self.sizes.neurons * width,
                },
                input: matrix(Buffer::Normed.at(0), width),
                output: Matrix { place: Buffer::Hidden.at(0), leading, stride: neurons },
                count: hidden_parts,
                scale: 1.0,
                accumulate: false,
            });
            let places = [Buffer::Hidden.at(0), Buffer::Vectors.at(block.up.bias)];
            if block.gated {
                let integers = [rows * neurons, neurons, self.sizes.neurons, function as usize];
                self.launch(Kernel::Gate, &places, &integers);
            } else {
                let integers = [rows * neurons, neurons, 1, 0, function as usize];
                self.launch(Kernel::BiasFunction, &places, &integers);
            }
            self.linear(
                matrix(Buffer::Matrices.at(end.layer.weight), self.sizes.neurons),
                matrix(Buffer::Hidden.at(0), leading),
                matrix(Buffer::Branch.at(0), width),
                [rows, width, neurons],
            );
        } else {
            self.empty_branch();
        }
        let (norm, out) = (self.norm_before(index + 1), self.normed_before(index + 1));
        self.residual_norm(rows, Buffer::Stream, Some(end), norm, out);
    }

    /// Means of the taken tokens to the image embeddings, and to `features` rows of `leading` from `column` on.
    fn mean(
        &mut self,
        source: Buffer,
        tokens: usize,
        taken: Range<usize>,
        wide: Buffer,
        column: usize,
        leading: usize,
    ) {
        let Sizes { images, width, .. } = self.sizes;
        self.launch(
            Kernel::MeanTokens,
            &[source.at(0), wide.at(0), Buffer::Features.at(column)],
            &[images * width, tokens, taken.start, taken.len(), width, leading],
        );
    }

    fn pool_and_classify(&mut self) {
        let Sizes { images, tokens, prefix, width, .. } = self.sizes;
        let source = if self.parts.final_norm.is_some() { Buffer::Tokens } else { Buffer::Stream };
        self.stage = Stage::Pooling;
        match &self.parts.pooling {
            PoolingParts::Mean { first, taken, norm } => {
                self.mean(source, tokens, *first..*first + *taken, Buffer::Pooled, 0, width);
                self.residual_norm(images, Buffer::Pooled, None, *norm, Buffer::Pooled);
            }
            PoolingParts::DenseTanh(dense) => {
                self.mean(source, tokens, 0..1, Buffer::Branch, 0, width);
                self.linear(
                    matrix(Buffer::Matrices.at(dense.weight), width),
                    matrix(Buffer::Features.at(0), width),
                    matrix(Buffer::Pooled.at(0), width),
                    [images, width, width],
                );
                let places = [Buffer::Pooled.at(0), Buffer::Vectors.at(dense.bias)];
                let integers = [images * width, width, 1, 0, Function::Tanh as usize];
                self.launch(Kernel::BiasFunctionWide, &places, &integers);
            }
        }
        self.stage = Stage::Head;
        let Some(head) = &self.parts.head else { return };
        let bias = match head {
            HeadParts::Linear(layer) => {
                self.mean(Buffer::Pooled, 1, 0..1, Buffer::Branch, 0, width);
                self.classify(layer.weight, width, 0, 1.0, false);
                layer.bias
            }
            HeadParts::ClassAndPatchMean(layer) => {
                self.mean(source, tokens, 0..1, Buffer::Branch, 0, 2 * width);
                self.mean(source, tokens, prefix..tokens, Buffer::Branch, width, 2 * width);
                self.classify(layer.weight, 2 * width, 0, 1.0, false);
                layer.bias
            }
            HeadParts::AverageOfTwo { class, distillation } => {
                self.mean(source, tokens, 0..1, Buffer::Branch, 0, 2 * width);
                self.mean(source, tokens, 1..2, Buffer::Branch, width, 2 * width);
                self.classify(class.weight, width, 0, 0.5, false);
                self.classify(*distillation, width, width, 0.5, true);
                class.bias
            }
        };
        let classes = self.parts.classes;
        let places = [Buffer::Logits.at(0), Buffer::Vectors.at(bias)];
        let integers = [images * classes, classes, 1, 0, Function::Identity as usize];
        self.launch(Kernel::BiasFunctionWide, &places, &integers);
    }

    /// `inputs` of the features from `column` on, through a classifier.
    fn classify(&mut self, weight: usize, inputs: usize, column: usize, scale: f32, accumulate: bool) {
        let leading = match &self.parts.head {
            Some(HeadParts::Linear(_)) | None => self.sizes.width,
            Some(_) => 2 * self.sizes.width,
        };
        self.product(Product {
            rows: self.sizes.images,
            outputs: self.parts.classes,
            inputs,
            transposed: false,
            weight: matrix(Buffer::Matrices.at(weight), inputs),
            input: matrix(Buffer::Features.at(column), leading),
            output: matrix(Buffer::Logits.at(0), self.parts.classes),
            count: 1,
            scale,
            accumulate,
        });
    }
}
