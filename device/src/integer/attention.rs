//! Attention of a head, in integers of 16 bits.
//!
//! Queries and keys are rounded for each token, values for the whole head.
//! Scores are exact sums of their products. The attention of a query is
//! rounded to multiples of 2^-14: with at most 8,192 tokens, the numbers of a
//! query sum up to less than 2^14 (1 + 2^13 / 2^16) + 2^12 < 2^15, and their
//! products with values below 2^15 to less than 2^30. Dividing by the sum of the
//! rounded numbers takes out what rounding adds up to.

use super::functions::exp;
use super::lanes::{clamp, range, round};
use super::quantise::{LARGEST_QUERY, LARGEST_VALUE, symmetric_number, symmetric_scale};

/// What 1 is as attention of a query.
const WHOLE: f32 = 16_384.0;
/// What 1 is when exponentials are summed up as integers, in any order.
const EXPONENTIAL: f32 = 32_768.0;

/// Numbers from one quantised query or key to the next.
pub(super) const fn pairs(dims: usize) -> usize {
    dims.next_multiple_of(2)
}

/// Rounds `[tokens, dims]` queries or keys to rows of [`pairs`].
pub(super) fn quantise_queries(values: &[f32], dims: usize, out: &mut [i16], scales: &mut [f32]) {
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

/// Rounds `[tokens, dims]` values to `[dims, padded]` and returns what 1 is worth.
pub(super) fn quantise_values(values: &[f32], dims: usize, padded: usize, out: &mut [i16]) -> f32 {
    let (scale, inverse) = symmetric_scale(range(values), LARGEST_VALUE);
    out[..dims * padded].fill(0);
    for (token, values) in values.chunks_exact(dims).enumerate() {
        for (dim, value) in values.iter().enumerate() {
            out[dim * padded + token] = symmetric_number(*value, inverse, LARGEST_VALUE);
        }
    }
    scale
}

/// From exact scores to the attention of a query, zeros after the last token; and the sum of it.
pub(super) fn softmax(scores: &mut [f32], attention: &mut [i16]) -> i32 {
    let mut largest = f32::NEG_INFINITY;
    for &score in &*scores {
        largest = if score > largest { score } else { largest };
    }
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

/// The keys and values of a head, rounded.
#[derive(Clone, Copy)]
pub(super) struct Attended<'a> {
    pub keys: &'a [i16],
    pub key_scales: &'a [f32],
    pub values: &'a [i16],
    pub value_scale: f32,
    pub tokens: usize,
    pub padded: usize,
    pub query_dims: usize,
}

/// What one query takes from the values: fills `out`. `scale` is what 1 of the query is worth, divided by the square
/// root of the head's dimensions.
pub(super) fn attend(
    head: &Attended<'_>,
    query: &[i16],
    scale: f32,
    scores: &mut [f32],
    attention: &mut [i16],
    out: &mut [f32],
) {
    let scores = &mut scores[..head.tokens];
    let keys = head.keys.chunks_exact(pairs(head.query_dims));
    for ((score, key), key_scale) in scores.iter_mut().zip(keys).zip(head.key_scales) {
        *score = dot(query, key) as f32 * (scale * key_scale);
    }
    let attention = &mut attention[..head.padded];
    let sum = softmax(scores, attention);
    let scale = head.value_scale / sum as f32;
    for (out, values) in out.iter_mut().zip(head.values.chunks_exact(head.padded)) {
        *out = dot(attention, values) as f32 * scale;
    }
}

#[cfg(not(armv7e_m))]
#[inline(always)]
fn dot(a: &[i16], b: &[i16]) -> i32 {
    a.iter().zip(b).fold(0_i32, |sum, (&a, &b)| sum.wrapping_add(i32::from(a) * i32::from(b)))
}

/// Both have an even number of halfwords and begin at words.
#[cfg(armv7e_m)]
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
