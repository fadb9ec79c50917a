//! Outlines of things: star-shaped curves around a centre.

use std::f32::consts::{PI, TAU};

use rand::RngExt;

use super::super::random::RandomStream;

/// A closed curve: a radius for every angle.
#[derive(Clone, Debug)]
pub struct Outline {
    form: Form,
    /// Height of the form relative to its width, 0 to 1.
    flatness: f32,
    /// Rotation as cosine and sine.
    turn: (f32, f32),
}

#[derive(Clone, Debug)]
enum Form {
    /// 2 is an ellipse, below a diamond, above a rounded box.
    Superellipse { exponent: f32 },
    /// A regular polygon.
    Polygon { corners: f32 },
    /// A circle with lobes: amplitude and phase of waves 2, 3, 4, ...
    Blob { waves: [(f32, f32); 5] },
}

/// A point in the frame of an outline.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Distance from the centre relative to the outline there; below 1 is inside.
    pub depth: f32,
    /// Unit vector from the centre, in the frame of the canvas.
    pub direction: (f32, f32),
}

impl Outline {
    pub fn random(random: &mut RandomStream) -> Self {
        let form = match random.random_range(0..10) {
            0..4 => Form::Superellipse { exponent: 2.0 },
            4..6 => Form::Superellipse { exponent: random.random_range(3.0..12.0) },
            6..8 => Form::Polygon { corners: random.random_range(3..8) as f32 },
            _ => Form::Blob {
                waves: std::array::from_fn(|wave| {
                    (random.random_range(0.0..0.5) / (wave + 2) as f32, random.random_range(0.0..TAU))
                }),
            },
        };
        let angle: f32 = random.random_range(0.0..TAU);
        let flatness = if random.random_bool(0.3) { 1.0 } else { random.random_range(0.2..1.0) };
        Self { form, flatness, turn: (angle.cos(), angle.sin()) }
    }

    /// Where the point `(x, y)` lies, with the centre at the origin and the
    /// outline about 1 wide; `None` if it is surely outside.
    pub fn place(&self, x: f32, y: f32) -> Option<Place> {
        let distance = (x * x + y * y).sqrt();
        if distance > Self::REACH {
            return None;
        }
        let (cos, sin) = self.turn;
        let (along, across) = (cos * x + sin * y, (cos * y - sin * x) / self.flatness);
        let depth = (along * along + across * across).sqrt() / self.radius(along, across);
        let scale = 1.0 / distance.max(1e-6);
        Some(Place { depth, direction: (x * scale, y * scale) })
    }

    /// No outline reaches further than this from its centre.
    pub const REACH: f32 = 1.7;

    /// The radius in the direction of a point.
    fn radius(&self, along: f32, across: f32) -> f32 {
        match &self.form {
            Form::Superellipse { exponent: 2.0 } => 1.0,
            Form::Superellipse { exponent } => {
                let scale = 1.0 / (along * along + across * across).sqrt().max(1e-6);
                let sum = (along.abs() * scale).powf(*exponent) + (across.abs() * scale).powf(*exponent);
                sum.powf(-1.0 / exponent)
            }
            Form::Polygon { corners } => {
                let sector = TAU / corners;
                let angle = across.atan2(along).rem_euclid(sector) - sector / 2.0;
                (PI / corners).cos() / angle.cos()
            }
            Form::Blob { waves } => {
                let angle = across.atan2(along);
                let lobes = waves
                    .iter()
                    .zip(2..)
                    .map(|((amplitude, phase), wave)| amplitude * (wave as f32 * angle + phase).sin());
                1.0 + lobes.sum::<f32>()
            }
        }
    }
}
