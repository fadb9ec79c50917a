//! Each kernel's function against its twin, over random sizes.

use proptest::prelude::*;

use super::super::buffer::Buffer;
use super::super::capability::ComputeCapability;
use super::super::kernel::{Function, Kernel, Launch};
use super::{emulation, twin};
use crate::engine::random_model::noise;

/// Values around each slice that nothing may read or write.
const GUARD: usize = 64;

/// A launch with the number of values of each slice that it may touch.
fn launch() -> impl Strategy<Value = (Launch, Vec<usize>)> {
    let sizes = proptest::array::uniform7(1_usize..9);
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), 0_usize..6);
    let kernel = proptest::sample::select(Kernel::ALL.to_vec());
    (kernel, sizes, flags, 1_usize..70).prop_map(|(kernel, [a, b, c, d, e, f, g], flags, width)| {
        let (has_branch, has_norm, wide, function) = flags;
        let (integers, lengths) = match kernel {
            Kernel::GatherPatches => {
                // Rows and columns of pixels beside the grid belong to no patch.
                let (images, channels, patch, rows, columns) = (a, b, c, d, e);
                let (height, image_width) = (rows * patch + f % patch, columns * patch + g % patch);
                let values = images * rows * columns * channels * patch * patch;
                let pixels = images * channels * height * image_width;
                (vec![values, channels, height, image_width, patch, rows, columns], vec![pixels, values])
            }
            Kernel::AddTokens => {
                let (images, prefix, tokens) = (a, b - 1, b - 1 + c);
                let count = images * tokens * width;
                (vec![count, tokens, prefix, width], vec![tokens * width, images * c * width, count])
            }
            Kernel::BiasFunction | Kernel::BiasFunctionWide => {
                let (rows, parts, stride) = (a, b, width + c - 1);
                let count = rows * parts * width;
                (vec![count, width, parts, stride, function], vec![count, (parts - 1) * stride + width])
            }
            Kernel::Gate => {
                let (rows, stride) = (a * b, width + c - 1);
                (vec![rows * width, width, stride, function], vec![2 * rows * width, stride + width])
            }
            Kernel::ResidualNorm => {
                // Up to more columns than the threads of a row have in hand together.
                let (rows, width) = (a * b, (2 * c - 1) * width);
                let integers = vec![rows, width, has_branch.into(), has_norm.into(), wide.into()];
                let values = rows * width;
                (integers, vec![values, values, width, width, width, width, values, values])
            }
            Kernel::Softmax => {
                let (images, rows_of_image, leading, dense) = (a, b, width + c - 1, width + d - 1);
                let rows = images * rows_of_image;
                let integers = vec![rows, width, leading, rows_of_image, dense, wide.into()];
                (integers, vec![(rows - 1) * leading + width, (images - 1) * dense + width])
            }
            Kernel::MeanKeys => {
                let (images, prefix, patches, heads, head_dim, dims) = (a, b - 1, width, c - 1, d + e, d);
                let tokens = prefix + patches;
                // After the last token's keys come its values.
                let keys = (images * tokens * 3 * heads * head_dim).saturating_sub(heads * head_dim);
                let count = images * patches;
                (vec![count, tokens, prefix, heads, head_dim, dims], vec![keys, count * dims])
            }
            Kernel::MostAlike => {
                let (images, patches, dims) = (a, width + 1, b + c);
                let count = images * patches.div_ceil(2);
                (vec![count, patches, dims], vec![images * dims * patches, 2 * count])
            }
            Kernel::ChooseMerged => {
                let (images, prefix, patches) = (a, b - 1, width + 1);
                let (tokens, merged) = (prefix + patches, 1 + c * d % (patches / 2));
                let dense = if has_branch { tokens } else { tokens + e };
                let (of_tokens, of_dense) = (images * tokens, images * dense);
                let lengths = vec![
                    2 * images * patches.div_ceil(2),
                    of_tokens,
                    of_tokens,
                    of_tokens,
                    of_dense,
                    of_dense,
                    of_dense,
                    of_dense,
                ];
                (vec![images, tokens, prefix, merged, dense, has_branch.into()], lengths)
            }
            Kernel::MergeTokens => {
                let (images, tokens, merged) = (a, width + 1, 1 + c * d % width.div_ceil(2));
                let (left, dense, row) = (tokens - merged, if has_branch { tokens } else { tokens + e }, f);
                let (count, of_tokens) = (images * tokens * row, images * tokens);
                let lengths =
                    vec![count, of_tokens, of_tokens, of_tokens, (images - 1) * dense + tokens, images * left * row];
                (vec![count, tokens, left, row, dense, has_branch.into()], lengths)
            }
            Kernel::Rotary => {
                let (images, prefix, patches, heads, head_dim) = (a, b - 1, width, c, 2 * d);
                let (tokens, table) = (prefix + patches, patches * d);
                let count = images * patches * heads * head_dim;
                let integers = vec![count, tokens, prefix, heads, head_dim];
                // After the last token's keys come its values.
                let attention = images * tokens * 3 * heads * head_dim - heads * head_dim;
                (integers, vec![attention, table, table])
            }
            Kernel::CopyBack => {
                let (images, tokens, dense) = (a, b, b + c);
                let count = images * dense * width;
                (vec![count, tokens, dense, width], vec![images * tokens * width, images * dense, count])
            }
            Kernel::FusedAttention64 | Kernel::FusedAttention128 => {
                // Fewer queries than keys, or one of them for all images, as in pooling.
                let most = if kernel == Kernel::FusedAttention64 { 64 } else { 128 };
                let (images, heads, tokens) = (a.min(2), b.min(3), width * c.min(3));
                let queries = if has_branch { 1 + d % tokens } else { tokens };
                let head_dim = 8 * (e * f % 17 + 1);
                let kept = |part: usize| 1 + (head_dim - 1) * part / 8;
                let (query_dims, value_dims) = (kept(f).min(most), kept(g).min(most));
                let query_leading = heads * head_dim + 8 * (d - 1);
                let query_image = if has_branch { 0 } else { queries * query_leading };
                let (key_leading, dense) = (heads * head_dim + 8 * (g - 1), tokens + d - 1);
                let count = images * heads * queries.div_ceil(64);
                let integers = vec![
                    count,
                    queries,
                    tokens,
                    heads,
                    head_dim,
                    query_dims,
                    value_dims,
                    query_leading,
                    query_image,
                    key_leading,
                    dense,
                    wide.into(),
                ];
                let rows =
                    |rows: usize, leading: usize, dims: usize| (rows - 1) * leading + (heads - 1) * head_dim + dims;
                let lengths = vec![
                    (images - 1) * query_image + rows(queries, query_leading, query_dims),
                    rows(images * tokens, key_leading, query_dims),
                    rows(images * tokens, key_leading, value_dims),
                    (images - 1) * dense + tokens,
                    images * queries * heads * head_dim,
                ];
                (integers, lengths)
            }
            Kernel::MeanTokens => {
                let (images, first, taken, tokens) = (a, b - 1, c, b - 1 + c + d - 1);
                let leading = width + e - 1;
                let count = images * width;
                let lengths = vec![images * tokens * width, count, (images - 1) * leading + width];
                (vec![count, tokens, first, taken, width, leading], lengths)
            }
        };
        // The places are not looked at: the test brings its own memory.
        let places = vec![Buffer::Stream.at(0); lengths.len()];
        let mut launch = Launch::new(kernel, &places, &integers);
        launch.number = match kernel {
            Kernel::ResidualNorm => Some(1e-5),
            // Larger than it would be, so that scores differ.
            Kernel::FusedAttention64 | Kernel::FusedAttention128 => Some(0.7),
            _ => None,
        };
        (launch, lengths)
    })
}

/// What the slices of a launch hold at first: noise, or numbers that a kernel may find there.
fn contents(launch: &Launch, lengths: &[usize]) -> Vec<Vec<f32>> {
    let n: Vec<usize> = launch.integers.iter().map(|&value| value as usize).collect();
    let mut slices: Vec<Vec<f32>> =
        lengths.iter().enumerate().map(|(index, &length)| noise(index as u64, length).collect()).collect();
    let numbers = |values: &mut [f32], below: usize| {
        values.iter_mut().for_each(|value| *value = ((*value + 1.0) / 2.0 * below as f32).floor());
    };
    match launch.kernel {
        Kernel::ChooseMerged => {
            let [_, tokens, prefix, _, _, _] = n[..] else { panic!() };
            for found in slices[0].chunks_mut(2) {
                numbers(&mut found[..1], (tokens - prefix) / 2);
                // Few values, so that many are equal.
                numbers(&mut found[1..], 4);
            }
            numbers(&mut slices[4], tokens);
            numbers(&mut slices[5], 9);
            slices[5].iter_mut().for_each(|size| *size += 1.0);
        }
        Kernel::MergeTokens => {
            // What the kernel before it gives for the same sizes.
            let [count, tokens, left, width, _, _] = n[..] else { panic!() };
            let images = count / (tokens * width);
            let integers = [images, tokens, 0, tokens - left, tokens, 1];
            let choose = Launch::new(Kernel::ChooseMerged, &[Buffer::Stream.at(0); 8], &integers);
            let values = images * tokens;
            let lengths = [2 * images * tokens.div_ceil(2), values, values, values, values, values, values, values];
            let mut chosen = contents(&choose, &lengths);
            twin::run(&choose, &mut chosen.iter_mut().map(Vec::as_mut_slice).collect());
            slices[1..4].clone_from_slice(&chosen[1..4]);
            numbers(&mut slices[4], 9);
            slices[4].iter_mut().for_each(|size| *size += 1.0);
        }
        Kernel::CopyBack => numbers(&mut slices[1], n[1]),
        Kernel::FusedAttention64 | Kernel::FusedAttention128 => {
            let [_, _, _, heads, head_dim, query_dims, value_dims, query_leading, _, key_leading, ..] = n[..] else {
                panic!()
            };
            // What is not kept may hold anything.
            for (slice, leading, dims) in
                [(0, query_leading, query_dims), (1, key_leading, query_dims), (2, key_leading, value_dims)]
            {
                for (index, value) in slices[slice].iter_mut().enumerate() {
                    let column = index % leading;
                    if column >= heads * head_dim || column % head_dim >= dims {
                        *value = f32::NAN;
                    }
                }
            }
        }
        _ => {}
    }
    slices
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn a_kernel_does_what_its_twin_does((launch, lengths) in launch()) {
        let guarded = |values: Vec<f32>| [vec![f32::NAN; GUARD], values, vec![f32::NAN; GUARD]].concat();
        let mut found: Vec<Vec<f32>> = contents(&launch, &lengths).into_iter().map(guarded).collect();
        let mut expected = found.clone();
        let pointers: Vec<*mut f32> = found.iter_mut().map(|values| values[GUARD..].as_mut_ptr()).collect();
        let Some(stored) = emulation::emulate(&launch, &pointers, false) else { return Ok(()) };
        let end = |length: usize| GUARD..GUARD + length;
        let slices = expected.iter_mut().zip(&lengths).map(|(values, &length)| &mut values[end(length)]);
        let to_store = twin::run(&launch, &mut slices.collect());
        // As many stores as there are results, all of which are right: each was written once.
        prop_assert_eq!(stored as usize, to_store);
        for (place, (found, expected)) in found.iter().zip(&expected).enumerate() {
            for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
                let same = found.to_bits() == expected.to_bits() || (found - expected).abs() < 1e-4 * expected.abs().max(1.0);
                prop_assert!(same, "{:?} slice {} value {}: {} for {}", launch, place, index, found, expected);
            }
        }
    }

    #[test]
    fn values_are_rounded_as_f16_is(value in any::<f32>(), exponent in -30_i32..20) {
        // Around what f16 has, and anywhere else.
        for value in [value, (value % 1.0) * 2.0_f32.powi(exponent)] {
            let places = [Buffer::Hidden.at(0), Buffer::Vectors.at(0)];
            let launch = Launch::new(Kernel::BiasFunction, &places, &[1, 1, 1, 0, Function::Identity as usize]);
            let (mut found, mut bias) = ([value], [0.0]);
            if emulation::emulate(&launch, &[found.as_mut_ptr(), bias.as_mut_ptr()], true).is_none() {
                return Ok(());
            }
            let expected = half::f16::from_f32(value).to_f32();
            prop_assert!(found[0] == expected || found[0].is_nan() && expected.is_nan(), "{}: {}", value, found[0]);
        }
    }

    #[test]
    fn a_grid_has_work_for_every_item_and_no_block_without((launch, _) in launch()) {
        let (blocks, threads) = launch.dimensions();
        let items = match launch.kernel {
            Kernel::Softmax | Kernel::MeanKeys | Kernel::MostAlike => threads / 32,
            Kernel::ResidualNorm
            | Kernel::ChooseMerged
            | Kernel::FusedAttention64
            | Kernel::FusedAttention128 => 1,
            Kernel::BiasFunction => threads * 8,
            _ => threads,
        };
        let needed = launch.integers[0] as u32;
        prop_assert!(blocks * items >= needed && (blocks - 1) * items < needed);
    }
}

/// Each kernel's source refuses what the engine does not compile it for, which `.ci/compile-kernels.py` reads.
#[test]
fn kernels_say_what_they_need() {
    for kernel in Kernel::ALL {
        let needed = kernel.needs();
        let refusal = format!("#if __CUDA_ARCH__ < {}\n#error", needed.major * 100 + needed.minor * 10);
        let refuses = kernel.source().contains("#if __CUDA_ARCH__ <");
        assert_eq!(refuses, needed > ComputeCapability::SM_72, "{kernel:?}");
        assert!(!refuses || kernel.source().contains(&refusal), "{kernel:?}");
    }
}

#[test]
fn kernels_are_named_after_their_functions() {
    for kernel in Kernel::ALL {
        assert!(kernel.source().contains(&format!("{}(", kernel.name())), "{kernel:?}");
    }
}
