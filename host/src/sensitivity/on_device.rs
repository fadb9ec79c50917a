//! The squared slopes of a batch where tensors are on a GPU: nothing is read before all of its passes are queued.
//!
//! Slopes are squared and summed over the images and probes of the batch in f32 or wider, and over batches in f64.

use candle_core::{D, DType, Device, Tensor};

use super::{Options, Squares, probe};
use crate::executor::operation::widened;
use crate::executor::{CandleVit, ExecutorError, Traced};

/// As [`super::squares`].
pub(super) fn squares(
    model: &CandleVit,
    traced: &Traced<'_>,
    first: usize,
    options: Options<'_>,
) -> Result<Squares, ExecutorError> {
    let pooled = traced.pooled();
    // Of every block those of heads, neurons, value and query dimensions, `[structures]` each.
    let mut sums: Vec<Vec<Tensor>> = vec![Vec::new(); model.depth()];
    for probe in 0..options.probes {
        let directions = directions(&pooled, first, probe, options)?.to_dtype(pooled.dtype())?;
        traced.backward(&directions, |block, gradient| {
            let masks = gradient.masks()?;
            let slopes = [masks.heads, masks.neurons, masks.value_dims, masks.query_dims];
            for (place, slopes) in slopes.into_iter().enumerate() {
                let found = widened(&slopes)?.sqr()?.sum(0)?;
                match sums[block].get_mut(place) {
                    Some(sum) => *sum = (&*sum + found)?,
                    None => sums[block].push(found),
                }
            }
            Ok(())
        })?;
    }
    let mut squares = Squares::zeros(model);
    for (block, sums) in sums.into_iter().enumerate() {
        let Squares { heads, neurons, value_dims, query_dims } = &mut squares;
        for (sum, squares) in sums.iter().zip([heads, neurons, value_dims, query_dims]) {
            squares[block] = sum.to_dtype(DType::F64)?.to_vec1()?;
        }
    }
    Ok(squares)
}

/// `P v / |z|` of every image, `[images, embed_dim]`, computed where the embeddings are.
fn directions(pooled: &Tensor, first: usize, number: usize, options: Options<'_>) -> Result<Tensor, ExecutorError> {
    let z = widened(pooled)?;
    let (images, width) = z.dims2()?;
    let of = |image: usize| probe(width, options.seed, ((first + image) * options.probes + number) as u64);
    let probes: Vec<f64> = (0..images).flat_map(of).collect();
    let v = Tensor::from_vec(probes, (images, width), &Device::Cpu)?.to_dtype(z.dtype())?.to_device(z.device())?;
    let norm = z.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    let u = z.broadcast_div(&norm)?;
    let along = (&u * &v)?.sum_keepdim(D::Minus1)?;
    Ok((v - u.broadcast_mul(&along)?)?.broadcast_div(&norm)?)
}
