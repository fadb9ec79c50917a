//! Warped fractal noise: clouds, foliage, stone, marble, bark.

use rand::RngExt;

use super::super::super::random::RandomStream;
use super::super::colour::Colour;
use super::super::noise::{Fractal, Warp};
use super::super::palette::Palette;
use super::{Texture, frequency};

pub struct Clouds {
    height: Fractal,
    warp: Warp,
    /// Stretch of the two axes: grain, fur, wood.
    stretch: (f32, f32),
    palette: Palette,
    contrast: f32,
}

impl Clouds {
    pub fn random(random: &mut RandomStream, finest: f32) -> Self {
        let frequency = frequency(random, 1.0, 10.0);
        let gain = random.random_range(0.55..0.95);
        let height = Fractal::new(random, frequency, gain, finest);
        let reach = random.random_range(0.0..0.4f32).powi(2) * 2.0;
        let stretch = match random.random_range(0..4) {
            0 => (random.random_range(0.15..0.5), 1.0),
            1 => (1.0, random.random_range(0.15..0.5)),
            _ => (1.0, 1.0),
        };
        Self {
            height: if random.random_bool(0.3) { height.creased() } else { height },
            warp: Warp::new(random, reach),
            stretch,
            palette: Palette::random(random),
            contrast: random.random_range(0.35..0.8),
        }
    }

    /// Large and smooth.
    pub fn soft(random: &mut RandomStream, finest: f32) -> Self {
        let frequency = frequency(random, 0.7, 2.0);
        Self {
            height: Fractal::new(random, frequency, 0.5, finest),
            warp: Warp::new(random, 0.1),
            stretch: (random.random_range(0.4..1.0), 1.0),
            palette: Palette::random(random),
            contrast: random.random_range(0.2..0.5),
        }
    }
}

impl Texture for Clouds {
    fn colour(&self, x: f32, y: f32) -> Colour {
        let (x, y) = self.warp.at(x, y);
        self.palette.at(0.5 + self.contrast * self.height.at(x * self.stretch.0, y * self.stretch.1))
    }
}
