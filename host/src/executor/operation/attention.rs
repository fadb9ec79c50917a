//! Multi-head self-attention on one packed tensor of queries, keys and values.
//!
//! Packed: `[images * tokens, heads * (2 * query_dims + value_dims)]`; a row holds the token's
//! queries of all heads, then its keys, then its values. The backward pass recomputes the
//! probabilities, so that a trace holds nothing quadratic in the tokens.

use candle_core::{D, Device, Result, Tensor};
use faer::linalg::matmul::matmul;
use faer::{Accum, MatMut, MatRef, Par};

use super::vector::{self, NullaryFnOnce, vectorised};
use super::{is_fused, multiplied, values, widened};

/// The sizes of one attention.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Attention {
    pub images: usize,
    pub tokens: usize,
    pub heads: usize,
    /// Of a head's queries, and of its keys.
    pub query_dims: usize,
    pub value_dims: usize,
    /// Multiplies the scores: `head_dim^-0.5` of the head before any dimension was cut.
    pub scale: f64,
}

/// The parts of a packed row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Queries,
    Keys,
    Values,
}

impl Part {
    const ALL: [Self; 3] = [Self::Queries, Self::Keys, Self::Values];
}

impl Attention {
    /// `softmax(scale q k^T) v` of every head, `[images * tokens, heads * value_dims]`.
    ///
    /// # Errors
    /// If `packed` has another shape.
    pub fn forward(&self, packed: &Tensor) -> Result<Tensor> {
        if !is_fused(&[packed]) {
            return self.composite_forward(packed, None);
        }
        self.check(packed, self.packed_width())?;
        let packed = values(packed)?;
        let mut out = vec![0.0; self.rows() * self.width()];
        let mut probabilities = vec![0.0; self.tokens * self.tokens];
        for (image, head) in self.pairs() {
            self.probabilities(&packed, image, head, &mut probabilities);
            matmul(
                self.rows_of_mut(&mut out, self.width(), image, head * self.value_dims, self.value_dims),
                Accum::Replace,
                MatRef::from_row_major_slice(&probabilities, self.tokens, self.tokens),
                self.part(&packed, image, head, Part::Values),
                1.0,
                Par::Seq,
            );
        }
        Tensor::from_vec(out, (self.rows(), self.width()), &Device::Cpu)
    }

    /// As [`Self::forward`], where tokens stand for several: `log_sizes`, which broadcasts to the scores `[images, heads,
    /// tokens, tokens]`, is added to them.
    ///
    /// # Errors
    /// If shapes disagree.
    pub fn forward_of_groups(&self, packed: &Tensor, log_sizes: &Tensor) -> Result<Tensor> {
        self.composite_forward(packed, Some(log_sizes))
    }

    fn composite_forward(&self, packed: &Tensor, log_sizes: Option<&Tensor>) -> Result<Tensor> {
        self.check(packed, self.packed_width())?;
        let [query, key, value] = self.unpacked(packed)?;
        let probabilities = self.composite_probabilities(&query, &key, log_sizes)?;
        self.merged(&multiplied(&probabilities, &value)?)
    }

    /// The gradient at `packed`, packed in the same way.
    ///
    /// # Errors
    /// If `packed` or `gradient` has another shape.
    pub fn backward(&self, packed: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        self.check(packed, self.packed_width())?;
        self.check(gradient, self.width())?;
        if !is_fused(&[packed, gradient]) {
            return self.composite_backward(packed, gradient);
        }
        let (packed, gradient) = (values(packed)?, values(gradient)?);
        let mut out = vec![0.0; packed.len()];
        let mut probabilities = vec![0.0; self.tokens * self.tokens];
        let mut scores = vec![0.0; self.tokens * self.tokens];
        for (image, head) in self.pairs() {
            let [query, key, value] = Part::ALL.map(|part| self.part(&packed, image, head, part));
            let gradient = self.rows_of(&gradient, self.width(), image, head * self.value_dims, self.value_dims);
            self.probabilities(&packed, image, head, &mut probabilities);
            matmul(
                MatMut::from_row_major_slice_mut(&mut scores, self.tokens, self.tokens),
                Accum::Replace,
                gradient,
                value.transpose(),
                1.0,
                Par::Seq,
            );
            let (width, scale) = (self.tokens, self.scale as f32);
            vectorised(SoftmaxBackward { probabilities: &probabilities, gradient: &mut scores, width, scale });
            let [scores, probabilities] = [&scores, &probabilities]
                .map(|values| MatRef::from_row_major_slice(values.as_slice(), self.tokens, self.tokens));
            let products = [
                (Part::Queries, scores, key),
                (Part::Keys, scores.transpose(), query),
                (Part::Values, probabilities.transpose(), gradient),
            ];
            for (part, left, right) in products {
                let (first, dims) = self.columns(part);
                let target = self.rows_of_mut(&mut out, self.packed_width(), image, first + head * dims, dims);
                matmul(target, Accum::Replace, left, right, 1.0, Par::Seq);
            }
        }
        Tensor::from_vec(out, (self.rows(), self.packed_width()), &Device::Cpu)
    }

    fn rows(&self) -> usize {
        self.images * self.tokens
    }

    fn width(&self) -> usize {
        self.heads * self.value_dims
    }

    fn packed_width(&self) -> usize {
        self.heads * (2 * self.query_dims + self.value_dims)
    }

    fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let heads = self.heads;
        (0..self.images).flat_map(move |image| (0..heads).map(move |head| (image, head)))
    }

    fn check(&self, tensor: &Tensor, width: usize) -> Result<()> {
        let expected = (self.rows(), width);
        if tensor.dims2()? != expected {
            candle_core::bail!("attention expects {expected:?}, found {:?}", tensor.shape());
        }
        Ok(())
    }

    /// The first column of a part of a packed row, and the dimensions of each head there.
    fn columns(&self, part: Part) -> (usize, usize) {
        let queries = self.heads * self.query_dims;
        match part {
            Part::Queries => (0, self.query_dims),
            Part::Keys => (queries, self.query_dims),
            Part::Values => (2 * queries, self.value_dims),
        }
    }

    /// The `[tokens, dims]` of one part of a head of an image.
    fn part<'a>(&self, packed: &'a [f32], image: usize, head: usize, part: Part) -> MatRef<'a, f32> {
        let (first, dims) = self.columns(part);
        self.rows_of(packed, self.packed_width(), image, first + head * dims, dims)
    }

    /// Some columns of an image's rows, which are `width` wide.
    fn rows_of<'a>(&self, all: &'a [f32], width: usize, image: usize, first: usize, dims: usize) -> MatRef<'a, f32> {
        let values = &all[image * self.tokens * width + first..];
        MatRef::from_row_major_slice_with_stride(values, self.tokens, dims, width)
    }

    fn rows_of_mut<'a>(
        &self,
        all: &'a mut [f32],
        width: usize,
        image: usize,
        first: usize,
        dims: usize,
    ) -> MatMut<'a, f32> {
        let values = &mut all[image * self.tokens * width + first..];
        // By way of the transpose: in faer 0.24 the strided row-major constructor exchanges the strides.
        MatMut::from_column_major_slice_with_stride_mut(values, dims, self.tokens, width).transpose_mut()
    }

    /// `softmax(scale q k^T)` of one head of one image into `out`, `[tokens, tokens]`.
    fn probabilities(&self, packed: &[f32], image: usize, head: usize, out: &mut [f32]) {
        matmul(
            MatMut::from_row_major_slice_mut(out, self.tokens, self.tokens),
            Accum::Replace,
            self.part(packed, image, head, Part::Queries),
            self.part(packed, image, head, Part::Keys).transpose(),
            self.scale as f32,
            Par::Seq,
        );
        vectorised(Softmax { scores: out, width: self.tokens });
    }

    /// `[images, heads, tokens, dims]` of a tensor `[rows, heads * dims]`.
    fn split(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.reshape((self.images, self.tokens, self.heads, ()))?.transpose(1, 2)?.contiguous()
    }

    /// The inverse of [`Self::split`].
    fn merged(&self, tensor: &Tensor) -> Result<Tensor> {
        tensor.transpose(1, 2)?.reshape((self.rows(), ()))
    }

    fn unpacked(&self, packed: &Tensor) -> Result<[Tensor; 3]> {
        let part = |part: Part| {
            let (first, dims) = self.columns(part);
            self.split(&packed.narrow(1, first, self.heads * dims)?.contiguous()?)
        };
        Ok([part(Part::Queries)?, part(Part::Keys)?, part(Part::Values)?])
    }

    fn composite_probabilities(&self, query: &Tensor, key: &Tensor, log_sizes: Option<&Tensor>) -> Result<Tensor> {
        let mut scores = (widened(&multiplied(query, &key.t()?)?)? * self.scale)?;
        if let Some(log_sizes) = log_sizes {
            scores = scores.broadcast_add(log_sizes)?;
        }
        let powers = scores.broadcast_sub(&scores.max_keepdim(D::Minus1)?)?.exp()?;
        powers.broadcast_div(&powers.sum_keepdim(D::Minus1)?)?.to_dtype(query.dtype())
    }

    fn composite_backward(&self, packed: &Tensor, gradient: &Tensor) -> Result<Tensor> {
        let [query, key, value] = self.unpacked(packed)?;
        let probabilities = self.composite_probabilities(&query, &key, None)?;
        let gradient = self.split(gradient)?;
        let at_probabilities = widened(&multiplied(&gradient, &value.t()?)?)?;
        let wide = widened(&probabilities)?;
        let mean = (&at_probabilities * &wide)?.sum_keepdim(D::Minus1)?;
        let scores = (at_probabilities.broadcast_sub(&mean)?.mul(&wide)? * self.scale)?.to_dtype(packed.dtype())?;
        let parts = [
            multiplied(&scores, &key)?,
            multiplied(&scores.t()?.contiguous()?, &query)?,
            multiplied(&probabilities.t()?.contiguous()?, &gradient)?,
        ];
        let parts = parts.iter().map(|part| self.merged(part)).collect::<Result<Vec<_>>>()?;
        Tensor::cat(&parts, 1)
    }
}

/// The softmax of every row, in place.
struct Softmax<'a> {
    scores: &'a mut [f32],
    width: usize,
}

impl NullaryFnOnce for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        for row in self.scores.chunks_exact_mut(self.width) {
            let largest = vector::maximum(row);
            for score in row.iter_mut() {
                *score = vector::exp(*score - largest);
            }
            let inverse = 1.0 / vector::sum(row);
            for probability in row.iter_mut() {
                *probability *= inverse;
            }
        }
    }
}

/// From the gradient at the probabilities to the one at the scores before they were scaled, in its place.
struct SoftmaxBackward<'a> {
    probabilities: &'a [f32],
    gradient: &'a mut [f32],
    width: usize,
    scale: f32,
}

impl NullaryFnOnce for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let rows = self.probabilities.chunks_exact(self.width).zip(self.gradient.chunks_exact_mut(self.width));
        for (probabilities, gradient) in rows {
            let mean = vector::dot(probabilities, gradient);
            for (gradient, probability) in gradient.iter_mut().zip(probabilities) {
                *gradient = (*gradient - mean) * probability * self.scale;
            }
        }
    }
}
