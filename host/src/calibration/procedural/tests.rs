//! What makes pictures fit for calibration: the same from the same seed, all
//! different, and statistics like those of photographs.

use std::f64::consts::TAU;

use super::*;

const SIDE: usize = 64;

fn images(seed: u64, side: u32) -> ProceduralImages {
    ProceduralImages::new(seed, NonZeroUsize::MIN, side, side)
}

#[test]
fn seed_number_and_size_give_the_bytes() {
    let make = |seed, index| images(seed, 32).image(index);
    assert_eq!(make(1, 5), make(1, 5));
    assert_ne!(make(1, 5), make(1, 6));
    assert_ne!(make(1, 5), make(2, 5));
    let wide = ProceduralImages::new(1, NonZeroUsize::MIN, 20, 44).image(0);
    assert_eq!((wide.width(), wide.height()), (44, 20));
}

#[test]
fn a_division_goes_on_where_the_first_part_ends() {
    let whole = ProceduralImages::new(1, NonZeroUsize::new(5).unwrap(), 16, 16);
    let (first, others) = whole.clone().split(3);
    let others = others.unwrap();
    assert_eq!((first.count(), others.count()), (3, 2));
    assert_eq!(others.image(1), whole.image(4));
    assert!(whole.split(5).1.is_none());
}

#[test]
fn tiny_images_are_possible() {
    for side in 1..4 {
        assert_eq!(images(0, side).image(0).width(), side);
    }
}

#[test]
fn pictures_have_the_statistics_of_photographs() {
    const COUNT: usize = 96;
    let images = images(11, SIDE as u32);
    let (mut means, mut deviations, mut slopes, mut chroma) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for index in 0..COUNT as u64 {
        let image = images.image(index);
        let grey = brightness(&image);
        let mean = grey.iter().sum::<f64>() / grey.len() as f64;
        let deviation = (grey.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / grey.len() as f64).sqrt();
        assert!(deviation > 0.02, "image {index} is flat: {deviation}");
        means.push(mean);
        deviations.push(deviation);
        slopes.push(spectral_slope(&grey));
        let colourful = image.pixels().map(|pixel| {
            let [red, green, blue] = pixel.0.map(f64::from);
            (red.max(green).max(blue) - red.min(green).min(blue)) / 255.0
        });
        chroma.push(colourful.sum::<f64>() / (SIDE * SIDE) as f64);
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    assert!((0.4..0.55).contains(&mean(&means)), "brightness {}", mean(&means));
    assert!((0.12..0.28).contains(&mean(&deviations)), "contrast {}", mean(&deviations));
    assert!((0.05..0.3).contains(&mean(&chroma)), "colour {}", mean(&chroma));
    assert!((-3.0..-2.0).contains(&mean(&slopes)), "spectral slope {}", mean(&slopes));
}

fn brightness(image: &RgbImage) -> Vec<f64> {
    image.pixels().map(|pixel| pixel.0.iter().map(|&value| f64::from(value)).sum::<f64>() / 765.0).collect()
}

/// The slope of log power against log frequency, from 2 to 24 cycles per
/// picture, under a Hann window.
fn spectral_slope(grey: &[f64]) -> f64 {
    let hann = |index: usize| 0.5 - 0.5 * (TAU * (index as f64 + 0.5) / SIDE as f64).cos();
    let mean = grey.iter().sum::<f64>() / grey.len() as f64;
    let windowed: Vec<(f64, f64)> =
        grey.iter().enumerate().map(|(at, value)| ((value - mean) * hann(at / SIDE) * hann(at % SIDE), 0.0)).collect();
    let transposed = |lines: Vec<(f64, f64)>| -> Vec<(f64, f64)> {
        (0..SIDE * SIDE).map(|at| lines[at % SIDE * SIDE + at / SIDE]).collect()
    };
    let spectrum = transposed(fourier(transposed(fourier(windowed))));
    let mut rings = [(0.0, 0u32); 24];
    let signed = |index: usize| if index < SIDE / 2 { index as f64 } else { index as f64 - SIDE as f64 };
    for (at, (real, imaginary)) in spectrum.iter().enumerate() {
        let ring = signed(at / SIDE).hypot(signed(at % SIDE)).round() as usize;
        if (2..24).contains(&ring) {
            rings[ring].0 += real * real + imaginary * imaginary;
            rings[ring].1 += 1;
        }
    }
    let points: Vec<(f64, f64)> = rings
        .iter()
        .enumerate()
        .filter(|(_, (power, count))| *power > 0.0 && *count > 0)
        .map(|(ring, (power, count))| ((ring as f64).ln(), (power / f64::from(*count)).ln()))
        .collect();
    let count = points.len() as f64;
    let mean_x = points.iter().map(|point| point.0).sum::<f64>() / count;
    let mean_y = points.iter().map(|point| point.1).sum::<f64>() / count;
    let covariance: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    covariance / points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum::<f64>()
}

/// The discrete Fourier transform of each line.
fn fourier(lines: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let roots: Vec<(f64, f64)> = (0..SIDE).map(|k| (-TAU * k as f64 / SIDE as f64).sin_cos()).collect();
    let mut transformed = Vec::with_capacity(lines.len());
    for line in lines.chunks_exact(SIDE) {
        for frequency in 0..SIDE {
            let mut sum = (0.0, 0.0);
            for (at, (real, imaginary)) in line.iter().enumerate() {
                let (sin, cos) = roots[frequency * at % SIDE];
                sum.0 += real * cos - imaginary * sin;
                sum.1 += real * sin + imaginary * cos;
            }
            transformed.push(sum);
        }
    }
    transformed
}
