//! A smooth change of colour: skies, walls, studio backgrounds.

use std::f32::consts::TAU;

use rand::RngExt;

use super::super::super::random::RandomStream;
use super::super::colour::Colour;
use super::super::palette::Palette;
use super::Texture;

pub struct Gradient {
    palette: Palette,
    form: Form,
    /// Colours passed per unit of length, of all in the palette.
    steepness: f32,
    start: f32,
}

enum Form {
    Linear(f32, f32),
    Radial(f32, f32),
}

impl Gradient {
    pub fn random(random: &mut RandomStream) -> Self {
        let form = if random.random_bool(0.7) {
            let angle: f32 = random.random_range(0.0..TAU);
            Form::Linear(angle.cos(), angle.sin())
        } else {
            Form::Radial(random.random_range(0.0..1.0), random.random_range(0.0..1.0))
        };
        Self {
            palette: Palette::random(random),
            form,
            steepness: random.random_range(0.2..0.9),
            start: random.random_range(0.2..0.8),
        }
    }
}

impl Texture for Gradient {
    fn colour(&self, x: f32, y: f32) -> Colour {
        let along = match self.form {
            Form::Linear(dx, dy) => (x - 0.5) * dx + (y - 0.5) * dy,
            Form::Radial(cx, cy) => ((x - cx).powi(2) + (y - cy).powi(2)).sqrt() - 0.4,
        };
        self.palette.at(self.start + self.steepness * along)
    }
}
