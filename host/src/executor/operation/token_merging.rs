//! Merging of similar tokens between the two branches of a block, as tensor operations: ToMe (arXiv 2210.09461).
//!
//! The rule is that of the device's engine (`headroom_device::engine`), ties included: patch tokens at even places take
//! the odd one whose mean key is most like theirs, the first of equals; those with the greatest likeness are merged, the
//! first of equals; a merged token is the mean of what it stands for. Nothing here waits for the device: which tokens go
//! where is a matrix, not a list, and the mean a product with it, so that it does not depend on the order of threads.
//!
//! Limits: the matrix has `(tokens - merged) * tokens` values for each image.

use candle_core::{D, DType, Device, Result, Tensor};

use super::widened;

/// Which patches the tokens of a batch stand for.
#[derive(Clone, Debug)]
pub struct TokenGroups {
    /// How many tokens of the dense model each token stands for, `[images, tokens]`.
    sizes: Tensor,
    /// For each token of the dense model the one that stands for it, `[images, dense tokens]`.
    places: Tensor,
}

/// The tokens that compete to be merged.
#[derive(Clone, Copy, Debug)]
pub struct Merge {
    /// Tokens at the start of each image that are never merged.
    pub prefix: usize,
    /// How many tokens of each image go into others: at most half of its patches.
    pub merged: usize,
}

impl TokenGroups {
    /// Every token stands for itself. `dtype` is what sums are safe in.
    ///
    /// # Errors
    /// If the device fails.
    pub fn single(images: usize, tokens: usize, dtype: DType, device: &Device) -> Result<Self> {
        let places = Tensor::arange(0, tokens as u32, device)?.unsqueeze(0)?.repeat((images, 1))?;
        Ok(Self { sizes: Tensor::ones((images, tokens), dtype, device)?, places })
    }

    /// What is added to the scores of the tokens as keys, `[images, 1, 1, tokens]`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn log_sizes(&self) -> Result<Tensor> {
        self.sizes.log()?.unsqueeze(1)?.unsqueeze(1)
    }

    /// The tokens that are left of `tokens` `[images, tokens, width]`, and which patches they stand for. `keys` are
    /// `[images, tokens, heads, dims]`; without a head all tokens are alike.
    ///
    /// # Errors
    /// If shapes disagree, or the device fails.
    pub fn merge(&self, tokens: &Tensor, keys: Option<&Tensor>, merge: Merge) -> Result<(Tensor, Self)> {
        let (images, count, _) = tokens.dims3()?;
        let (dtype, device) = (self.sizes.dtype(), tokens.device());
        let patches = count - merge.prefix;
        let (evens, odds, left) = (patches.div_ceil(2), patches / 2, count - merge.merged);
        let every_other = |first: u32| Tensor::arange_step(first, patches as u32, 2, device);
        let (even, odd) = (every_other(0)?, every_other(1)?);
        let numbers = |until: usize| Tensor::arange(0, until as u32, device)?.to_dtype(dtype);

        let likeness = match keys {
            Some(keys) => {
                let keys = widened(keys)?.sum(2)?.narrow(1, merge.prefix, patches)?.contiguous()?;
                let keys = unit(&keys)?;
                keys.index_select(&even, 1)?.matmul(&keys.index_select(&odd, 1)?.transpose(1, 2)?)?
            }
            None => Tensor::zeros((images, evens, odds), dtype, device)?,
        };
        // The first of equals, which an argmax on a GPU does not promise.
        let best = likeness.max_keepdim(D::Minus1)?;
        let number = numbers(odds)?.broadcast_as(likeness.shape())?.contiguous()?;
        let none = (number.ones_like()? * (odds - 1) as f64)?;
        let partner = likeness.broadcast_eq(&best)?.where_cond(&number, &none)?.min(D::Minus1)?;

        // A token's rank is how many go before it.
        let best = best.squeeze(D::Minus1)?;
        let (own, other) = (best.unsqueeze(2)?, best.unsqueeze(1)?);
        let number = numbers(evens)?;
        let earlier = number.unsqueeze(1)?.broadcast_gt(&number.unsqueeze(0)?)?.to_dtype(dtype)?;
        let equal = other.broadcast_eq(&own)?.to_dtype(dtype)?.broadcast_mul(&earlier)?;
        let rank = (other.broadcast_gt(&own)?.to_dtype(dtype)? + equal)?.sum(D::Minus1)?;
        let gone = rank.lt(merge.merged as f64)?.to_dtype(dtype)?;
        let stays = (1.0 - &gone)?;

        let ones = |width: usize| Tensor::ones((images, width), dtype, device);
        let kept = Tensor::cat(&[ones(merge.prefix)?, interleaved(&stays, &ones(evens)?, patches)?], 1)?;
        let place = (kept.cumsum(1)? - &kept)?;
        let of_patches = place.narrow(1, merge.prefix, patches)?.contiguous()?;
        let (of_even, of_odd) = (of_patches.index_select(&even, 1)?, of_patches.index_select(&odd, 1)?);
        let of_partner = of_odd.gather(&partner.to_dtype(DType::U32)?, 1)?;
        let of_even = ((of_partner * gone)? + (of_even * stays)?)?;
        let of_odd = of_odd.pad_with_zeros(1, 0, evens - odds)?;
        let place = Tensor::cat(&[place.narrow(1, 0, merge.prefix)?, interleaved(&of_even, &of_odd, patches)?], 1)?;
        // Likenesses that are not finite would send tokens nowhere.
        let place = place.minimum((left - 1) as f64)?;

        let goes = numbers(left)?.reshape((1, left, 1))?.broadcast_eq(&place.unsqueeze(1)?)?.to_dtype(dtype)?;
        let parts = goes.broadcast_mul(&self.sizes.unsqueeze(1)?)?;
        let sizes = parts.sum(D::Minus1)?;
        let shares = parts.broadcast_div(&sizes.unsqueeze(2)?)?;
        let merged = shares.matmul(&widened(tokens)?)?.to_dtype(tokens.dtype())?;
        let places = place.to_dtype(DType::U32)?.gather(&self.places, 1)?;
        Ok((merged, Self { sizes, places }))
    }

    /// The tokens that are left `[images, left, width]`, copied to the places of all that they stand for.
    ///
    /// # Errors
    /// If the device fails.
    pub fn copy_back(&self, tokens: &Tensor) -> Result<Tensor> {
        let (images, left, width) = tokens.dims3()?;
        let first = Tensor::arange_step(0, (images * left) as u32, left as u32, tokens.device())?;
        let rows = self.places.broadcast_add(&first.unsqueeze(1)?)?.flatten_all()?;
        tokens.contiguous()?.reshape((images * left, width))?.index_select(&rows, 0)?.reshape((images, (), width))
    }
}

/// Vectors of length one, or zero where they were.
fn unit(vectors: &Tensor) -> Result<Tensor> {
    let length = vectors.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    let scale = length.gt(0.0)?.where_cond(&length.recip()?, &length.zeros_like()?)?;
    vectors.broadcast_mul(&scale)
}

/// `even` and `odd` `[images, n]` by turns, the first `count` of them.
fn interleaved(even: &Tensor, odd: &Tensor, count: usize) -> Result<Tensor> {
    let (images, each) = even.dims2()?;
    Tensor::stack(&[even, odd], 2)?.reshape((images, 2 * each))?.narrow(1, 0, count)?.contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Device = Device::Cpu;

    fn values(tensor: &Tensor) -> Vec<f32> {
        tensor.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn the_first_of_equals_go_into_the_first_of_equals_and_weigh_as_many_as_they_stand_for() {
        // A prefix token and five patches, which are all alike.
        let tokens = Tensor::new(&[[[100f32], [0.0], [10.0], [20.0], [30.0], [40.0]]], &CPU).unwrap();
        let single = TokenGroups::single(1, 6, DType::F32, &CPU).unwrap();
        let (left, groups) = single.merge(&tokens, None, Merge { prefix: 1, merged: 2 }).unwrap();
        assert_eq!(values(&left), [100.0, 10.0, 30.0, 40.0], "the mean of 0, 10 and 20");
        assert_eq!(values(&groups.log_sizes().unwrap()), [0.0, 3f32.ln(), 0.0, 0.0]);
        assert_eq!(values(&groups.copy_back(&left).unwrap()), [100.0, 10.0, 10.0, 10.0, 30.0, 40.0]);
        let (left, groups) = groups.merge(&left, None, Merge { prefix: 1, merged: 1 }).unwrap();
        assert_eq!(values(&left), [100.0, 15.0, 40.0], "three tens and a thirty");
        assert_eq!(values(&groups.copy_back(&left).unwrap()), [100.0, 15.0, 15.0, 15.0, 15.0, 40.0]);
    }

    #[test]
    fn the_most_alike_are_merged_image_by_image() {
        let tokens = Tensor::new(&[[[1f32], [2.0], [3.0], [4.0]], [[1.0], [2.0], [3.0], [4.0]]], &CPU).unwrap();
        // In the first image patch 2 is most like patch 1, in the second patch 0 like patch 3.
        let first = [[1f32, 0.0], [0.0, 1.0], [0.1, 5.0], [-1.0, 1.0]];
        let second = [[-2f32, 0.0], [0.0, 1.0], [1.0, 1.0], [-1.0, 0.0]];
        let keys = Tensor::new(&[first, second], &CPU).unwrap().unsqueeze(2).unwrap();
        let single = TokenGroups::single(2, 4, DType::F32, &CPU).unwrap();
        let (left, groups) = single.merge(&tokens, Some(&keys), Merge { prefix: 0, merged: 1 }).unwrap();
        assert_eq!(values(&left), [1.0, 2.5, 4.0, 2.0, 3.0, 2.5]);
        assert_eq!(values(&groups.copy_back(&left).unwrap()), [1.0, 2.5, 2.5, 4.0, 2.5, 2.0, 3.0, 2.5]);
    }

    #[test]
    fn keys_that_are_not_finite_send_no_token_out_of_place() {
        let tokens = Tensor::ones((1, 5, 2), DType::F32, &CPU).unwrap();
        let keys = Tensor::full(f32::NAN, (1, 5, 1, 2), &CPU).unwrap();
        let single = TokenGroups::single(1, 5, DType::F32, &CPU).unwrap();
        let (left, groups) = single.merge(&tokens, Some(&keys), Merge { prefix: 1, merged: 2 }).unwrap();
        assert_eq!(groups.copy_back(&left).unwrap().dims(), [1, 5, 2]);
    }
}
