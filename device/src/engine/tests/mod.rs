//! The whole engine against the plain f64 forward pass, over random models and selections.

use proptest::prelude::*;

use super::error::EngineError;
use super::reference::Reference;
use super::simd::InstructionSet;
use super::{ElasticVit, Output};
use crate::model::description::PositionResampling;

use super::random_model::{Choices, HeadChoice, Kept, PoolingChoice, PositionChoice, build, noise};
use super::random_parts::{activation, head, pooling_without_attention};

fn position() -> impl Strategy<Value = PositionChoice> {
    let resampling = prop_oneof![Just(PositionResampling::Bicubic), Just(PositionResampling::BicubicAntialias)];
    let learned = ((1_usize..4, 1_usize..4), resampling, any::<bool>())
        .prop_map(|(grid, resampling, of_prefix)| PositionChoice::Learned { grid, resampling, of_prefix });
    prop_oneof![2 => learned, 1 => Just(PositionChoice::Rotary)]
}

fn pooling() -> impl Strategy<Value = PoolingChoice> {
    let attention = (1_usize..4).prop_map(|heads| PoolingChoice::Attention { heads });
    prop_oneof![6 => pooling_without_attention(), 1 => attention]
}

fn choices() -> impl Strategy<Value = Choices> {
    let sizes = ((1_usize..5, 1_usize..5), 1_usize..7, 1_usize..7, 0_usize..3, 1_usize..5, 1_usize..10, 1_usize..40);
    let flags = proptest::array::uniform7(any::<bool>());
    let parts = (activation(), 0_usize..3, position(), pooling(), head(), 1_usize..20);
    (sizes, flags, parts).prop_map(|(sizes, flags, (activation, registers, position, pooling, head, classes))| {
        let (grid, patch, width, depth, heads, head_quarter, neurons) = sizes;
        let [gated, layer_scale, attention_bias, mlp_bias, fused_qkv, pre_norm, final_norm] = flags;
        Choices {
            grid,
            patch,
            // Divisible by any number of pooling heads.
            embed_dim: 6 * width,
            depth,
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
            position,
            pre_norm,
            final_norm,
            pooling,
            head,
            classes,
        }
    })
}

/// Choices with any selection of their structures.
fn choices_and_kept() -> impl Strategy<Value = (Choices, Kept)> {
    choices().prop_flat_map(|choices| {
        let all: Vec<usize> = (0..choices.heads).collect();
        let heads = proptest::collection::vec(proptest::sample::subsequence(all, 0..=choices.heads), choices.depth);
        let neurons = proptest::collection::vec(0..=choices.neurons, choices.depth);
        let value_dims = proptest::collection::vec(0..=choices.head_dim, choices.depth);
        let rotary = choices.position == PositionChoice::Rotary;
        let fewest = if rotary { choices.head_dim } else { 1 };
        let query_dims = proptest::collection::vec(fewest..=choices.head_dim, choices.depth);
        let merged = proptest::collection::vec(0_usize..5, choices.depth);
        (Just(choices), heads, neurons, value_dims, query_dims, merged, any::<bool>()).prop_map(
            move |(choices, heads, neurons, value_dims, mut query_dims, mut merged_tokens, merging)| {
                let mut patches = choices.grid.0 * choices.grid.1;
                for (merged, dims) in merged_tokens.iter_mut().zip(&mut query_dims) {
                    *merged = if merging && !rotary { (*merged).min(patches / 2) } else { 0 };
                    patches -= *merged;
                    // The cosines of fewer dimensions are so often the same that rounding decides.
                    *dims = if *merged > 0 { (*dims).max(4) } else { *dims };
                }
                (choices, Kept { heads, neurons, value_dims, query_dims, merged_tokens })
            },
        )
    })
}

/// The largest difference, relative to the largest value.
fn relative_difference(found: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    difference_relative_to(f64::MIN_POSITIVE, found, expected)
}

/// The largest difference, relative to the largest value, `at_least` that.
fn difference_relative_to(at_least: f64, found: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    let expected: Vec<f64> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(at_least, |largest, value| largest.max(value.abs()));
    let differences = found.iter().zip(&expected).map(|(&found, expected)| (f64::from(found) - expected).abs());
    // `f64::max` would drop a NaN.
    differences.fold(0.0, |worst, difference| if difference <= worst { worst } else { difference }) / largest
}

fn owned(output: Output) -> [Vec<f32>; 3] {
    [output.tokens.to_vec(), output.pooled.to_vec(), output.logits.unwrap_or_default().to_vec()]
}

proptest! {
    // The environment may ask for fewer (`PROPTEST_CASES`): emulated processors are slow.
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(96)))]

    #[test]
    fn every_model_and_selection_equals_the_reference(
        (choices, kept) in choices_and_kept(),
        batch in 1_usize..4,
        seed in 0_u64..1000,
    ) {
        let (description, weights) = build(&choices, seed);
        let reference = Reference { description: &description, weights: &weights };
        for set in InstructionSet::available() {
            let vit = ElasticVit::with_instructions(&description, &weights, set).unwrap();
            let pixels: Vec<f32> = noise(seed + 5000, batch * vit.pixels()).collect();
            let expected: Vec<_> =
                pixels.chunks(vit.pixels()).map(|image| reference.forward(image, &kept)).collect();
            let mut workspace = vit.workspace(3);
            let mut observed = 0;
            let output = vit.forward_observed(&mut workspace, &pixels, batch, &kept, |index, state| {
                assert_eq!(index, observed);
                observed += 1;
                let expected = expected.iter().flat_map(|image| image.hidden_states[index].iter().flatten().copied());
                let difference = relative_difference(state, expected);
                assert!(difference < 2e-5, "{}: hidden state {index}: {difference}", set.name());
            }).unwrap();
            prop_assert_eq!(observed, choices.depth + 1);
            let tokens = expected.iter().flat_map(|image| image.tokens.iter().flatten().copied());
            prop_assert!(relative_difference(output.tokens, tokens) < 5e-5);
            let pooled = expected.iter().flat_map(|image| image.pooled.iter().copied());
            prop_assert!(relative_difference(output.pooled, pooled) < 5e-5);
            prop_assert_eq!(output.logits.is_some(), choices.head != HeadChoice::None);
            if let Some(logits) = output.logits {
                let pooled = expected.iter().flat_map(|image| &image.pooled);
                // One logit alone can be nothing but the rounding of what cancels in it.
                let largest = pooled.fold(f64::MIN_POSITIVE, |largest, value| largest.max(value.abs()));
                let expected = expected.iter().flat_map(|image| image.logits.iter().flatten().copied());
                prop_assert!(difference_relative_to(largest, logits, expected) < 5e-5);
            }
        }
    }

    #[test]
    fn an_image_gives_the_same_bits_alone_and_in_a_batch(
        (choices, kept) in choices_and_kept(),
        batch in 2_usize..30,
        seed in 0_u64..1000,
    ) {
        let (description, weights) = build(&choices, seed);
        for set in InstructionSet::available() {
            let vit = ElasticVit::with_instructions(&description, &weights, set).unwrap();
            let pixels: Vec<f32> = noise(seed, batch * vit.pixels()).collect();
            let mut workspace = vit.workspace(batch);
            let together = owned(vit.forward(&mut workspace, &pixels, batch, &kept).unwrap());
            let last = &pixels[(batch - 1) * vit.pixels()..];
            // The same workspace: what the batch left behind must not matter.
            let alone = owned(vit.forward(&mut workspace, last, 1, &kept).unwrap());
            for (together, alone) in together.iter().zip(&alone) {
                prop_assert_eq!(&together[together.len() - alone.len()..], &alone[..]);
            }
        }
    }

    #[test]
    fn threads_and_embedding_only_give_the_same_bits(
        (choices, kept) in choices_and_kept(),
        batch in 1_usize..9,
        threads in 2_usize..7,
        seed in 0_u64..1000,
    ) {
        let (description, weights) = build(&choices, seed);
        let vit = ElasticVit::new(&description, &weights).unwrap();
        let pixels: Vec<f32> = noise(seed, batch * vit.pixels()).collect();
        let alone = owned(vit.forward(&mut vit.workspace(batch), &pixels, batch, &kept).unwrap());
        let mut workspace = vit.workspace_with_threads(batch, threads);
        // The second pass finds what the first has left in the buffers.
        for _ in 0..2 {
            let together = owned(vit.forward(&mut workspace, &pixels, batch, &kept).unwrap());
            prop_assert_eq!(&together, &alone);
            // The tokens that nothing reads are not computed, but all else is the same.
            let embedded = owned(vit.embed(&mut workspace, &pixels, batch, &kept).unwrap());
            prop_assert_eq!(&embedded[1..], &alone[1..]);
        }
    }

    #[test]
    fn kept_structures_give_the_bits_of_weights_that_were_cut(
        (mut choices, _) in choices_and_kept(),
        kept_heads in 1_usize..5,
        kept_neurons in 1_usize..40,
        seed in 0_u64..1000,
    ) {
        choices.fused_qkv = false;
        let (description, weights) = build(&choices, seed);
        let heads: Vec<usize> = (0..choices.heads).rev().step_by(2).take(kept_heads).collect();
        let heads: Vec<usize> = heads.into_iter().rev().collect();
        let neurons = kept_neurons.min(choices.neurons);
        let neuron_counts = vec![neurons; choices.depth];
        let kept =
            Kept { heads: vec![heads.clone(); choices.depth], neurons: neuron_counts.clone(), ..Kept::all(&choices) };
        let (cut_description, cut_weights) = cut(&description, &weights, &heads, neurons);
        let all = Kept { heads: vec![(0..heads.len()).collect(); choices.depth], neurons: neuron_counts, ..Kept::all(&choices) };
        for set in InstructionSet::available() {
            let vit = ElasticVit::with_instructions(&description, &weights, set).unwrap();
            let cut_vit = ElasticVit::with_instructions(&cut_description, &cut_weights, set).unwrap();
            let pixels: Vec<f32> = noise(seed, vit.pixels()).collect();
            let elastic = owned(vit.forward(&mut vit.workspace(1), &pixels, 1, &kept).unwrap());
            let cut = owned(cut_vit.forward(&mut cut_vit.workspace(1), &pixels, 1, &all).unwrap());
            prop_assert_eq!(elastic, cut);
        }
    }
}

/// With `--nocapture` it says what the other tests run with.
#[test]
fn the_processor_has_the_instructions_that_it_should() {
    let names: Vec<_> = InstructionSet::available().map(InstructionSet::name).collect();
    println!("instruction sets, best first: {}", names.join(", "));
    assert_eq!(names.last(), Some(&"portable"));
    if cfg!(target_arch = "aarch64") {
        assert_eq!(names, ["NEON", "portable"], "every aarch64 has NEON");
    }
}

/// The model with only these structures in every block.
fn cut(
    description: &crate::model::Description,
    weights: &crate::model::Weights,
    heads: &[usize],
    neurons: usize,
) -> (crate::model::Description, crate::model::Weights) {
    use crate::model::weights::Tensor;
    let head_dim = description.head_dim;
    let head_rows: Vec<usize> = heads.iter().flat_map(|head| head * head_dim..(head + 1) * head_dim).collect();
    let neuron_rows: Vec<usize> = (0..neurons).collect();
    let mut cut_weights = weights.clone();
    for (name, tensor) in weights.iter() {
        let Some(part) = name.strip_prefix("blocks.").and_then(|name| name.split('.').nth(1)) else {
            continue;
        };
        let is_weight = name.ends_with(".weight");
        let kept = match part {
            "q" | "k" | "v" | "proj" => &head_rows,
            "up" | "gate" | "down" => &neuron_rows,
            _ => continue,
        };
        let by_columns = matches!(part, "proj" | "down");
        if by_columns && !is_weight {
            continue;
        }
        let columns = if is_weight { tensor.shape[1] } else { 1 };
        let pick = |row: usize, column: usize| tensor.data[row * columns + column];
        let (data, shape): (Vec<f32>, Vec<usize>) = if by_columns {
            let rows = 0..tensor.shape[0];
            (
                rows.flat_map(|row| kept.iter().map(move |&column| pick(row, column))).collect(),
                vec![tensor.shape[0], kept.len()],
            )
        } else {
            let data = kept.iter().flat_map(|&row| (0..columns).map(move |column| pick(row, column))).collect();
            (data, if is_weight { vec![kept.len(), columns] } else { vec![kept.len()] })
        };
        cut_weights.insert(name, Tensor { shape, data });
    }
    let cut_description = crate::model::Description { heads: heads.len(), neurons, ..description.clone() };
    (cut_description, cut_weights)
}

mod refusals;
