//! Batches that are worked on one by one, independent of each other.

use candle_core::Device;
use rayon::prelude::*;

/// What `run` makes of every batch, in order: by all threads on the CPU, by this one on a GPU, which runs what it is asked
/// in order whoever asks.
///
/// # Errors
/// The first of `run`, in some order.
pub fn each<B, T: Send, E: Send>(
    device: &Device,
    batches: B,
    run: impl Fn(<B as IntoIterator>::Item) -> Result<T, E> + Sync + Send,
) -> Result<Vec<T>, E>
where
    B: IntoIterator + IntoParallelIterator<Item = <B as IntoIterator>::Item>,
{
    if device.is_cpu() { batches.into_par_iter().map(run).collect() } else { batches.into_iter().map(run).collect() }
}
