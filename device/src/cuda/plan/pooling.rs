//! From the tokens after the last block to the image embedding and the classes.

use std::ops::Range;

use super::super::buffer::Buffer;
use super::super::kernel::{Function, Kernel};
use super::super::weights::{HeadParts, PoolingParts};
use super::builder::{Builder, matrix};
use super::sizes::Sizes;
use super::{Plan, Product, Stage};

impl Builder<'_> {
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

    /// Ends the table.
    pub fn pool_and_classify(mut self) -> Plan {
        self.stage = Stage::Pooling;
        let source = self.all_tokens();
        self.pool(source);
        self.leaves(Buffer::Pooled, self.sizes.images * self.sizes.width);
        if let Some(head) = &self.parts.head {
            self.stage = Stage::Head;
            self.classify(head, source);
            self.leaves(Buffer::Logits, self.sizes.images * self.parts.classes);
        }
        Plan { operations: self.operations, results: self.results, tokens: source }
    }

    fn pool(&mut self, source: Buffer) {
        let Sizes { images, tokens, width, .. } = self.sizes;
        match &self.parts.pooling {
            PoolingParts::Mean { first, taken, norm } => {
                self.mean(source, tokens, *first..*first + *taken, Buffer::Pooled, 0, width);
                self.residual_norm(images, Buffer::Pooled, None, *norm, Buffer::Pooled);
            }
            PoolingParts::Attention(parts) => self.pool_by_attention(parts, source),
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
    }

    fn classify(&mut self, head: &HeadParts, source: Buffer) {
        let Sizes { images, tokens, prefix, width, .. } = self.sizes;
        let bias = match head {
            HeadParts::Linear(layer) => {
                self.mean(Buffer::Pooled, 1, 0..1, Buffer::Branch, 0, width);
                self.class_scores(layer.weight, width, 0, 1.0, false);
                layer.bias
            }
            HeadParts::ClassAndPatchMean(layer) => {
                self.mean(source, tokens, 0..1, Buffer::Branch, 0, 2 * width);
                self.mean(source, tokens, prefix..tokens, Buffer::Branch, width, 2 * width);
                self.class_scores(layer.weight, 2 * width, 0, 1.0, false);
                layer.bias
            }
            HeadParts::AverageOfTwo { class, distillation } => {
                self.mean(source, tokens, 0..1, Buffer::Branch, 0, 2 * width);
                self.mean(source, tokens, 1..2, Buffer::Branch, width, 2 * width);
                self.class_scores(class.weight, width, 0, 0.5, false);
                self.class_scores(*distillation, width, width, 0.5, true);
                class.bias
            }
        };
        let classes = self.parts.classes;
        let places = [Buffer::Logits.at(0), Buffer::Vectors.at(bias)];
        let integers = [images * classes, classes, 1, 0, Function::Identity as usize];
        self.launch(Kernel::BiasFunctionWide, &places, &integers);
    }

    /// `inputs` of the features from `column` on, through a classifier.
    fn class_scores(&mut self, weight: usize, inputs: usize, column: usize, scale: f32, accumulate: bool) {
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
