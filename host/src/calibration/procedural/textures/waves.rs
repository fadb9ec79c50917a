//! Stripes, ripples and rings: water, cloth, fences, wood, zebras.

use std::f32::consts::TAU;

use rand::RngExt;

use super::super::super::random::RandomStream;
use super::super::colour::Colour;
use super::super::noise::{Fractal, Warp};
use super::super::palette::Palette;
use super::{Texture, frequency};

pub struct Waves {
    waves: Vec<Wave>,
    warp: Warp,
    grain: Fractal,
    palette: Palette,
    /// 1 is a sine; larger comes closer to hard stripes.
    hardness: f32,
}

struct Wave {
    form: Form,
    /// Crests per unit of length.
    frequency: f32,
    phase: f32,
}

enum Form {
    /// Straight crests; the direction in which they follow each other.
    Plane(f32, f32),
    /// Circles around a point.
    Ring(f32, f32),
}

impl Waves {
    pub fn random(random: &mut RandomStream, finest: f32) -> Self {
        let waves = (0..random.random_range(1..4))
            .map(|_| Wave {
                form: if random.random_bool(0.7) {
                    let angle: f32 = random.random_range(0.0..TAU);
                    Form::Plane(angle.cos(), angle.sin())
                } else {
                    Form::Ring(random.random_range(-0.5..1.5), random.random_range(-0.5..1.5))
                },
                frequency: frequency(random, 1.5, (finest / 2.0).clamp(1.5, 24.0)),
                phase: random.random_range(0.0..TAU),
            })
            .collect();
        let reach = random.random_range(0.0..0.3f32).powi(2);
        let grain = random.random_range(3.0..8.0);
        Self {
            waves,
            warp: Warp::new(random, reach),
            grain: Fractal::new(random, grain, 0.8, finest),
            palette: Palette::random(random),
            hardness: frequency(random, 1.0, 8.0),
        }
    }
}

impl Texture for Waves {
    fn colour(&self, x: f32, y: f32) -> Colour {
        let (u, v) = self.warp.at(x, y);
        let sum: f32 = self
            .waves
            .iter()
            .map(|wave| {
                let along = match wave.form {
                    Form::Plane(dx, dy) => dx * u + dy * v,
                    Form::Ring(cx, cy) => ((u - cx).powi(2) + (v - cy).powi(2)).sqrt(),
                };
                (TAU * wave.frequency * along + wave.phase).sin()
            })
            .sum();
        let height = sum / (self.waves.len() as f32).sqrt() * self.hardness;
        // A cheap and smooth limit to -1 to 1.
        let limited = height / (1.0 + height * height).sqrt();
        self.palette.at(0.5 + 0.42 * limited + 0.12 * self.grain.at(x, y))
    }
}
