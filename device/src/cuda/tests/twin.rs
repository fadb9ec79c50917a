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
        Kernel::MeanKeys => mean_keys(&n, slices),
        Kernel::MostAlike => most_alike(&n, slices),
        Kernel::ChooseMerged => choose_merged(&n, slices),
        Kernel::MergeTokens => merge_tokens(&n, slices),
        Kernel::CopyBack => copy_back(&n, slices),
        Kernel::Rotary => rotary(&n, slices),
        Kernel::FusedAttention64 | Kernel::FusedAttention128 => attention(&n, launch.number.unwrap(), slices),
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
    let [rows, columns, leading, rows_of_image, dense, weighted] = n[..] else { panic!("{n:?}") };
    let [scores, log_sizes] = &mut slices[..] else { panic!() };
    for (index, row) in scores.chunks_mut(leading).take(rows).enumerate() {
        let row = &mut row[..columns];
        if weighted == 1 {
            let log_sizes = log_sizes.chunks(dense).nth(index / rows_of_image).unwrap();
            row.iter_mut().zip(log_sizes).for_each(|(value, log_size)| *value += log_size);
        }
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

fn mean_keys(n: &[usize], slices: &mut Slices) -> usize {
    let [count, tokens, prefix, heads, head_dim, dims] = n[..] else { panic!("{n:?}") };
    let [keys, mean_keys] = &mut slices[..] else { panic!() };
    let patches = tokens - prefix;
    for image in 0..count / patches {
        for patch in 0..patches {
            let row = (image * tokens + prefix + patch) * 3 * heads * head_dim;
            let sum = |dim: usize| (0..heads).map(|head| keys[row + head * head_dim + dim]).sum::<f32>();
            let key: Vec<f32> = (0..dims).map(sum).collect();
            let length = key.iter().map(|value| value * value).sum::<f32>().sqrt();
            for (dim, value) in key.iter().enumerate() {
                let unit = if length > 0.0 { value / length } else { 0.0 };
                mean_keys[(image * dims + dim) * patches + patch] = unit;
            }
        }
    }
    count * dims
}

fn most_alike(n: &[usize], slices: &mut Slices) -> usize {
    let [count, patches, dims] = n[..] else { panic!("{n:?}") };
    let [mean_keys, matches] = &mut slices[..] else { panic!() };
    let evens = patches.div_ceil(2);
    for (row, found) in matches.chunks_mut(2).take(count).enumerate() {
        let (image, even) = (row / evens, 2 * (row % evens));
        let key = |patch: usize| (0..dims).map(move |dim| (image * dims + dim) * patches + patch);
        let likeness = |odd: usize| key(even).zip(key(odd)).map(|(a, b)| mean_keys[a] * mean_keys[b]).sum::<f32>();
        let all = (1..patches).step_by(2).map(likeness).enumerate();
        let (odd, likeness) = all.reduce(|best, next| if next.1 > best.1 { next } else { best }).unwrap();
        found.copy_from_slice(&[odd as f32, likeness]);
    }
    2 * count
}

fn choose_merged(n: &[usize], slices: &mut Slices) -> usize {
    let [images, tokens, prefix, merged, dense, first] = n[..] else { panic!("{n:?}") };
    let [matches, joined, places, next, groups, sizes, new_sizes, log_sizes] = &mut slices[..] else { panic!() };
    let evens = (tokens - prefix).div_ceil(2);
    for image in 0..images {
        let matches: Vec<&[f32]> = matches.chunks(2).skip(image * evens).take(evens).collect();
        let mut order: Vec<usize> = (0..evens).collect();
        order.sort_by(|&a, &b| matches[b][1].total_cmp(&matches[a][1]));
        // The tokens of each group, by the token that they join.
        let mut members: Vec<Vec<usize>> = (0..tokens).map(|token| vec![token]).collect();
        order[..merged].sort_unstable();
        for &even in &order[..merged] {
            let source = prefix + 2 * even;
            members[source].clear();
            members[prefix + 2 * matches[even][0] as usize + 1].push(source);
        }
        let mut place_of = vec![0; tokens];
        for (place, group) in members.iter().filter(|group| !group.is_empty()).enumerate() {
            for (index, &token) in group.iter().enumerate() {
                let at = image * tokens + token;
                joined[at] = group[0] as f32;
                places[at] = place as f32;
                next[at] = group.get(index + 1).map_or(tokens, |&next| next) as f32;
                place_of[token] = place;
            }
            let size = |&token: &usize| if first == 1 { 1.0 } else { sizes[image * dense + token] };
            new_sizes[image * dense + place] = group.iter().map(size).sum();
            log_sizes[image * dense + place] = new_sizes[image * dense + place].ln();
        }
        for source in 0..dense {
            let group = &mut groups[image * dense + source];
            *group = place_of[if first == 1 { source } else { *group as usize }] as f32;
        }
    }
    images * (3 * tokens + 2 * (tokens - merged) + dense)
}

/// Written from groups, not from chains: all that are at the same place.
fn merge_tokens(n: &[usize], slices: &mut Slices) -> usize {
    let [count, tokens, left, width, dense, first] = n[..] else { panic!("{n:?}") };
    let [stream, _, places, _, sizes, out] = &mut slices[..] else { panic!() };
    let images = count / (tokens * width);
    for image in 0..images {
        for place in 0..left {
            let size = |token: usize| if first == 1 { 1.0 } else { f64::from(sizes[image * dense + token]) };
            let of_group = || (0..tokens).filter(|token| places[image * tokens + token] == place as f32);
            let total: f64 = of_group().map(size).sum();
            for column in 0..width {
                let value = |token: usize| f64::from(stream[(image * tokens + token) * width + column]);
                let sum: f64 = of_group().map(|token| size(token) * value(token)).sum();
                out[(image * left + place) * width + column] = (sum / total) as f32;
            }
        }
    }
    images * left * width
}

fn copy_back(n: &[usize], slices: &mut Slices) -> usize {
    let [count, tokens, dense, width] = n[..] else { panic!("{n:?}") };
    let [left, groups, out] = &mut slices[..] else { panic!() };
    for (index, row) in out[..count].chunks_mut(width).enumerate() {
        let token = index / dense * tokens + groups[index] as usize;
        row.copy_from_slice(&left[token * width..][..width]);
    }
    count
}

fn rotary(n: &[usize], slices: &mut Slices) -> usize {
    let [count, tokens, prefix, heads, head_dim] = n[..] else { panic!("{n:?}") };
    let [attention, cosines, sines] = &mut slices[..] else { panic!() };
    let half = head_dim / 2;
    let images = count / ((tokens - prefix) * heads * head_dim);
    for image in attention.chunks_mut(tokens * 3 * heads * head_dim).take(images) {
        for (patch, row) in image.chunks_mut(3 * heads * head_dim).skip(prefix).enumerate() {
            for head in row.chunks_mut(head_dim).take(2 * heads) {
                let before = head.to_vec();
                for dim in 0..half {
                    let (cosine, sine) = (cosines[patch * half + dim], sines[patch * half + dim]);
                    head[dim] = before[dim] * cosine - before[half + dim] * sine;
                    head[half + dim] = before[half + dim] * cosine + before[dim] * sine;
                }
            }
        }
    }
    2 * count
}

/// As attention is defined: all scores of a query, their softmax, and the sum of values.
fn attention(n: &[usize], scale: f32, slices: &mut Slices) -> usize {
    let [count, queries, tokens, heads, head_dim, query_dims, value_dims, ref distances @ ..] = n[..] else {
        panic!("{n:?}")
    };
    let [query_leading, query_image, key_leading, dense, weighted] = distances[..] else { panic!("{n:?}") };
    let [of_queries, keys, values, log_sizes, out] = &mut slices[..] else { panic!() };
    let images = count / (heads * queries.div_ceil(64));
    for (row, found) in out.chunks_mut(head_dim).take(images * queries * heads).enumerate() {
        let (head, query, image) = (row % heads, row / heads % queries, row / (heads * queries));
        let query = &of_queries[image * query_image + query * query_leading + head * head_dim..][..query_dims];
        let start = |token: usize| (image * tokens + token) * key_leading + head * head_dim;
        let score = |token: usize| {
            let key = &keys[start(token)..][..query_dims];
            let product: f64 = query.iter().zip(key).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
            let size = if weighted == 1 { log_sizes[image * dense + token] } else { 0.0 };
            product * f64::from(scale) + f64::from(size)
        };
        let scores: Vec<f64> = (0..tokens).map(score).collect();
        let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let shares: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f64 = shares.iter().sum();
        found.fill(0.0);
        for (dim, found) in found[..value_dims].iter_mut().enumerate() {
            let value = |token: usize| f64::from(values[start(token) + dim]);
            *found = (shares.iter().enumerate().map(|(token, share)| share * value(token)).sum::<f64>() / sum) as f32;
        }
    }
    images * queries * heads * head_dim
}
