//! Gradient noise and sums of it.

use rand::RngExt;

use super::super::random::RandomStream;

/// Eight directions, a sixteenth of a turn off the axes.
const DIRECTIONS: [(f32, f32); 8] = {
    const C: f32 = 0.923_879_5;
    const S: f32 = 0.382_683_43;
    [(C, S), (S, C), (-S, C), (-C, S), (-C, -S), (-S, -C), (S, -C), (C, -S)]
};

/// A well mixed number of a grid point (constants: "lowbias32" of Chris
/// Wellons' hash-prospector, in the public domain).
pub fn hash(x: i32, y: i32, seed: u32) -> u32 {
    let mut value = seed ^ (x as u32).wrapping_mul(0x9e37_79b1) ^ (y as u32).wrapping_mul(0x85eb_ca77).rotate_left(16);
    value = (value ^ (value >> 16)).wrapping_mul(0x7feb_352d);
    value = (value ^ (value >> 15)).wrapping_mul(0x846c_a68b);
    value ^ (value >> 16)
}

/// A number in 0 to 1 from the upper bits of a hash.
pub fn unit(hash: u32) -> f32 {
    (hash >> 8) as f32 / (1u32 << 24) as f32
}

/// Perlin's gradient noise (doi 10.1145/566654.566636), about -1 to 1, one
/// bump per unit of length.
fn gradient_noise(x: f32, y: f32, seed: u32) -> f32 {
    let (column, row) = (x.floor(), y.floor());
    let (dx, dy) = (x - column, y - row);
    let (column, row) = (column as i32, row as i32);
    let corner = |right: i32, down: i32| {
        let (gx, gy) = DIRECTIONS[(hash(column + right, row + down, seed) >> 29) as usize];
        gx * (dx - right as f32) + gy * (dy - down as f32)
    };
    let fade = |t: f32| t * t * t * (t * (t * 6.0 - 15.0) + 10.0);
    let (fade_x, fade_y) = (fade(dx), fade(dy));
    let top = corner(0, 0) + (corner(1, 0) - corner(0, 0)) * fade_x;
    let bottom = corner(0, 1) + (corner(1, 1) - corner(0, 1)) * fade_x;
    1.5 * (top + (bottom - top) * fade_y)
}

/// Octaves of gradient noise.
#[derive(Clone, Debug)]
pub struct Fractal {
    seed: u32,
    /// Of the coarsest octave, bumps per unit of length.
    pub frequency: f32,
    octaves: u32,
    /// Amplitude of each octave relative to the one below.
    gain: f32,
    /// Makes the sum about as large as one octave.
    norm: f32,
    /// Octaves are folded at zero: creases instead of bumps.
    creased: bool,
}

impl Fractal {
    /// Noise from `frequency` up to `finest` bumps per unit of length, so that
    /// nothing is finer than the canvas can show. A gain of 0.5 is smooth
    /// (power falls with the fourth power of the frequency), 1 is rough (with
    /// the square).
    pub fn new(random: &mut RandomStream, frequency: f32, gain: f32, finest: f32) -> Self {
        let octaves = (finest / frequency).max(1.0).log2().floor() as u32 + 1;
        let octaves = octaves.min(8);
        let power: f32 = (0..octaves).map(|octave| gain.powi(2 * octave as i32)).sum();
        Self { seed: random.random(), frequency, octaves, gain, norm: power.sqrt().recip(), creased: false }
    }

    /// Noise with creases.
    #[must_use]
    pub fn creased(mut self) -> Self {
        self.creased = true;
        self
    }

    /// About -1 to 1.
    pub fn at(&self, x: f32, y: f32) -> f32 {
        let (mut x, mut y) = (x * self.frequency, y * self.frequency);
        let (mut sum, mut amplitude) = (0.0, self.norm);
        for octave in 0..self.octaves {
            let value = gradient_noise(x, y, self.seed.wrapping_add(octave.wrapping_mul(0x632b_e5ab)));
            sum += amplitude * if self.creased { 1.0 - 3.0 * value.abs() } else { value };
            amplitude *= self.gain;
            // Turned by 37 degrees from octave to octave, which hides the grid.
            (x, y) = (2.0 * (0.8 * x - 0.6 * y), 2.0 * (0.6 * x + 0.8 * y));
        }
        sum
    }
}

/// Moves points by noise, which bends whatever is painted with them.
#[derive(Clone, Debug)]
pub struct Warp {
    horizontal: Fractal,
    vertical: Fractal,
    reach: f32,
}

impl Warp {
    /// Moves points by up to about `reach`.
    pub fn new(random: &mut RandomStream, reach: f32) -> Self {
        let frequency = random.random_range(0.8..3.0);
        // Three octaves bend enough and keep lines unbroken.
        let finest = frequency * 4.0;
        Self {
            horizontal: Fractal::new(random, frequency, 0.5, finest),
            vertical: Fractal::new(random, frequency, 0.5, finest),
            reach,
        }
    }

    pub fn at(&self, x: f32, y: f32) -> (f32, f32) {
        if self.reach == 0.0 {
            return (x, y);
        }
        (x + self.reach * self.horizontal.at(x, y), y + self.reach * self.vertical.at(x, y))
    }
}
