//! The whole engine against the plain f64 forward pass, over random models and selections.

use headroom_shared::IntegerModel;
use headroom_shared::integer_model::BlockCounts;
use proptest::prelude::*;

use super::{
    ArenaSizes, FEW_TOKENS, IntegerEngineError, IntegerOutput, IntegerSource, IntegerVit, IntegerWorkspace,
    PackedIntegerVit, arena_bytes, check_kept,
};
use crate::engine::reference::{Reference, ReferenceOutput};
use crate::model::Corrections;
use crate::model::description::PositionResampling;

use crate::engine::random_model::{Choices, Kept, PoolingChoice, PositionChoice, build, noise};
use crate::engine::random_parts::{activation, head, pooling_without_attention};

fn pooling() -> impl Strategy<Value = PoolingChoice> {
    // As many heads divide every width here.
    prop_oneof![6 => pooling_without_attention(), 2 => Just(PoolingChoice::Attention { heads: 5 })]
}

fn choices() -> impl Strategy<Value = Choices> {
    let sizes = ((2_usize..9, 2_usize..6), 1_usize..5, 4_usize..9, 0_usize..3, 1_usize..5, 1_usize..5, 8_usize..40);
    let flags = (proptest::array::uniform7(any::<bool>()), proptest::bool::weighted(0.25));
    let parts = (activation(), 0_usize..3, any::<bool>(), pooling(), head(), 2_usize..20);
    (sizes, flags, parts).prop_map(|(sizes, flags, (activation, registers, of_prefix, pooling, head, classes))| {
        let (grid, patch, width, depth, heads, head_quarter, neurons) = sizes;
        let ([gated, layer_scale, attention_bias, mlp_bias, fused_qkv, pre_norm, final_norm], rotary) = flags;
        let learned = PositionChoice::Learned { grid, resampling: PositionResampling::Bicubic, of_prefix };
        Choices {
            grid,
            patch,
            embed_dim: 5 * width,
            depth: depth + 1,
            heads,
            head_dim: 4 * head_quarter,
            neurons,
            activation,
            gated,
            layer_scale,
            attention_bias,
            mlp_bias,
            fused_qkv,
            registers,
            position: if rotary { PositionChoice::Rotary } else { learned },
            pre_norm,
            final_norm,
            pooling,
            head,
            classes,
        }
    })
}

/// As many tokens for each block as these parts of what it can merge.
fn schedule(choices: &Choices, parts: &[f64]) -> Vec<usize> {
    let mut patches = choices.grid.0 * choices.grid.1;
    let mut merged = |part: &f64| {
        let merged = (part * (patches / 2) as f64).round() as usize;
        patches -= merged;
        merged
    };
    parts.iter().map(&mut merged).collect()
}

/// Choices with prefixes of their structures, and merging.
fn choices_and_merging() -> impl Strategy<Value = (Choices, Kept)> {
    choices_and_kept().prop_flat_map(|(choices, kept)| {
        let parts = prop_oneof![Just(0.0), 0.0..=1.0, Just(1.0)];
        proptest::collection::vec(parts, choices.depth).prop_map(move |parts| {
            let rotary = choices.position == PositionChoice::Rotary;
            let merged_tokens = if rotary { vec![0; choices.depth] } else { schedule(&choices, &parts) };
            // The likenesses of fewer dimensions are so often the same that rounding decides.
            let query_dims = kept.query_dims.iter().map(|&dims| dims.max(4)).collect();
            (choices.clone(), Kept { merged_tokens, query_dims, ..kept.clone() })
        })
    })
}

/// Choices with prefixes of their structures.
fn choices_and_kept() -> impl Strategy<Value = (Choices, Kept)> {
    choices().prop_flat_map(|choices| {
        let depth = choices.depth;
        let counts = |least: usize, most: usize| proptest::collection::vec(least..=most, depth);
        let heads = counts(1, choices.heads);
        let fewest = if choices.position == PositionChoice::Rotary { choices.head_dim } else { 2 };
        let dims = (counts(2, choices.head_dim), counts(fewest, choices.head_dim));
        (Just(choices.clone()), heads, counts(4, choices.neurons), dims).prop_map(
            move |(choices, heads, neurons, (value_dims, query_dims))| {
                let heads = heads.into_iter().map(|heads| (0..heads).collect()).collect();
                let merged_tokens = vec![0; depth];
                (choices, Kept { heads, neurons, value_dims, query_dims, merged_tokens })
            },
        )
    })
}

fn dense(choices: &Choices) -> Vec<BlockCounts> {
    IntegerSource::all_counts(&build(choices, 0).0)
}

fn kept_counts(choices: &Choices, kept: &Kept) -> Vec<BlockCounts> {
    (0..choices.depth).map(|block| BlockCounts::of(kept, block, choices.head_dim)).collect()
}

fn file(choices: &Choices, seed: u64, counts: &[BlockCounts]) -> Vec<u8> {
    let (description, weights) = build(choices, seed);
    let corrections = Corrections::default();
    let source = IntegerSource {
        description: &description,
        weights: &weights,
        weights_sha256: [7; 32],
        corrections: &corrections,
        counts,
        original_ends: true,
    };
    source.convert().unwrap().write().unwrap()
}

fn frame(model: &IntegerModel<'_>, seed: u64) -> Vec<u8> {
    noise(seed + 5000, model.sizes().frame_bytes()).map(|value| ((value + 1.0) * 127.9) as u8).collect()
}

/// What the reference gets: normalised, channel by channel.
fn pixels(frame: &[u8]) -> Vec<f32> {
    let channel = |channel: usize| frame.iter().skip(channel).step_by(3);
    (0..3).flat_map(channel).map(|&byte| (f32::from(byte) / 255.0 - 0.5) / 0.5).collect()
}

/// Embedding, logits and tokens.
fn infer(file: &[u8], frame: &[u8], kept: &Kept) -> [Vec<f32>; 3] {
    let model = IntegerModel::read(file).unwrap();
    let mut arena = vec![0xa5; arena_bytes(&ArenaSizes::of_model(&model, FEW_TOKENS))];
    let sizes = *model.sizes();
    let mut outputs =
        [sizes.embed_dim, sizes.classes, sizes.tokens() * sizes.embed_dim].map(|count| vec![f32::NAN; count]);
    let [embedding, logits, tokens] = &mut outputs;
    let output = IntegerOutput { embedding: Some(embedding), logits: Some(logits), tokens: Some(tokens) };
    IntegerVit::new(model, &mut arena).unwrap().infer(frame, kept, output).unwrap();
    outputs
}

/// As [`infer`], with packed weights.
fn infer_packed(
    vit: &PackedIntegerVit<'_>,
    workspace: &mut IntegerWorkspace,
    frame: &[u8],
    kept: &Kept,
) -> [Vec<f32>; 3] {
    let sizes = *vit.model().sizes();
    let mut outputs =
        [sizes.embed_dim, sizes.classes, sizes.tokens() * sizes.embed_dim].map(|count| vec![f32::NAN; count]);
    let [embedding, logits, tokens] = &mut outputs;
    let output = IntegerOutput { embedding: Some(embedding), logits: Some(logits), tokens: Some(tokens) };
    vit.infer(workspace, frame, kept, output).unwrap();
    outputs
}

fn bits(outputs: [Vec<f32>; 3]) -> [Vec<u32>; 3] {
    outputs.map(|values| values.into_iter().map(f32::to_bits).collect())
}

fn cosine(a: &[f32], b: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let dot: f64 = a.iter().zip(b).map(|(&a, &b)| f64::from(a) * b).sum();
    dot / (norm(&mut a.iter().map(|&a| f64::from(a))) * norm(&mut b.iter().copied()))
}

fn is_near(tokens: &[f32], embedding: &[f32], logits: &[f32], expected: &ReferenceOutput) -> Result<(), TestCaseError> {
    let expected_tokens: Vec<f64> = expected.tokens.concat();
    prop_assert!(cosine(tokens, &expected_tokens) > 0.995, "tokens {}", cosine(tokens, &expected_tokens));
    prop_assert!(cosine(embedding, &expected.pooled) > 0.98, "pooled {}", cosine(embedding, &expected.pooled));
    if let Some(expected) = &expected.logits {
        prop_assert!(cosine(logits, expected) > 0.97, "logits {}", cosine(logits, expected));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(96)))]

    #[test]
    fn every_model_and_selection_is_near_the_reference((choices, kept) in choices_and_kept(), seed in 0_u64..1000) {
        let file = file(&choices, seed, &dense(&choices));
        let frame = frame(&IntegerModel::read(&file).unwrap(), seed);
        let [embedding, logits, tokens] = infer(&file, &frame, &kept);
        let (description, weights) = build(&choices, seed);
        let reference = Reference { description: &description, weights: &weights };
        let expected = reference.forward(&pixels(&frame), &kept);
        is_near(&tokens, &embedding, &logits, &expected)?;
    }

    /// Where likenesses are apart, the same tokens are merged as in f64.
    #[test]
    fn merging_is_that_of_the_reference((choices, kept) in choices_and_merging(), seed in 0_u64..1000) {
        let file = file(&choices, seed, &dense(&choices));
        let frame = frame(&IntegerModel::read(&file).unwrap(), seed);
        let [embedding, logits, tokens] = infer(&file, &frame, &kept);
        let (description, weights) = build(&choices, seed);
        let reference = Reference { description: &description, weights: &weights };
        let expected = reference.forward(&pixels(&frame), &kept);
        let left = description.tokens() - kept.merged_tokens.iter().sum::<usize>();
        let rows = tokens.chunks_exact(choices.embed_dim);
        let found: Vec<usize> = rows.clone().map(|row| rows.clone().position(|other| other == row).unwrap()).collect();
        prop_assert_eq!(found.iter().collect::<std::collections::BTreeSet<_>>().len(), left);
        prop_assume!(expected.margin > 0.03);
        let first = |row| expected.tokens.iter().position(|other| other == row).unwrap();
        prop_assert_eq!(found, expected.tokens.iter().map(first).collect::<Vec<_>>());
        is_near(&tokens, &embedding, &logits, &expected)?;
    }

    #[test]
    fn packed_weights_on_any_number_of_threads_give_the_bits_of_weights_in_place(
        (choices, kept) in choices_and_merging(),
        wider in 0_usize..5,
        threads in 1_usize..5,
        seed in 0_u64..1000,
    ) {
        // Widths of several vectors too.
        let choices = Choices { embed_dim: choices.embed_dim * (1 + wider), ..choices };
        let file = file(&choices, seed, &dense(&choices));
        let model = IntegerModel::read(&file).unwrap();
        let frame = frame(&model, seed);
        let expected = bits(infer(&file, &frame, &kept));
        for vit in PackedIntegerVit::available(model) {
            let mut workspace = vit.workspace_with_threads(threads);
            // The second pass finds the buffers as the first left them.
            for _ in 0..2 {
                prop_assert_eq!(&bits(infer_packed(&vit, &mut workspace, &frame, &kept)), &expected, "{}", vit.instructions());
            }
        }
    }

    /// What a board with little flash computes is what the host measured.
    #[test]
    fn a_file_that_stores_only_what_is_kept_gives_the_same_bits(
        (choices, kept) in choices_and_merging(),
        seed in 0_u64..1000,
    ) {
        let (all, cut) = (file(&choices, seed, &dense(&choices)), file(&choices, seed, &kept_counts(&choices, &kept)));
        let frame = frame(&IntegerModel::read(&all).unwrap(), seed);
        prop_assert_eq!(bits(infer(&all, &frame, &kept)), bits(infer(&cut, &frame, &kept)));
    }
}

#[test]
fn the_arena_is_exact_and_what_does_not_fit_is_refused() {
    let choices = Choices::vit(3, 4, 20, 2, 2, 24);
    let file = file(&choices, 1, &dense(&choices));
    let model = IntegerModel::read(&file).unwrap();
    let needed = arena_bytes(&ArenaSizes::of_model(&model, FEW_TOKENS));
    let mut arena = vec![0; needed];
    let refused = IntegerVit::new(model, &mut arena[1..]).map(|_| ()).unwrap_err();
    assert_eq!(refused, IntegerEngineError::Arena { needed, found: needed - 1 });

    let frame = frame(&model, 1);
    let mut vit = IntegerVit::new(model, &mut arena).unwrap();
    let all = Kept::all(&choices);
    let mut infer = |frame: &[u8], kept: &Kept| vit.infer(frame, kept, IntegerOutput::default());
    assert_eq!(infer(&frame, &all), Ok(()));
    let expected = frame.len();
    let short = infer(&frame[1..], &all);
    assert_eq!(short, Err(IntegerEngineError::Frame { expected, found: expected - 1 }));
    let mut kept = all.clone();
    kept.neurons[1] = 25;
    let refused = IntegerEngineError::Selection { block: 1, structure: "neurons", fewest: 0, most: 24, found: 25 };
    assert_eq!(infer(&frame, &kept), Err(refused));
    let mut kept = all.clone();
    kept.heads[0] = vec![1];
    assert_eq!(infer(&frame, &kept), Err(IntegerEngineError::Head { block: 0, place: 0, head: 1 }));
    let mut kept = all.clone();
    kept.merged_tokens = vec![4, 3];
    let refused = IntegerEngineError::MergedTokens { block: 1, most: 2, found: 3 };
    assert_eq!(infer(&frame, &kept), Err(refused));
    kept.merged_tokens = vec![4, 2];
    assert_eq!(infer(&frame, &kept), Ok(()));
    let mut short = [0.0; 3];
    let output = IntegerOutput { embedding: Some(&mut short), ..IntegerOutput::default() };
    let refused = IntegerEngineError::Output { output: "embedding", expected: 20, found: 3 };
    assert_eq!(vit.infer(&frame, &all, output), Err(refused));
}

#[test]
fn a_workspace_of_another_model_is_refused() {
    let [one, other] = [20, 24].map(|width| {
        let choices = Choices::vit(3, 4, width, 2, 2, 24);
        file(&choices, 1, &dense(&choices))
    });
    let [one, other] = [&one, &other].map(|file| PackedIntegerVit::new(IntegerModel::read(file).unwrap()));
    let frame = frame(one.model(), 1);
    let all = Kept::all(&Choices::vit(3, 4, 20, 2, 2, 24));
    let infer = |workspace: &mut IntegerWorkspace| one.infer(workspace, &frame, &all, IntegerOutput::default());
    assert_eq!(infer(&mut other.workspace()), Err(IntegerEngineError::Workspace));
    assert_eq!(infer(&mut one.workspace()), Ok(()));
}

#[test]
fn rotary_positions_need_whole_queries_and_all_tokens() {
    let choices = Choices { position: PositionChoice::Rotary, ..Choices::vit(3, 4, 16, 2, 2, 24) };
    let file = file(&choices, 1, &dense(&choices));
    let model = IntegerModel::read(&file).unwrap();
    let all = Kept::all(&choices);
    assert_eq!(check_kept(&model, &all), Ok(()));
    let fewer = Kept { query_dims: vec![8, 4], ..all.clone() };
    let (structure, most) = ("query dimensions", 8);
    let refused = IntegerEngineError::Selection { block: 1, structure, fewest: 8, most, found: 4 };
    assert_eq!(check_kept(&model, &fewer), Err(refused));
    let merging = Kept { merged_tokens: vec![0, 1], ..all };
    assert_eq!(check_kept(&model, &merging), Err(IntegerEngineError::MergingWithRotary { block: 1 }));
}

/// Every address of the arena does: the buffers find the first aligned one.
#[test]
fn the_arena_may_begin_anywhere() {
    let choices = Choices::vit(3, 4, 20, 2, 2, 24);
    let file = file(&choices, 1, &dense(&choices));
    let model = IntegerModel::read(&file).unwrap();
    let needed = arena_bytes(&ArenaSizes::of_model(&model, FEW_TOKENS));
    let frame = frame(&model, 1);
    let results: Vec<Vec<f32>> = (0..16)
        .map(|start| {
            let mut arena = vec![0xff; needed + start];
            let mut logits = vec![0.0; 10];
            let output = IntegerOutput { logits: Some(&mut logits), ..IntegerOutput::default() };
            let mut vit = IntegerVit::new(model, &mut arena[start..]).unwrap();
            vit.infer(&frame, &Kept::all(&choices), output).unwrap();
            logits
        })
        .collect();
    assert!(results.iter().all(|logits| *logits == results[0]));
}

/// The model of `host/demo`: what a board with 256 KiB of memory to spare can run.
#[test]
fn the_demo_model_needs_less_than_128_kib_of_scratch() {
    use headroom_shared::integer_model::{ActivationKind, HeadKind, IntegerSizes, PoolingKind};
    const DEMO: IntegerSizes = IntegerSizes {
        image_height: 32,
        image_width: 32,
        patch: 4,
        prefix_tokens: 1,
        embed_dim: 128,
        heads: 4,
        head_dim: 32,
        neurons: 512,
        blocks: 6,
        classes: 10,
        mlp: headroom_shared::MlpKind::Plain,
        activation: ActivationKind::Gelu,
        pooling: PoolingKind::Class,
        head: Some(HeadKind::Linear),
        embedding_norm: false,
        rotary: false,
        final_norm: true,
        original_ends: true,
    };
    const BYTES: usize = arena_bytes(&ArenaSizes::new(&DEMO, &DEMO.dense_block(), FEW_TOKENS));
    assert_eq!(BYTES, 121_807);
}

/// Of this model on every processor: the constant was computed on x86-64 and holds on aarch64 too.
#[test]
fn the_bits_are_the_same_everywhere() {
    let choices = Choices { gated: true, ..Choices::vit(5, 3, 48, 2, 3, 96) };
    let file = file(&choices, 3, &dense(&choices));
    let model = IntegerModel::read(&file).unwrap();
    for (merged_tokens, expected) in [(vec![0, 0], "5df4a6e2b71c50ac"), (vec![7, 4], "439b61babcd9ad83")] {
        let kept = Kept { merged_tokens, ..Kept::all(&choices) };
        let [_, _, tokens] = bits(infer(&file, &frame(&model, 3), &kept));
        let hash = tokens
            .into_iter()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, bits| (hash ^ u64::from(bits)).wrapping_mul(0x0000_0100_0000_01b3));
        assert_eq!(format!("{hash:016x}"), expected);
    }
}

/// With `--nocapture` it says what the other tests run with.
#[test]
fn the_processor_has_the_instructions_for_int8_that_it_should() {
    let choices = Choices::vit(3, 4, 20, 2, 2, 24);
    let file = file(&choices, 1, &dense(&choices));
    let model = IntegerModel::read(&file).unwrap();
    let names: Vec<_> = PackedIntegerVit::available(model).map(|vit| vit.instructions()).collect();
    println!("instruction sets for int8, best first: {}", names.join(", "));
    assert_eq!(names.last(), Some(&"portable"));
    if cfg!(target_arch = "aarch64") {
        assert!(names.contains(&"NEON"), "every aarch64 has NEON");
    }
}
