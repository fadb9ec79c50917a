//! What a table is built with, and its embedding and MLPs.

use super::super::buffer::{Buffer, Place, Storage};
use super::super::capability::ComputeCapability;
use super::super::kernel::{Function, Kernel, Launch};
use super::super::weights::{BlockParts, BranchEnd, Norm, Parts};
use super::sizes::Sizes;
use super::{Matrix, Operation, Product, Stage, StageResult};
use crate::model::Description;

pub(super) fn matrix(place: Place, leading: usize) -> Matrix {
    Matrix { place, leading, stride: 0 }
}

pub(super) struct Builder<'a> {
    pub sizes: Sizes,
    pub parts: &'a Parts,
    pub capability: ComputeCapability,
    pub stage: Stage,
    pub operations: Vec<(Stage, Operation)>,
    pub results: Vec<StageResult>,
    /// Tokens of an image that are left.
    pub tokens: usize,
    /// Where they are: the one of `Stream` and `Tokens` that merging wrote last.
    pub stream: Buffer,
    /// The half of `GroupSizes` that is theirs.
    pub half: usize,
}

impl<'a> Builder<'a> {
    pub fn new(sizes: Sizes, parts: &'a Parts, capability: ComputeCapability) -> Self {
        Self {
            sizes,
            parts,
            capability,
            stage: Stage::Embedding,
            operations: Vec::new(),
            results: Vec::new(),
            tokens: sizes.tokens,
            stream: Buffer::Stream,
            half: 0,
        }
    }

    /// Tokens of all images that are left.
    pub fn rows(&self) -> usize {
        self.sizes.images * self.tokens
    }

    /// Whether tokens were merged.
    pub fn has_merged(&self) -> bool {
        self.tokens < self.sizes.tokens
    }

    /// The one of `Stream` and `Tokens` where the stream is not.
    pub fn free(&self) -> Buffer {
        if self.stream == Buffer::Stream { Buffer::Tokens } else { Buffer::Stream }
    }

    /// Ends the stage.
    pub fn leaves(&mut self, buffer: Buffer, values: usize) {
        self.results.push(StageResult { stage: self.stage, buffer, values });
    }

    /// Ends a stage that leaves the stream.
    pub fn leaves_stream(&mut self) {
        self.leaves(self.stream, self.rows() * self.sizes.width);
    }

    pub fn launch(&mut self, kernel: Kernel, places: &[Place], integers: &[usize]) {
        // A kernel with nothing to do cannot be launched.
        if integers[0] > 0 {
            self.operations.push((self.stage, Operation::Kernel(Launch::new(kernel, places, integers))));
        }
    }

    pub fn product(&mut self, product: Product) {
        self.operations.push((self.stage, Operation::Product(product)));
    }

    /// `rows` of `input` through the first `outputs` rows and `inputs` columns of a matrix with rows of `leading`.
    pub fn linear(&mut self, weight: Matrix, input: Matrix, output: Matrix, [rows, outputs, inputs]: [usize; 3]) {
        let (transposed, count, scale, accumulate) = (false, 1, 1.0, false);
        self.product(Product { rows, outputs, inputs, transposed, weight, input, output, count, scale, accumulate });
    }

    /// Adds a branch to the stream where there is one, and normalises for what follows.
    pub fn residual_norm(
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
        let wide = out.storage() == Storage::F32;
        let (narrow_out, wide_out) = if wide { (Buffer::Normed, out) } else { (out, stream) };
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

    pub fn embed(&mut self, description: &Description) {
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
        self.leaves_stream();
    }

    /// The norm of what goes into block `index`, or out of the last one.
    fn norm_before(&self, index: usize) -> Option<Norm> {
        self.parts.blocks.get(index).map_or(self.parts.final_norm, |block| Some(block.norm1))
    }

    fn normed_before(&self, index: usize) -> Buffer {
        if index < self.parts.blocks.len() { Buffer::Normed } else { self.free() }
    }

    /// The branch of nothing, to which its bias is added still.
    pub fn empty_branch(&mut self) {
        let values = self.rows() * self.sizes.width;
        self.operations.push((self.stage, Operation::Zeros { buffer: Buffer::Branch, values }));
    }

    pub fn mlp(&mut self, index: usize, block: &BlockParts, end: BranchEnd, neurons: usize, function: Function) {
        self.stage = Stage::Mlp { block: index };
        let (rows, width) = (self.rows(), self.sizes.width);
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
        self.residual_norm(rows, self.stream, Some(end), norm, out);
        self.leaves_stream();
    }
}
