//! Bricks, windows and boards: what people build.

use std::f32::consts::TAU;

use rand::RngExt;

use super::super::super::random::RandomStream;
use super::super::colour::{Colour, scale, smooth_step};
use super::super::noise::{Fractal, hash, unit};
use super::super::palette::Palette;
use super::{Texture, frequency};

pub struct Tiles {
    seed: u32,
    turn: (f32, f32),
    /// Tiles per unit of length, along and across.
    frequency: (f32, f32),
    /// Shift of every other row, in tiles.
    shift: f32,
    joint: f32,
    joint_brightness: f32,
    chequered: bool,
    grain: Fractal,
    palette: Palette,
}

impl Tiles {
    pub fn random(random: &mut RandomStream, finest: f32) -> Self {
        let angle: f32 = if random.random_bool(0.5) { 0.0 } else { random.random_range(0.0..TAU) };
        let across = frequency(random, 2.0, (finest / 3.0).clamp(2.0, 16.0));
        Self {
            seed: random.random(),
            turn: (angle.cos(), angle.sin()),
            frequency: (across * random.random_range(0.3..1.0), across),
            shift: if random.random_bool(0.5) { 0.5 } else { 0.0 },
            joint: random.random_range(0.0..0.15),
            joint_brightness: random.random_range(0.3..1.5),
            chequered: random.random_bool(0.3),
            grain: Fractal::new(random, 4.0, 0.8, finest),
            palette: Palette::random(random),
        }
    }
}

impl Texture for Tiles {
    fn colour(&self, x: f32, y: f32) -> Colour {
        let (cos, sin) = self.turn;
        let (u, v) = ((cos * x + sin * y) * self.frequency.0, (cos * y - sin * x) * self.frequency.1);
        let row = v.floor();
        let u = u + if row as i32 & 1 == 1 { self.shift } else { 0.0 };
        let column = u.floor();
        let (column_index, row_index) = (column as i32, row as i32);
        let own = unit(hash(column_index, row_index, self.seed));
        let tone = if self.chequered { 0.15 + 0.7 * ((column_index + row_index) & 1) as f32 } else { 0.2 + 0.6 * own };
        let edge = |place: f32| place.min(1.0 - place);
        let inside = smooth_step(0.0, self.joint + 0.02, edge(u - column).min(edge(v - row)));
        let shade = self.joint_brightness + (1.0 - self.joint_brightness) * inside;
        scale(self.palette.at(tone + 0.12 * self.grain.at(x, y)), shade)
    }
}
