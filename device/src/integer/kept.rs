//! Checking what a sub-network keeps of a block.

use headroom_shared::KeptStructures;
use headroom_shared::integer_model::{BlockCounts, IntegerModel};

use super::error::IntegerEngineError;

/// Refuses a sub-network that needs more than is stored, or merges more tokens than it can.
///
/// # Errors
/// The first thing that `model` cannot run of it.
pub fn check(model: &IntegerModel<'_>, kept: &impl KeptStructures) -> Result<(), IntegerEngineError> {
    let count = model.corrections();
    match kept.correction() {
        Some(found) if found >= count => return Err(IntegerEngineError::Correction { count, found }),
        None if !model.sizes().original_ends => return Err(IntegerEngineError::NoOriginalEnds),
        _ => {}
    }
    let mut patches = model.sizes().patches();
    for block in 0..model.sizes().blocks {
        let (most, found) = (patches / 2, kept.merged_tokens(block));
        if found > most {
            return Err(IntegerEngineError::MergedTokens { block, most, found });
        }
        if found > 0 && model.sizes().rotary {
            return Err(IntegerEngineError::MergingWithRotary { block });
        }
        patches -= found;
        let (stored, asked) = (model.counts(block), BlockCounts::of(kept, block, model.sizes().head_dim));
        for (structure, fewest, most, found) in [
            ("heads", 0, stored.heads, asked.heads),
            ("query dimensions", model.sizes().fewest_query_dims(), stored.query_dims, asked.query_dims),
            ("value dimensions", 1, stored.value_dims, asked.value_dims),
            ("neurons", 0, stored.neurons, asked.neurons),
        ] {
            if found < fewest || found > most {
                return Err(IntegerEngineError::Selection { block, structure, fewest, most, found });
            }
        }
        for place in 0..asked.heads {
            let head = kept.head(block, place);
            if head != place {
                return Err(IntegerEngineError::Head { block, place, head });
            }
        }
    }
    Ok(())
}
