//! Cells around scattered points (Worley, doi 10.1145/237170.237267): pebbles,
//! skin, leaves of a tree, crowds.

use rand::RngExt;

use super::super::super::random::RandomStream;
use super::super::colour::{Colour, scale, smooth_step};
use super::super::noise::{Warp, hash, unit};
use super::super::palette::Palette;
use super::{Texture, frequency};

pub struct Cells {
    seed: u32,
    /// Cells per unit of length.
    frequency: f32,
    warp: Warp,
    palette: Palette,
    /// How far colours of cells differ, 0 to 1.
    variety: f32,
    /// Width of the dark gap between cells, relative to a cell.
    gap: f32,
    /// Darkening from the centre of a cell to its rim.
    bulge: f32,
}

impl Cells {
    pub fn random(random: &mut RandomStream, finest: f32) -> Self {
        let reach = if random.random_bool(0.5) { random.random_range(0.0..0.1) } else { 0.0 };
        Self {
            seed: random.random(),
            frequency: frequency(random, 2.0, (finest / 3.0).clamp(2.0, 24.0)),
            warp: Warp::new(random, reach),
            palette: Palette::random(random),
            variety: random.random_range(0.3..1.0),
            gap: if random.random_bool(0.6) { random.random_range(0.02..0.2) } else { 0.0 },
            bulge: random.random_range(0.0..0.8),
        }
    }
}

impl Texture for Cells {
    fn colour(&self, x: f32, y: f32) -> Colour {
        let (x, y) = self.warp.at(x, y);
        let (x, y) = (x * self.frequency, y * self.frequency);
        let (column, row) = (x.floor() as i32, y.floor() as i32);
        // Distances to the nearest and the second nearest point.
        let (mut first, mut second, mut cell) = (f32::MAX, f32::MAX, 0);
        for row in row - 1..=row + 1 {
            for column in column - 1..=column + 1 {
                let identity = hash(column, row, self.seed);
                let dx = column as f32 + unit(identity) - x;
                let dy = row as f32 + unit(identity.wrapping_mul(0x9e37_79b1)) - y;
                let distance = dx * dx + dy * dy;
                if distance < first {
                    (second, first, cell) = (first, distance, identity);
                } else if distance < second {
                    second = distance;
                }
            }
        }
        let (first, second) = (first.sqrt(), second.sqrt());
        let colour = self.palette.at(0.5 + self.variety * (unit(cell.wrapping_mul(0x85eb_ca77)) - 0.5));
        let gap = if self.gap > 0.0 { smooth_step(0.0, self.gap, second - first) } else { 1.0 };
        scale(colour, (1.0 - self.bulge * first) * (0.3 + 0.7 * gap))
    }
}
