//! Positions at the input size: resampled learned grids and rotary tables.
//!
//! Both depend on the description only through its sizes, so that the CPU
//! engine and the host's candle executor place tokens in exactly the same way.
//! Everything is computed in f64 and rounded once.

use std::f64::consts::PI;

use super::description::{Description, Position, PositionResampling};
use super::weights::{Weights, WeightsError};

/// The learned positions at the description's input size, `[prefix_positions + rows * columns, embed_dim]`;
/// `None` for rotary models.
///
/// # Errors
/// If the position tensor is missing or shorter than its grid.
pub fn learned_positions(description: &Description, weights: &Weights) -> Result<Option<Vec<f32>>, WeightsError> {
    let Position::Learned { tensor, prefix_positions, grid, resampling } = &description.embedding.position else {
        return Ok(None);
    };
    let width = description.embed_dim;
    let stored = weights.values(tensor)?;
    let expected = prefix_positions + grid.0 * grid.1;
    if stored.len() < expected * width {
        let found = stored.len() / width.max(1);
        return Err(WeightsError::TooFewRows { name: tensor.name.clone(), expected, found });
    }
    let (prefix, patches) = stored[..expected * width].split_at(prefix_positions * width);
    let mut positions = prefix.to_vec();
    if description.grid() == *grid {
        positions.extend_from_slice(patches);
    } else {
        positions.extend(resample(patches, *grid, description.grid(), width, *resampling));
    }
    Ok(Some(positions))
}

/// Cosine and sine tables of a rotary model, each `[rows * columns, head_dim]`; `None` for learned positions.
///
/// DINOv3 (arXiv 2508.10104): patch centres mapped to -1 to 1 on each axis, angle
/// `2 pi coordinate theta^(-4 j / head_dim)` for `j` in `0..head_dim / 4`; a row of a table
/// holds the angles of the patch row, those of the patch column, and both again for the second half.
/// Where `head_dim` is not a multiple of four, the dimensions that are left over are not rotated.
#[must_use]
pub fn rotary_tables(description: &Description) -> Option<(Vec<f32>, Vec<f32>)> {
    let Position::Rotary { theta } = description.embedding.position else {
        return None;
    };
    let (rows, columns) = description.grid();
    let head_dim = description.head_dim;
    let quarter = head_dim / 4;
    let mut cosines = vec![1.0; rows * columns * head_dim];
    let mut sines = vec![0.0; rows * columns * head_dim];
    let centre = |index: usize, count: usize| 2.0 * (index as f64 + 0.5) / count as f64 - 1.0;
    for patch in 0..rows * columns {
        let coordinates = [centre(patch / columns, rows), centre(patch % columns, columns)];
        for dimension in 0..4 * quarter {
            let coordinate = coordinates[dimension / quarter % 2];
            let exponent = -4.0 * (dimension % quarter) as f64 / head_dim as f64;
            let angle = 2.0 * PI * coordinate * theta.powf(exponent);
            cosines[patch * head_dim + dimension] = angle.cos() as f32;
            sines[patch * head_dim + dimension] = angle.sin() as f32;
        }
    }
    Some((cosines, sines))
}

/// Resamples `[rows * columns, width]` from one grid to another, rows and columns separately.
fn resample(
    patches: &[f32],
    from: (usize, usize),
    to: (usize, usize),
    width: usize,
    resampling: PositionResampling,
) -> Vec<f32> {
    let rows = axis_taps(from.0, to.0, resampling);
    let columns = axis_taps(from.1, to.1, resampling);
    let mut result = Vec::with_capacity(to.0 * to.1 * width);
    let mut token = vec![0.0_f64; width];
    for row in &rows {
        for column in &columns {
            token.fill(0.0);
            for &(y, row_weight) in row {
                for &(x, column_weight) in column {
                    let source = &patches[(y * from.1 + x) * width..][..width];
                    for (sum, &value) in token.iter_mut().zip(source) {
                        *sum += row_weight * column_weight * f64::from(value);
                    }
                }
            }
            result.extend(token.iter().map(|&sum| sum as f32));
        }
    }
    result
}

/// For each of `to` points of an axis, the source indices and weights that make it.
fn axis_taps(from: usize, to: usize, resampling: PositionResampling) -> Vec<Vec<(usize, f64)>> {
    let scale = from as f64 / to as f64;
    let last = from.saturating_sub(1) as i64;
    (0..to)
        .map(|point| {
            // In source coordinates, where source index i has its centre at i + 0.5.
            let centre = (point as f64 + 0.5) * scale;
            match resampling {
                PositionResampling::Bicubic => {
                    let base = (centre - 0.5).floor() as i64;
                    let taps = base - 1..=base + 2;
                    let weight = |tap: i64| cubic(centre - 0.5 - tap as f64, -0.75);
                    taps.map(|tap| (tap.clamp(0, last) as usize, weight(tap))).collect()
                }
                PositionResampling::BicubicAntialias => {
                    let stretch = scale.max(1.0);
                    let first = ((centre - 2.0 * stretch + 0.5) as i64).max(0);
                    let end = ((centre + 2.0 * stretch + 0.5) as i64).min(last + 1);
                    let weight = |tap: i64| cubic((tap as f64 + 0.5 - centre) / stretch, -0.5);
                    let total: f64 = (first..end).map(weight).sum();
                    (first..end).map(|tap| (tap as usize, weight(tap) / total)).collect()
                }
            }
        })
        .collect()
}

/// Keys' cubic convolution kernel (doi 10.1109/TASSP.1981.1163711).
fn cubic(distance: f64, a: f64) -> f64 {
    let x = distance.abs();
    if x <= 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_taps_of_a_point_sum_to_one() {
        for resampling in [PositionResampling::Bicubic, PositionResampling::BicubicAntialias] {
            for (from, to) in [(3, 5), (5, 3), (14, 37), (37, 14), (1, 4), (4, 1)] {
                for taps in axis_taps(from, to, resampling) {
                    let total: f64 = taps.iter().map(|tap| tap.1).sum();
                    assert!((total - 1.0).abs() < 1e-12, "{resampling:?} {from} to {to}: {total}");
                    assert!(taps.iter().all(|tap| tap.0 < from));
                }
            }
        }
    }

    #[test]
    fn resampling_to_the_same_grid_changes_nothing() {
        let patches: Vec<f32> = (0..24).map(|value| (value as f32).sin()).collect();
        for resampling in [PositionResampling::Bicubic, PositionResampling::BicubicAntialias] {
            assert_eq!(resample(&patches, (3, 4), (3, 4), 2, resampling), patches);
        }
    }

    /// `torch.nn.functional.interpolate` (2.15) of `sin(0..12)` from 3x4 to 5x2 in float64.
    #[test]
    fn resampling_equals_pytorch() {
        let patches: Vec<f32> = (0..12).map(|value| f64::from(value).sin() as f32).collect();
        let plain = [
            0.5426273967041889,
            0.5583589294214767,
            -0.22722949845894896,
            0.5035027959920642,
            -0.9215673327790532,
            0.25248949805345156,
            0.029954289230926502,
            -0.44945365949959704,
            0.9547230565113586,
            -0.968600537272765,
        ];
        let antialias = [
            0.5904028851161555,
            0.6200913305634915,
            -0.04377212210069663,
            0.4436079836599161,
            -0.8448826458802742,
            0.08641657293489735,
            0.0430802425312099,
            -0.44353721659946066,
            0.7249896899565896,
            -0.7546327594306484,
        ];
        for (resampling, expected) in
            [(PositionResampling::Bicubic, plain), (PositionResampling::BicubicAntialias, antialias)]
        {
            let found = resample(&patches, (3, 4), (5, 2), 1, resampling);
            for (found, expected) in found.iter().zip(expected) {
                assert!((f64::from(*found) - expected).abs() < 1e-6, "{resampling:?}: {found} for {expected}");
            }
        }
    }
}
