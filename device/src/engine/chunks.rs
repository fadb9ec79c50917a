//! How the tokens of a batch are divided between threads.

use std::ops::Range;

use super::panel::even_part;

/// Tokens of a chunk at most: enough to use each weight many times, few enough for the wide hidden
/// layer to stay in a core's own cache.
pub(super) const MOST_TOKENS: usize = 112;

/// Tasks for each thread, where there are several: one that is held up leaves work to others.
pub(super) const TASKS_PER_THREAD: usize = 2;

/// The fewest tokens of several chunks, because each reads all weights. Where that leaves threads without a chunk, they
/// divide the outputs of the layers instead.
pub(super) const FEWEST_TOKENS: usize = 32;

/// The chunks of a batch's tokens.
#[derive(Clone, Copy, Debug)]
pub(super) enum Chunks {
    /// All tokens, evenly.
    Even { tokens: usize, count: usize },
    /// For each image its first tokens, which are few.
    OfImages { batch: usize, tokens: usize, wanted: usize },
}

/// Some tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunk {
    /// Its first token in the batch.
    pub first: usize,
    pub tokens: usize,
    /// Tokens of the chunks before it.
    pub before: usize,
}

impl Chunk {
    /// Where it is in a buffer of `width` values for each token.
    pub(super) fn of(self, width: usize) -> Range<usize> {
        self.first * width..(self.first + self.tokens) * width
    }
}

impl Chunks {
    /// The chunks of the first `wanted` of each image's `tokens`: all of them, or few.
    pub(super) fn new(batch: usize, tokens: usize, wanted: usize, threads: usize) -> Self {
        if wanted < tokens.min(FEWEST_TOKENS) {
            Self::OfImages { batch, tokens, wanted }
        } else {
            Self::Even { tokens: batch * tokens, count: even_chunks(batch * tokens, threads) }
        }
    }

    pub(super) fn count(self) -> usize {
        match self {
            Self::Even { count, .. } => count,
            Self::OfImages { batch, .. } => batch,
        }
    }

    pub(super) fn chunk(self, index: usize) -> Chunk {
        match self {
            Self::Even { tokens, count } => {
                let (first, tokens) = even_part(tokens, count, index);
                Chunk { first, tokens, before: first }
            }
            Self::OfImages { tokens, wanted, .. } => {
                Chunk { first: index * tokens, tokens: wanted, before: index * wanted }
            }
        }
    }
}

/// The chunks that `tokens` are divided into: as many for each thread, or fewer than threads.
pub(super) fn even_chunks(tokens: usize, threads: usize) -> usize {
    let fewest = tokens.div_ceil(MOST_TOKENS);
    if threads == 1 {
        return fewest;
    }
    let of_thread = (tokens / FEWEST_TOKENS / threads).min(TASKS_PER_THREAD);
    if of_thread == 0 { fewest } else { fewest.max(of_thread * threads).next_multiple_of(threads) }
}

/// The most tokens of fewer chunks than threads.
pub(super) fn most_of_few_chunks(threads: usize) -> usize {
    threads * FEWEST_TOKENS
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn chunks_have_all_that_is_wanted_and_fit_the_buffers(
            batch in 1_usize..9,
            tokens in 1_usize..300,
            wanted in 1_usize..40,
            all in any::<bool>(),
            threads in 1_usize..20,
        ) {
            let wanted = if all { tokens } else { wanted.min(tokens) };
            let chunks = Chunks::new(batch, tokens, wanted, threads);
            let (mut found, mut before) = (Vec::new(), 0);
            for index in 0..chunks.count() {
                let chunk = chunks.chunk(index);
                prop_assert!((1..=MOST_TOKENS).contains(&chunk.tokens));
                prop_assert_eq!(chunk.before, before);
                before += chunk.tokens;
                found.extend(chunk.first..chunk.first + chunk.tokens);
            }
            if chunks.count() < threads {
                prop_assert!(before <= most_of_few_chunks(threads));
            }
            // Where many are wanted, all are computed.
            let computed = if wanted < FEWEST_TOKENS { wanted } else { tokens };
            let expected = (0..batch * tokens).filter(|token| token % tokens < computed);
            prop_assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }
}
