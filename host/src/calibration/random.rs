//! Random streams that depend on nothing but the seed, a purpose and a number.

use rand::SeedableRng;
pub(super) use rand_chacha::ChaCha8Rng as RandomStream;

/// What random numbers are drawn for; each purpose has streams of its own.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// Which files of a folder are used.
    Selection = 1,
    /// The crops of an image.
    Views = 2,
    /// The content of a procedural image.
    Picture = 3,
}

/// Stream number `index` of a purpose.
pub(super) fn stream(seed: u64, purpose: Purpose, index: u64) -> RandomStream {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8] = purpose as u8;
    let mut stream = RandomStream::from_seed(key);
    stream.set_stream(index);
    stream
}
