//! What a rung keeps of each block.

use headroom_shared::KeptStructures;

use super::super::unsupported::Unsupported;
use crate::model::Description;
use crate::model::description::Position;

/// What a rung keeps of a block.
pub(super) struct BlockRung {
    pub heads: usize,
    pub query_dims: usize,
    pub value_dims: usize,
    pub neurons: usize,
    /// Tokens that are merged into others.
    pub merged: usize,
}

/// What a rung keeps of the blocks of a model, once all of it is known to be there.
pub(super) fn block_rungs(
    description: &Description,
    kept: &impl KeptStructures,
) -> Result<Vec<BlockRung>, Unsupported> {
    let mut patches = description.tokens() - description.prefix_tokens();
    let mut rungs = Vec::with_capacity(description.blocks.len());
    for block in 0..description.blocks.len() {
        let rung = BlockRung::new(description, block, patches, kept)?;
        patches -= rung.merged;
        rungs.push(rung);
    }
    Ok(rungs)
}

impl BlockRung {
    /// `patches` are the patch tokens that come into the block.
    fn new(
        description: &Description,
        block: usize,
        patches: usize,
        kept: &impl KeptStructures,
    ) -> Result<Self, Unsupported> {
        let head_dim = description.head_dim;
        let rung = Self {
            heads: kept.heads(block),
            query_dims: kept.query_dims(block).unwrap_or(head_dim),
            value_dims: kept.value_dims(block).unwrap_or(head_dim),
            neurons: kept.neurons(block),
            merged: kept.merged_tokens(block),
        };
        let limits = [
            ("heads", description.heads, rung.heads),
            ("query dimensions", head_dim, rung.query_dims),
            ("value dimensions", head_dim, rung.value_dims),
            ("neurons", description.neurons, rung.neurons),
            ("tokens to merge", patches / 2, rung.merged),
        ];
        for (structure, most, found) in limits {
            if found > most {
                return Err(Unsupported::TooMany { block, structure, most, found });
            }
        }
        let rotary = matches!(description.embedding.position, Position::Rotary { .. });
        let fewest = if rotary { head_dim } else { 1 };
        if rung.query_dims < fewest {
            return Err(Unsupported::QueryDims { block, fewest, found: rung.query_dims });
        }
        if rotary && rung.merged > 0 {
            return Err(Unsupported::MergingWithRotary { block });
        }
        for place in 0..rung.heads {
            let head = kept.head(block, place);
            if head != place {
                return Err(Unsupported::NotTheFirstHeads { block, place, head });
            }
        }
        Ok(rung)
    }
}
