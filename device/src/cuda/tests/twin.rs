//! Each kernel in plain Rust, written from what it is to compute rather than from its C.

use super::super::kernel::{Function, Kernel, Launch};
use crate::engine::reference::activation;
use crate::model::description::Activation;

/// What a launch may read and write, one slice for each of its places.
pub(super) type Slices<'a> = Vec<&'a mut [f32]>;

fn apply(function: i32, x: f32) -> f32 {
    let of = |kind| activation(kind, f64::from(x)) as f32;
    match function {
        f if f == Function::Gelu as i32 => of(Activation::Gelu),
        f if f == Function::GeluTanh as i32 => of(Activation::GeluTanh),
        f if f == Function::QuickGelu as i32 => of(Activation::QuickGelu),
        f if f == Function::Silu as i32 => of(Activation::Silu),
        f if f == Function::Tanh as i32 => x.tanh(),
        _ => x,
    }
}

/// Runs a launch; returns how many values it stored.
pub(super) fn run(launch: &Launch, slices: &mut Slices) -> usize {
    let n: Vec<usize> = launch.integers.iter().map(|&value| value as usize).collect();
    match launch.kernel {
        Kernel::GatherPatches => gather_patches(&n, slices),
        Kernel::AddTokens => add_tokens(&n, slices),
        Kernel::BiasFunction | Kernel::BiasFunctionWide => bias_function(&n, slices),
        Kernel::Gate => gate(&n, slices),
        Kernel::ResidualNorm => residual_norm(&n, launch.number.unwrap(), slices),
        Kernel::Softmax => softmax(&n, slices),
        Kernel::MeanTokens => mean_tokens(&n, slices),
    }
}

fn gather_patches(n: &[usize], slices: &mut Slices) -> usize {
    let [_, channels, height, width, patch, rows, columns] = n[..] else { panic!("{n:?}") };
    let [pixels, patches] = &mut slices[..] else { panic!() };
    let mut out = patches.iter_mut();
    let mut stored = 0;
    for image in pixels.chunks(channels * height * width) {
        for row in 0..rows {
            for column in 0..columns {
                for channel in image.chunks(height * width) {
                    for line in channel.chunks(width).skip(row * patch).take(patch) {
                        for &pixel in &line[column * patch..(column + 1) * patch] {
                            *out.next().unwrap() = pixel;
                            stored += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(stored, n[0]);
    stored
}

fn add_tokens(n: &[usize], slices: &mut Slices) -> usize {
    let [count, tokens, prefix, width] = n[..] else { panic!("{n:?}") };
    let [start, embedded, stream] = &mut slices[..] else { panic!() };
    let mut patches = embedded.chunks(width);
    for image in stream[..count].chunks_mut(tokens * width) {
        for (token, row) in image.chunks_mut(width).enumerate() {
            row.copy_from_slice(&start[token * width..][..width]);
            if token >= prefix {
                row.iter_mut().zip(patches.next().unwrap()).for_each(|(value, patch)| *value += patch);
            }
        }
    }
    count
}

fn bias_function(n: &[usize], slices: &mut Slices) -> usize {
    let [count, columns, parts, stride, function] = n[..] else { panic!("{n:?}") };
    let [values, bias] = &mut slices[..] else { panic!() };
    for row in values[..count].chunks_mut(columns * parts) {
        for (part, values) in row.chunks_mut(columns).enumerate() {
            for (value, bias) in values.iter_mut().zip(&bias[part * stride..]) {
                *value = apply(function as i32, *value + bias);
            }
        }
    }
    count
}

fn gate(n: &[usize], slices: &mut Slices) -> usize {
    let [count, columns, stride, function] = n[..] else { panic!("{n:?}") };
    let [values, bias] = &mut slices[..] else { panic!() };
    for row in values[..2 * count].chunks_mut(2 * columns) {
        let (gates, ups) = row.split_at_mut(columns);
        for (column, (gate, up)) in gates.iter_mut().zip(ups).enumerate() {
            *gate = apply(function as i32, *gate + bias[column]) * (*up + bias[stride + column]);
        }
    }
    count
}

fn residual_norm(n: &[usize], epsilon: f32, slices: &mut Slices) -> usize {
    let [rows, width, has_branch, has_norm, wide] = n[..] else { panic!("{n:?}") };
    let [stream, branch, branch_bias, scale, weight, bias, narrow_out, wide_out] = &mut slices[..] else { panic!() };
    for row in 0..rows {
        let values = &mut stream[row * width..][..width];
        if has_branch == 1 {
            for (column, value) in values.iter_mut().enumerate() {
                *value += scale[column] * (branch[row * width + column] + branch_bias[column]);
            }
        }
        if has_norm == 1 {
            let mean = values.iter().map(|&value| f64::from(value)).sum::<f64>() / width as f64;
            let variance = values.iter().map(|&value| (f64::from(value) - mean).powi(2)).sum::<f64>() / width as f64;
            let factor = 1.0 / (variance + f64::from(epsilon)).sqrt();
            let out = if wide == 1 { &mut *wide_out } else { &mut *narrow_out };
            for (column, out) in out[row * width..][..width].iter_mut().enumerate() {
                let normed = ((f64::from(values[column]) - mean) * factor) as f32;
                *out = normed * weight[column] + bias[column];
            }
        }
    }
    rows * width * (has_branch + has_norm)
}

fn softmax(n: &[usize], slices: &mut Slices) -> usize {
    let [rows, columns, leading] = n[..] else { panic!("{n:?}") };
    for row in slices[0].chunks_mut(leading).take(rows) {
        let row = &mut row[..columns];
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        row.iter_mut().for_each(|value| *value = (*value - largest).exp());
        let sum: f32 = row.iter().sum();
        row.iter_mut().for_each(|value| *value /= sum);
    }
    rows * columns
}

fn mean_tokens(n: &[usize], slices: &mut Slices) -> usize {
    let [count, tokens, first, taken, width, leading] = n[..] else { panic!("{n:?}") };
    let [source, wide_out, narrow_out] = &mut slices[..] else { panic!() };
    for image in 0..count / width {
        for column in 0..width {
            let value = |token: usize| f64::from(source[(image * tokens + token) * width + column]);
            let mean = (first..first + taken).map(value).sum::<f64>() / taken as f64;
            wide_out[image * width + column] = mean as f32;
            narrow_out[image * leading + column] = mean as f32;
        }
    }
    2 * count
}
