//! The table of any rung computes what the CPU engine computes.

use headroom_shared::KeptStructures;
use proptest::prelude::*;

use super::super::plan::{Operation, Plan, buffer_sizes};
use super::super::weights::LaidOutWeights;
use super::super::{Buffer, ComputeCapability, Kernel, Unsupported};
use super::interpreter::{Kernels, Memory};
use crate::engine::random_model::{Choices, Kept, PoolingChoice, PositionChoice, build, noise};
use crate::engine::random_parts::{activation, head, pooling_without_attention};
use crate::engine::{Corrected, ElasticVit};
use crate::model::Corrections;
use crate::model::corrections::{BlockCorrection, Correction, CorrectionGroup};
use crate::model::description::PositionResampling;
use crate::model::weights::Tensor;

const OLDEST: ComputeCapability = ComputeCapability::SM_72;

fn choices() -> impl Strategy<Value = Choices> {
    let sizes = ((1_usize..5, 1_usize..5), 1_usize..4, 1_usize..4, 0_usize..4, 1_usize..4, head_dim(), 1_usize..20);
    let flags = proptest::array::uniform8(any::<bool>());
    let rotary = proptest::bool::weighted(0.25);
    let parts = (activation(), 0_usize..4, (1_usize..4, 1_usize..4), pooling(), head(), 1_usize..8);
    (sizes, flags, rotary, parts).prop_map(
        |(sizes, flags, rotary, (activation, registers, positions, pooling, head, classes))| {
            let (grid, patch, width, depth, heads, head_dim, neurons) = sizes;
            let [gated, layer_scale, attention_bias, mlp_bias, fused_qkv, pre_norm, final_norm, of_prefix] = flags;
            let learned =
                PositionChoice::Learned { grid: positions, resampling: PositionResampling::Bicubic, of_prefix };
            let position = if rotary { PositionChoice::Rotary } else { learned };
            Choices {
                grid,
                patch,
                embed_dim: 4 * width,
                depth,
                heads,
                head_dim: if rotary { head_dim.next_multiple_of(4) } else { head_dim },
                neurons,
                activation,
                gated,
                layer_scale,
                attention_bias,
                mlp_bias,
                fused_qkv,
                registers,
                position,
                pre_norm,
                final_norm,
                pooling,
                head,
                classes,
            }
        },
    )
}

/// Half of them such that attention is fused on GPUs that can.
fn head_dim() -> impl Strategy<Value = usize> {
    prop_oneof![1_usize..8, proptest::sample::select(vec![8, 16, 24, 72, 80, 136])]
}

fn pooling() -> impl Strategy<Value = PoolingChoice> {
    // These divide any width of `choices`.
    let heads = proptest::sample::select(vec![1, 2, 4]);
    prop_oneof![3 => pooling_without_attention(), 1 => heads.prop_map(|heads| PoolingChoice::Attention { heads })]
}

/// Choices with any rung that keeps the first heads.
fn choices_and_kept() -> impl Strategy<Value = (Choices, Kept)> {
    choices().prop_flat_map(|choices| {
        let depth = choices.depth;
        let heads = proptest::collection::vec(0..=choices.heads, depth);
        let neurons = proptest::collection::vec(0..=choices.neurons, depth);
        let value_dims = proptest::collection::vec(0..=choices.head_dim, depth);
        let query_dims = proptest::collection::vec(1..=choices.head_dim, depth);
        let merging = (any::<bool>(), proptest::collection::vec((0_usize..5, any::<bool>()), depth));
        let all_dims = any::<bool>();
        (Just(choices), heads, neurons, value_dims, query_dims, merging, all_dims).prop_map(
            |(choices, heads, neurons, value_dims, mut query_dims, (merges, merging), all_dims)| {
                let all = Kept::all(&choices);
                let mut patches = choices.grid.0 * choices.grid.1;
                let mut merged_tokens = all.merged_tokens;
                let rotary = choices.position == PositionChoice::Rotary;
                // The cosines of fewer dimensions are so often the same that rounding decides.
                if merges && !rotary && choices.head_dim >= 4 {
                    for ((merged, dims), (count, most)) in merged_tokens.iter_mut().zip(&mut query_dims).zip(merging) {
                        *merged = if most { patches / 2 } else { count.min(patches / 2) };
                        patches -= *merged;
                        *dims = (*dims).max(4);
                    }
                }
                let kept = Kept {
                    heads: heads.into_iter().map(|count| (0..count).collect()).collect(),
                    neurons,
                    value_dims: if all_dims { all.value_dims } else { value_dims },
                    query_dims: if all_dims || rotary { all.query_dims } else { query_dims },
                    merged_tokens,
                };
                (choices, kept)
            },
        )
    })
}

/// Two groups, of two rungs and of one.
fn corrections(choices: &Choices) -> Corrections {
    let mut seed = 1000;
    let mut tensor = |rows: usize, columns: usize| {
        seed += 1;
        Tensor { shape: vec![rows, columns], data: noise(seed, rows * columns).collect() }
    };
    let width = choices.embed_dim;
    let mut group = |rungs: Vec<usize>| {
        let mut correction =
            |inputs: usize| Correction { weight: tensor(width, inputs), biases: tensor(rungs.len(), width) };
        let blocks = (0..choices.depth).map(|_| BlockCorrection {
            projection: correction(choices.heads * choices.head_dim),
            down: correction(choices.neurons),
        });
        CorrectionGroup { blocks: blocks.collect(), rungs }
    };
    Corrections { groups: vec![group(vec![1, 2]), group(vec![3])] }
}

fn compare(what: &str, found: &[f32], expected: &[f32]) -> Result<(), TestCaseError> {
    let largest = expected.iter().fold(1.0_f32, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        prop_assert!((found - expected).abs() <= 1e-4 * largest, "{} {}: {} for {}", what, largest, found, expected);
    }
    Ok(())
}

/// On GPUs that keep the scores in memory, and on those that do not.
fn check(choices: &Choices, kept: &impl KeptStructures, images: usize) -> Result<(), TestCaseError> {
    let (description, weights) = build(choices, 7);
    let corrections = corrections(choices);
    let vit = ElasticVit::new(&description, &weights).unwrap().with_corrections(&corrections).unwrap();
    let image = &description.image;
    let pixels: Vec<f32> = noise(3, images * image.channels * image.height * image.width).collect();
    let mut workspace = vit.workspace(images);
    let expected = vit.forward(&mut workspace, &pixels, images, kept).unwrap();

    let laid_out = LaidOutWeights::new(&description, &weights, &corrections).unwrap();
    for capability in [ComputeCapability::SM_72, ComputeCapability::SM_80] {
        let sizes = buffer_sizes(&description, &laid_out, images, capability).unwrap();
        let plan = Plan::new(&description, &laid_out, images, kept, capability).unwrap();
        for kernels in [Kernels::Twins, Kernels::Emulated] {
            let mut memory = Memory::new(&sizes, &laid_out, &pixels);
            if !memory.run(&plan, kernels) {
                continue;
            }
            compare("tokens", memory.values(plan.tokens), expected.tokens)?;
            compare("image embeddings", memory.values(Buffer::Pooled), expected.pooled)?;
            if let Some(logits) = expected.logits {
                compare("logits", memory.values(Buffer::Logits), logits)?;
            }
        }
    }
    Ok(())
}

proptest! {
    // The environment may ask for fewer (`PROPTEST_CASES`): emulated processors are slow.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(96)))]

    #[test]
    fn a_table_computes_what_the_cpu_engine_computes(
        (choices, kept) in choices_and_kept(),
        images in 1_usize..4,
        correction in proptest::option::of(0_usize..3),
    ) {
        check(&choices, &Corrected { kept: &kept, correction }, images)?;
    }
}

/// Rounding to f16 decides which tokens are the most alike, so that none are merged here.
#[test]
fn a_table_in_f16_computes_nearly_the_same() {
    let choices = Choices { head_dim: 72, ..Choices::vit(6, 4, 64, 6, 4, 160) };
    let kept = Kept {
        query_dims: vec![72, 72, 60, 60, 48, 72],
        value_dims: vec![72, 40, 64, 72, 72, 9],
        ..Kept::all(&choices)
    };
    let (description, weights) = build(&choices, 7);
    let vit = ElasticVit::new(&description, &weights).unwrap();
    let image = &description.image;
    let pixels: Vec<f32> = noise(3, image.channels * image.height * image.width).collect();
    let mut workspace = vit.workspace(1);
    let expected = vit.forward(&mut workspace, &pixels, 1, &kept).unwrap().pooled;
    let laid_out = LaidOutWeights::new(&description, &weights, &Corrections::default()).unwrap();
    for capability in [ComputeCapability::SM_72, ComputeCapability::SM_80] {
        let sizes = buffer_sizes(&description, &laid_out, 1, capability).unwrap();
        let plan = Plan::new(&description, &laid_out, 1, &kept, capability).unwrap();
        let mut memory = Memory::new(&sizes, &laid_out, &pixels);
        if !memory.run(&plan, Kernels::EmulatedInF16) {
            return;
        }
        let found = memory.values(Buffer::Pooled);
        let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
        let cosine = product(found, expected) / (product(found, found) * product(expected, expected)).sqrt();
        assert!(1.0 - cosine < 1e-5, "{capability:?}: {cosine}");
        assert_ne!(found, expected, "nothing was rounded");
    }
}

/// Once an odd number is left, then as many are merged as can be.
#[test]
fn a_table_merges_more_tokens_than_a_warp_has_lanes() {
    let choices = Choices { registers: 4, ..Choices::vit(10, 1, 16, 3, 2, 16) };
    let kept = Kept { merged_tokens: vec![8, 25, 33], ..Kept::all(&choices) };
    check(&choices, &kept, 1).unwrap();
}

#[test]
fn a_block_without_heads_merges_tokens() {
    let choices = Choices::vit(4, 1, 16, 3, 2, 16);
    let kept = Kept { heads: vec![vec![], vec![0], vec![]], merged_tokens: vec![3, 4, 2], ..Kept::all(&choices) };
    check(&choices, &kept, 2).unwrap();
}

/// Of more tokens than a tile of keys or a block's queries; the kept dimensions decide on the kernel.
#[test]
fn a_gpu_that_can_has_no_scores_in_memory() {
    let pooling = PoolingChoice::Attention { heads: 2 };
    let choices = Choices { grid: (9, 15), head_dim: 72, pooling, ..Choices::vit(1, 1, 16, 2, 2, 16) };
    let kept =
        Kept { query_dims: vec![72, 60], value_dims: vec![72, 50], merged_tokens: vec![9, 0], ..Kept::all(&choices) };
    check(&choices, &kept, 2).unwrap();
    let (description, weights) = build(&choices, 7);
    let laid_out = LaidOutWeights::new(&description, &weights, &Corrections::default()).unwrap();
    let kernels = |capability| {
        let sizes = buffer_sizes(&description, &laid_out, 1, capability).unwrap();
        let plan = Plan::new(&description, &laid_out, 1, &kept, capability).unwrap();
        let attention = plan.operations.iter().filter_map(|(_, operation)| match operation {
            Operation::Kernel(launch) => Some(launch.kernel),
            _ => None,
        });
        let all = [Kernel::Softmax, Kernel::FusedAttention64, Kernel::FusedAttention128];
        (attention.filter(|kernel| all.contains(kernel)).collect::<Vec<_>>(), sizes.values(Buffer::Scores))
    };
    let scores = 2 * 135 * 136;
    assert_eq!(kernels(ComputeCapability { major: 7, minor: 5 }), (vec![Kernel::Softmax; 3], scores));
    let fused = vec![Kernel::FusedAttention128, Kernel::FusedAttention64, Kernel::FusedAttention64];
    assert_eq!(kernels(ComputeCapability { major: 8, minor: 7 }), (fused, 1));
}

#[test]
fn what_the_gpu_engine_does_not_run_is_refused() {
    let plain = Choices::vit(2, 2, 8, 2, 2, 8);
    let lay_out = |choices: &Choices| {
        let (description, weights) = build(choices, 1);
        LaidOutWeights::new(&description, &weights, &Corrections::default()).map(|laid_out| (description, laid_out))
    };
    let (description, laid_out) = lay_out(&plain).unwrap();
    let refusal = |kept: &Kept| Plan::new(&description, &laid_out, 1, kept, OLDEST).unwrap_err();
    let all = Kept::all(&plain);
    let merging = Kept { merged_tokens: vec![1, 2], ..all.clone() };
    let structure = "tokens to merge";
    assert_eq!(refusal(&merging), Unsupported::TooMany { block: 1, structure, most: 1, found: 2 });
    let (turned, of_turned) = lay_out(&Choices { position: PositionChoice::Rotary, ..plain.clone() }).unwrap();
    let refusal_of_turned = |kept: &Kept| Plan::new(&turned, &of_turned, 1, kept, OLDEST).unwrap_err();
    let merging = Kept { merged_tokens: vec![0, 1], ..all.clone() };
    assert_eq!(refusal_of_turned(&merging), Unsupported::MergingWithRotary { block: 1 });
    let narrow = Kept { query_dims: vec![4, 3], ..all.clone() };
    assert_eq!(refusal_of_turned(&narrow), Unsupported::QueryDims { block: 1, fewest: 4, found: 3 });
    let last_head = Kept { heads: vec![vec![1], vec![0]], ..all.clone() };
    assert_eq!(refusal(&last_head), Unsupported::NotTheFirstHeads { block: 0, place: 0, head: 1 });
    let wide = Kept { neurons: vec![8, 9], ..all.clone() };
    assert_eq!(refusal(&wide), Unsupported::TooMany { block: 1, structure: "neurons", most: 8, found: 9 });
    let kept = Corrected { kept: &all, correction: Some(0) };
    let uncorrected = Plan::new(&description, &laid_out, 1, &kept, OLDEST);
    assert_eq!(uncorrected.unwrap_err(), Unsupported::Correction { found: 0, count: 0 });
    let many = Plan::new(&description, &laid_out, usize::MAX >> 16, &all, OLDEST).unwrap_err();
    assert!(matches!(many, Unsupported::TooLarge { .. }), "{many}");
}
