//! The attention of a block.

use super::super::buffer::Buffer;
use super::super::kernel::{Function, Kernel};
use super::super::weights::{BlockParts, BranchEnd, Layer};
use super::builder::{Builder, matrix};
use super::fused_attention::{Attention, Rows, fused_kernel};
use super::rung::BlockRung;
use super::sizes::{Sizes, score_leading};
use super::{Matrix, Operation, Product, Stage};

impl Builder<'_> {
    pub fn attention(&mut self, index: usize, block: &BlockParts, end: BranchEnd, rung: &BlockRung) {
        self.stage = Stage::Attention { block: index };
        if rung.heads > 0 && rung.value_dims > 0 {
            self.queries_keys_values(block.attention, rung);
            self.attend(rung);
            let attended = rung.heads * self.sizes.head_dim;
            self.linear(
                matrix(Buffer::Matrices.at(end.layer.weight), self.sizes.heads * self.sizes.head_dim),
                matrix(Buffer::Attended.at(0), attended),
                matrix(Buffer::Branch.at(0), self.sizes.width),
                [self.rows(), self.sizes.width, attended],
            );
        } else {
            if rung.merged > 0 && rung.heads > 0 {
                // Merging compares the keys; without heads all tokens are alike.
                self.queries_keys_values(block.attention, rung);
            }
            self.empty_branch();
        }
        let norm = (rung.merged == 0).then_some(block.norm2);
        self.residual_norm(self.rows(), self.stream, Some(end), norm, Buffer::Normed);
        self.leaves_stream();
    }

    /// Each token's row has the kept heads' queries, then their keys, then their values, each head in `head_dim` places
    /// of which the first are kept. What is beyond them may be computed, and nothing reads it.
    fn queries_keys_values(&mut self, layer: Layer, rung: &BlockRung) {
        let Sizes { width, heads, head_dim, .. } = self.sizes;
        let (rows, part) = (self.rows(), rung.heads * head_dim);
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
        let whole = |first: usize, parts: usize| product(first, part, heads * head_dim, part, parts);
        let by_head = |first: usize, dims: usize, heads: usize| product(first, dims, head_dim, head_dim, heads);
        // A product for each head takes as long as one of all dimensions unless it has half of them or fewer: tiles of
        // products are 32 or 64 wide.
        let is_whole = |dims: usize| 2 * dims > head_dim;
        let all = (0, 3, head_dim);
        let apart = [(0, 2, rung.query_dims), (2, 1, rung.value_dims)];
        let products = if apart.iter().all(|&(_, _, dims)| is_whole(dims)) { &[all][..] } else { &apart };
        for &(first, parts, dims) in products {
            if is_whole(dims) {
                self.product(whole(first, parts));
            } else if dims > 0 && rung.heads == heads {
                // The first head's keys follow the last one's queries as those of a next head would.
                self.product(by_head(first, dims, parts * heads));
            } else if dims > 0 {
                (first..first + parts).for_each(|part| self.product(by_head(part, dims, rung.heads)));
            }
        }
        self.launch(
            Kernel::BiasFunction,
            &[Buffer::Attention.at(0), Buffer::Vectors.at(layer.bias)],
            &[rows * 3 * part, part, 3, heads * head_dim, Function::Identity as usize],
        );
        if let Some(tables) = self.parts.rotary {
            let patches = self.tokens - self.sizes.prefix;
            self.launch(
                Kernel::Rotary,
                &[Buffer::Attention.at(0), Buffer::Vectors.at(tables.cosines), Buffer::Vectors.at(tables.sines)],
                &[self.sizes.images * patches * part, self.tokens, self.sizes.prefix, rung.heads, head_dim],
            );
        }
    }

    fn attend(&mut self, rung: &BlockRung) {
        let head_dim = self.sizes.head_dim;
        let Some(kernel) = fused_kernel(self.capability, head_dim, rung.query_dims.max(rung.value_dims)) else {
            return self.attend_with_scores(rung);
        };
        let (tokens, part) = (self.tokens, rung.heads * head_dim);
        self.attend_fused(
            kernel,
            &Attention {
                queries: Buffer::Attention.at(0),
                keys: Buffer::Attention.at(part),
                values: Buffer::Attention.at(2 * part),
                query_rows: Rows { of_image: tokens, leading: 3 * part, stride: tokens * 3 * part },
                key_leading: 3 * part,
                tokens,
                heads: rung.heads,
                head_dim,
                query_dims: rung.query_dims,
                value_dims: rung.value_dims,
                weighted: self.has_merged(),
            },
        );
    }

    fn attend_with_scores(&mut self, rung: &BlockRung) {
        let Sizes { images, head_dim, .. } = self.sizes;
        let tokens = self.tokens;
        let (part, leading) = (rung.heads * head_dim, score_leading(tokens));
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
        self.softmax(rung.heads * tokens, tokens, leading, self.has_merged());
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

    /// The shares of each of `columns` tokens, weighed by how many each stands for or not, in `rows` rows of scores of
    /// each image.
    pub(super) fn softmax(&mut self, rows: usize, columns: usize, leading: usize, weighted: bool) {
        let Sizes { images, tokens, .. } = self.sizes;
        self.launch(
            Kernel::Softmax,
            &[Buffer::Scores.at(0), Buffer::LogSizes.at(0)],
            &[images * rows, columns, leading, rows, tokens, weighted.into()],
        );
    }
}
