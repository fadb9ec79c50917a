//! Surfaces: a colour for every point.

mod cells;
mod clouds;
mod gradient;
mod tiles;
mod waves;

use rand::RngExt;

use super::super::random::RandomStream;
use super::colour::Colour;

/// A surface without end. Lengths are in units of the image's shorter side.
pub trait Texture {
    /// The colour at a point.
    fn colour(&self, x: f32, y: f32) -> Colour;
}

/// Any texture, with nothing finer than `finest` bumps per unit of length.
pub fn random(random: &mut RandomStream, finest: f32) -> Box<dyn Texture> {
    match random.random_range(0..10) {
        0..4 => Box::new(clouds::Clouds::random(random, finest)),
        4..6 => Box::new(cells::Cells::random(random, finest)),
        6..8 => Box::new(waves::Waves::random(random, finest)),
        8 => Box::new(tiles::Tiles::random(random, finest)),
        _ => Box::new(gradient::Gradient::random(random)),
    }
}

/// A soft background, such as a sky.
pub fn soft(random: &mut RandomStream, finest: f32) -> Box<dyn Texture> {
    if random.random_bool(0.4) {
        Box::new(gradient::Gradient::random(random))
    } else {
        Box::new(clouds::Clouds::soft(random, finest))
    }
}

/// A frequency between `low` and `high`, uniform in the logarithm.
fn frequency(random: &mut RandomStream, low: f32, high: f32) -> f32 {
    low * (high / low).max(1.0).powf(random.random_range(0.0..1.0))
}
