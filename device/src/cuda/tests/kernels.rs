//! Each kernel's function against its twin, over random sizes.

use proptest::prelude::*;

use super::super::buffer::Buffer;
use super::super::kernel::{Kernel, Launch};
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
                let rows = a * b;
                let integers = vec![rows, width, has_branch.into(), has_norm.into(), wide.into()];
                let values = rows * width;
                (integers, vec![values, values, width, width, width, width, values, values])
            }
            Kernel::Softmax => {
                let (rows, leading) = (a * b, width + c - 1);
                (vec![rows, width, leading], vec![(rows - 1) * leading + width])
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
        launch.number = (kernel == Kernel::ResidualNorm).then_some(1e-5);
        (launch, lengths)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_kernel_does_what_its_twin_does((launch, lengths) in launch()) {
        let guarded = |(index, &length): (usize, &usize)| {
            let mut values = vec![f32::NAN; GUARD];
            values.extend(noise(index as u64, length));
            values.extend([f32::NAN; GUARD]);
            values
        };
        let mut found: Vec<Vec<f32>> = lengths.iter().enumerate().map(guarded).collect();
        let mut expected = found.clone();
        let pointers: Vec<*mut f32> = found.iter_mut().map(|values| values[GUARD..].as_mut_ptr()).collect();
        let Some(stored) = emulation::emulate(&launch, &pointers) else { return Ok(()) };
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
    fn a_grid_has_work_for_every_item_and_no_block_without((launch, _) in launch()) {
        let (blocks, threads) = launch.dimensions();
        let threads_of_item = if matches!(launch.kernel, Kernel::ResidualNorm | Kernel::Softmax) { 32 } else { 1 };
        let needed = launch.integers[0] as u32 * threads_of_item;
        prop_assert!(blocks * threads >= needed && (blocks - 1) * threads < needed);
    }
}

#[test]
fn kernels_are_named_after_their_functions() {
    for kernel in Kernel::ALL {
        assert!(kernel.source().contains(&format!("{}(", kernel.name())), "{kernel:?}");
    }
}
