//! Attention of a head, in integers of 16 bits.
//!
//! Queries and keys are rounded for each token, values for the whole head.
//! Scores are exact sums of their products. The attention of a query is
//! rounded to multiples of 2^-14: with at most 8,192 tokens, the numbers of a
//! query sum up to less than 2^14 (1 + 2^13 / 2^16) + 2^12 < 2^15, and their
//! products with values below 2^15 to less than 2^30. Dividing by the sum of the
//! rounded numbers takes out what rounding adds up to.

use super::functions::exp;
use super::kernel::Kernel;
use super::lanes::{clamp, largest, range, round};
use super::quantise::{LARGEST_QUERY, LARGEST_VALUE, symmetric_number, symmetric_scale};

/// What 1 is as attention of a query.
const WHOLE: f32 = 16_384.0;
/// What 1 is when exponentials are summed up as integers, in any order.
const EXPONENTIAL: f32 = 32_768.0;

/// Numbers from one quantised query or key to the next.
pub(super) const fn pairs(dims: usize) -> usize {
    dims.next_multiple_of(2)
}

/// Tokens of a head that rounded keys and values have room for.
pub(super) const fn padded_tokens(tokens: usize) -> usize {
    tokens.next_multiple_of(32)
}

/// Dimensions of a head that rounded values have room for.
pub(super) const fn padded_dims(dims: usize) -> usize {
    dims.next_multiple_of(16)
}

/// How the rounded keys and values of a head lie in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Layout {
    /// Keys `[tokens, pairs(dims)]`, values `[dims, padded tokens]`: a dot product reads two rows.
    Rows,
    /// Keys `[dims / 2, padded tokens, 2]`, values `[tokens / 2, padded dims, 2]`: a vector of pairs has a lane for
    /// each token, or for each dimension.
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    Pairs,
}

/// Rounds `[tokens, dims]` queries to rows of [`pairs`], or keys.
pub(super) struct QuantiseQueries<'a> {
    pub values: &'a [f32],
    pub dims: usize,
    pub out: &'a mut [i16],
    pub scales: &'a mut [f32],
}

impl Kernel for QuantiseQueries<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { values, dims, out, scales } = self;
        let rows = values.chunks_exact(dims).zip(out.chunks_exact_mut(pairs(dims)));
        for ((values, out), scale) in rows.zip(scales) {
            let (one, inverse) = symmetric_scale(range(values), LARGEST_QUERY);
            *scale = one;
            out[dims..].fill(0);
            for (out, value) in out.iter_mut().zip(values) {
                *out = symmetric_number(*value, inverse, LARGEST_QUERY);
            }
        }
    }
}

/// Brings rows of keys into [`Layout::Pairs`]; keys after the last token are 0.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub(super) fn keys_in_pairs(rows: &[i16], dims: usize, tokens: usize, out: &mut [i16]) {
    let (pairs, padded) = (pairs(dims) / 2, padded_tokens(tokens));
    let out = &mut out.as_chunks_mut::<2>().0[..pairs * padded];
    for (pair, out) in out.chunks_exact_mut(padded).enumerate() {
        let (out, rest) = out.split_at_mut(tokens);
        let rows = rows.as_chunks::<2>().0.chunks_exact(pairs);
        for (out, row) in out.iter_mut().zip(rows) {
            *out = row[pair];
        }
        rest.fill([0; 2]);
    }
}

/// Rounds `[tokens, dims]` values into a layout; what pads it is 0.
pub(super) struct QuantiseValues<'a> {
    pub values: &'a [f32],
    pub dims: usize,
    pub tokens: usize,
    pub layout: Layout,
    pub out: &'a mut [i16],
    /// What 1 is worth.
    pub scale: &'a mut f32,
}

impl Kernel for QuantiseValues<'_> {
    #[inline(always)]
    fn run(self) {
        let Self { values, dims, tokens, layout, out, scale } = self;
        let (one, inverse) = symmetric_scale(range(values), LARGEST_VALUE);
        *scale = one;
        let padded = padded_tokens(tokens);
        match layout {
            Layout::Rows => {
                out[..dims * padded].fill(0);
                for (token, values) in values.chunks_exact(dims).enumerate() {
                    for (dim, value) in values.iter().enumerate() {
                        out[dim * padded + token] = symmetric_number(*value, inverse, LARGEST_VALUE);
                    }
                }
            }
            #[cfg(all(feature = "std", target_arch = "x86_64"))]
            Layout::Pairs => {
                let width = padded_dims(dims);
                let out = &mut out.as_chunks_mut::<2>().0[..padded / 2 * width];
                out[tokens / 2 * width..].fill([0; 2]);
                for (values, out) in values.chunks(2 * dims).zip(out.chunks_exact_mut(width)) {
                    let (even, odd) = values.split_at(dims);
                    let (out, padding) = out.split_at_mut(dims);
                    padding.fill([0; 2]);
                    if odd.is_empty() {
                        for (out, even) in out.iter_mut().zip(even) {
                            out[0] = symmetric_number(*even, inverse, LARGEST_VALUE);
                        }
                    } else {
                        for ((out, even), odd) in out.iter_mut().zip(even).zip(odd) {
                            *out = [even, odd].map(|value| symmetric_number(*value, inverse, LARGEST_VALUE));
                        }
                    }
                }
            }
        }
    }
}

/// From exact scores to the attention of a query, zeros after the last token; and the sum of it. A merged token counts
/// as many times as it has sources: their logarithms are added to the scores.
#[inline(always)]
pub(super) fn softmax(scores: &mut [f32], log_sizes: Option<&[f32]>, attention: &mut [i16]) -> i32 {
    if let Some(log_sizes) = log_sizes {
        scores.iter_mut().zip(log_sizes).for_each(|(score, log_size)| *score += log_size);
    }
    let largest = largest(scores);
    let mut total = 0_i32;
    for score in &mut *scores {
        *score = exp(*score - largest);
        total = total.wrapping_add(round(*score * EXPONENTIAL));
    }
    let factor = WHOLE * EXPONENTIAL / total as f32;
    let mut sum = 0_i32;
    let (attention, padding) = attention.split_at_mut(scores.len());
    padding.fill(0);
    for (attention, score) in attention.iter_mut().zip(scores) {
        let number = round(clamp(*score * factor, 0.0, WHOLE));
        *attention = number as i16;
        sum = sum.wrapping_add(number);
    }
    sum
}

/// The attention of one head: what each query takes from the values.
pub(super) struct Attend<'a> {
    /// `[queries, pairs(query_dims)]`.
    pub queries: &'a [i16],
    /// Of each query: their number is that of the queries.
    pub query_scales: &'a [f32],
    /// In the layout that the kernel reads.
    pub keys: &'a [i16],
    pub key_scales: &'a [f32],
    pub values: &'a [i16],
    pub value_scale: f32,
    /// Scores are divided by it.
    pub root: f32,
    pub tokens: usize,
    /// The logarithms of their sizes, once tokens were merged.
    pub log_sizes: Option<&'a [f32]>,
    pub query_dims: usize,
    pub value_dims: usize,
    /// One for each padded token.
    pub scores: &'a mut [f32],
    pub attention: &'a mut [i16],
    /// The first value of the first query goes to its start.
    pub out: &'a mut [f32],
    /// Values from one query's output to the next.
    pub stride: usize,
}

impl Kernel for Attend<'_> {
    /// With [`Layout::Rows`].
    #[inline(always)]
    fn run(self) {
        let padded = padded_tokens(self.tokens);
        let scores = &mut self.scores[..self.tokens];
        let attention = &mut self.attention[..padded];
        let pairs = pairs(self.query_dims);
        for (query, query_scale) in self.query_scales.iter().enumerate() {
            let out = &mut self.out[query * self.stride..][..self.value_dims];
            let query = &self.queries[query * pairs..][..pairs];
            let scale = query_scale / self.root;
            for ((score, key), key_scale) in scores.iter_mut().zip(self.keys.chunks_exact(pairs)).zip(self.key_scales) {
                *score = dot(query, key) as f32 * (scale * key_scale);
            }
            let sum = softmax(scores, self.log_sizes, attention);
            let scale = self.value_scale / sum as f32;
            for (out, values) in out.iter_mut().zip(self.values.chunks_exact(padded)) {
                *out = dot(attention, values) as f32 * scale;
            }
        }
    }
}

#[cfg(not(arm_dsp))]
#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0_i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
}

/// Both have an even number of halfwords and begin at words.
#[cfg(arm_dsp)]
#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    use super::product::multiply_add;
    let [a, b] = [a, b].map(bytemuck::cast_slice::<i16, u32>);
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sum = 0;
    for (a, b) in a.iter().zip(b) {
        for pair in 0..4 {
            sum = multiply_add(a[pair], b[pair], sum);
        }
    }
    a_rest.iter().zip(b_rest).fold(sum, |sum, (&a, &b)| multiply_add(a, b, sum))
}
