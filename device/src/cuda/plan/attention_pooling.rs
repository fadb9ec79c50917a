//! Pooling by a learned query that attends to all tokens, then an MLP: SigLIP.

use super::super::buffer::Buffer;
use super::super::kernel::{Function, Kernel};
use super::super::weights::AttentionPoolingParts;
use super::builder::{Builder, matrix};
use super::fused_attention::{Attention, Rows, fused_kernel};
use super::sizes::{Sizes, score_leading};
use super::{Matrix, Operation, Product};

impl Builder<'_> {
    /// `source` has all tokens of the dense model: attention to copies of a merged one weighs it by its size.
    pub(super) fn pool_by_attention(&mut self, parts: &AttentionPoolingParts, source: Buffer) {
        let Sizes { images, width, .. } = self.sizes;
        self.pooling_keys_values(parts, source);
        self.attend_with_probe(parts);
        self.linear(
            matrix(Buffer::Matrices.at(parts.projection.layer.weight), width),
            matrix(Buffer::Attended.at(0), width),
            matrix(Buffer::Branch.at(0), width),
            [images, width, width],
        );
        self.operations.push((self.stage, Operation::Zeros { buffer: Buffer::Pooled, values: images * width }));
        self.residual_norm(images, Buffer::Pooled, Some(parts.projection), Some(parts.norm), Buffer::Normed);
        self.linear(
            matrix(Buffer::Matrices.at(parts.up.weight), width),
            matrix(Buffer::Normed.at(0), width),
            matrix(Buffer::Hidden.at(0), parts.neurons),
            [images, parts.neurons, width],
        );
        self.launch(
            Kernel::BiasFunction,
            &[Buffer::Hidden.at(0), Buffer::Vectors.at(parts.up.bias)],
            &[images * parts.neurons, parts.neurons, 1, 0, Function::from(parts.activation) as usize],
        );
        self.linear(
            matrix(Buffer::Matrices.at(parts.down.layer.weight), parts.neurons),
            matrix(Buffer::Hidden.at(0), parts.neurons),
            matrix(Buffer::Branch.at(0), width),
            [images, width, parts.neurons],
        );
        self.residual_norm(images, Buffer::Pooled, Some(parts.down), None, Buffer::Normed);
    }

    /// Each token's row has its key, then its value.
    fn pooling_keys_values(&mut self, parts: &AttentionPoolingParts, source: Buffer) {
        let width = self.sizes.width;
        let rows = self.sizes.rows();
        // The mean of one token is its value in f16.
        self.launch(
            Kernel::MeanTokens,
            &[source.at(0), Buffer::Branch.at(0), Buffer::Normed.at(0)],
            &[rows * width, 1, 0, 1, width, width],
        );
        self.linear(
            matrix(Buffer::Matrices.at(parts.keys_values.weight), width),
            matrix(Buffer::Normed.at(0), width),
            matrix(Buffer::Attention.at(0), 2 * width),
            [rows, 2 * width, width],
        );
        self.launch(
            Kernel::BiasFunction,
            &[Buffer::Attention.at(0), Buffer::Vectors.at(parts.keys_values.bias)],
            &[rows * 2 * width, 2 * width, 1, 0, Function::Identity as usize],
        );
    }

    fn attend_with_probe(&mut self, parts: &AttentionPoolingParts) {
        let Sizes { tokens, width, .. } = self.sizes;
        let head_dim = width / parts.heads;
        let Some(kernel) = fused_kernel(self.capability, head_dim, head_dim) else {
            return self.probe_with_scores(parts);
        };
        self.attend_fused(
            kernel,
            &Attention {
                queries: Buffer::Matrices.at(parts.query),
                keys: Buffer::Attention.at(0),
                values: Buffer::Attention.at(width),
                query_rows: Rows { of_image: 1, leading: width, stride: 0 },
                key_leading: 2 * width,
                tokens,
                heads: parts.heads,
                head_dim,
                query_dims: head_dim,
                value_dims: head_dim,
                weighted: false,
            },
        );
    }

    /// One row of scores for each head of an image.
    fn probe_with_scores(&mut self, parts: &AttentionPoolingParts) {
        let Sizes { images, tokens, width, .. } = self.sizes;
        let (heads, head_dim, leading) = (parts.heads, width / parts.heads, score_leading(tokens));
        let of_attention = |image: usize, part: usize| Matrix {
            place: Buffer::Attention.at((image * tokens * 2 + part) * width),
            leading: 2 * width,
            stride: head_dim,
        };
        let scores =
            |image: usize| Matrix { place: Buffer::Scores.at(image * heads * leading), leading, stride: leading };
        for image in 0..images {
            self.product(Product {
                rows: 1,
                outputs: tokens,
                inputs: head_dim,
                transposed: false,
                weight: of_attention(image, 0),
                input: Matrix { place: Buffer::Matrices.at(parts.query), leading: width, stride: head_dim },
                output: scores(image),
                count: heads,
                scale: 1.0 / (head_dim as f32).sqrt(),
                accumulate: false,
            });
        }
        self.softmax(heads, tokens, leading, false);
        for image in 0..images {
            self.product(Product {
                rows: 1,
                outputs: head_dim,
                inputs: tokens,
                transposed: true,
                weight: of_attention(image, 1),
                input: scores(image),
                output: Matrix { place: Buffer::Attended.at(image * width), leading: width, stride: head_dim },
                count: heads,
                scale: 1.0,
                accumulate: false,
            });
        }
    }
}
