//! What there is to see: a background, things in front of it, and light.

use std::f32::consts::TAU;

use rand::RngExt;

use super::super::random::RandomStream;
use super::canvas::Canvas;
use super::colour::{mix, scale, smooth_step};
use super::leaf::Leaf;
use super::noise::Fractal;
use super::palette::Palette;
use super::textures::{self, Texture};

/// A composition, ready to be painted.
pub struct Scene {
    background: Background,
    /// Blur of the background, units of length: depth of field.
    blur: f32,
    /// From back to front.
    leaves: Vec<Leaf>,
    light: Light,
}

enum Background {
    /// One surface, seen from above.
    Surface(Box<dyn Texture>),
    /// Two surfaces that share the picture along an irregular border.
    Patches { first: Box<dyn Texture>, second: Box<dyn Texture>, border: Fractal, softness: f32 },
    /// A sky over a ground in perspective.
    Horizon { sky: Box<dyn Texture>, ground: Box<dyn Texture>, skyline: Fractal, height: f32, roughness: f32 },
}

struct Light {
    /// Towards the light, a unit vector of the canvas.
    direction: (f32, f32),
    /// Brightness gained across the picture.
    slope: f32,
    /// Large soft patches of light and shadow.
    patches: Fractal,
    patch_strength: f32,
    /// Darkening of the corners.
    vignette: f32,
}

/// What fills the front of a scene.
#[derive(Clone, Copy)]
enum Front {
    Nothing,
    /// A thing or a few, made of several parts.
    Objects,
    /// Leaves of all sizes, here and there or everywhere.
    Sparse,
    Clutter,
}

impl Scene {
    pub fn random(random: &mut RandomStream, canvas: &Canvas) -> Self {
        let (background, front) = match random.random_range(0..20) {
            0..5 => (Background::horizon(random, canvas), Front::Objects),
            5..7 => (Background::horizon(random, canvas), Front::Sparse),
            7..13 => (Background::any(random, canvas), Front::Objects),
            13..16 => (Background::any(random, canvas), Front::Clutter),
            16..18 => (Background::any(random, canvas), Front::Sparse),
            _ => (Background::any(random, canvas), Front::Nothing),
        };
        let blur = if random.random_bool(0.5) { random.random_range(0.0..0.25f32).powi(2) } else { 0.0 };
        let leaves = match front {
            Front::Nothing => Vec::new(),
            Front::Objects => (0..random.random_range(1..4)).flat_map(|_| object(random, canvas)).collect(),
            Front::Sparse => {
                let count = random.random_range(5..40);
                scattered(random, canvas, count, 0.25)
            }
            Front::Clutter => {
                let count = random.random_range(80..400);
                scattered(random, canvas, count, 0.4)
            }
        };
        Self { background, blur, leaves, light: Light::random(random) }
    }

    pub fn paint(&self, canvas: &mut Canvas) {
        self.background.paint(canvas);
        canvas.blur(self.blur);
        for leaf in &self.leaves {
            leaf.paint(canvas, self.light.direction);
        }
        self.light.paint(canvas);
    }
}

/// Leaves whose sizes follow a power law (density of radii r^-3), which makes a
/// picture look alike at all scales.
fn scattered(random: &mut RandomStream, canvas: &Canvas, count: usize, largest: f32) -> Vec<Leaf> {
    let palettes: Vec<Palette> = (0..random.random_range(1..5)).map(|_| Palette::random(random)).collect();
    // No smaller than a pixel of the image.
    let smallest = (2.0 / canvas.pixels_per_unit()).max(0.02).min(largest);
    let (width, height) = canvas.extent();
    (0..count)
        .map(|_| {
            let share: f32 = random.random_range(0.0..1.0);
            let radius = (smallest.powi(-2) * (1.0 - share) + largest.powi(-2) * share).powf(-0.5);
            let centre = (random.random_range(-0.1..width + 0.1), random.random_range(-0.1..height + 0.1));
            let palette = &palettes[random.random_range(0..palettes.len())];
            Leaf::random(random, canvas, palette, centre, radius)
        })
        .collect()
}

/// A thing: a body near the middle with parts around and on it, in one palette.
fn object(random: &mut RandomStream, canvas: &Canvas) -> Vec<Leaf> {
    let palette = Palette::random(random);
    let (width, height) = canvas.extent();
    let centre = (width * random.random_range(0.2..0.8), height * random.random_range(0.25..0.8));
    let size = random.random_range(0.1..0.38f32);
    let body = Leaf::random(random, canvas, &palette, centre, size);
    let mut leaves = vec![body];
    for _ in 0..random.random_range(0..8) {
        let (angle, distance) = (random.random_range(0.0..TAU), size * random.random_range(0.1..1.1f32));
        let place = (centre.0 + distance * angle.cos(), centre.1 + distance * angle.sin());
        let radius = size * random.random_range(0.08..0.6);
        let part = Leaf::random(random, canvas, &palette, place, radius);
        // Some parts are behind the body.
        let layer = if random.random_bool(0.3) { 0 } else { leaves.len() };
        leaves.insert(layer, part);
    }
    leaves
}

impl Background {
    fn any(random: &mut RandomStream, canvas: &Canvas) -> Self {
        let finest = canvas.finest();
        if random.random_bool(0.6) {
            let soft = random.random_bool(0.35);
            return Self::Surface(if soft { textures::soft(random, finest) } else { textures::random(random, finest) });
        }
        let frequency = random.random_range(0.6..2.5);
        Self::Patches {
            first: textures::random(random, finest),
            second: textures::random(random, finest),
            border: contour(random, frequency, finest),
            softness: random.random_range(0.01..0.3),
        }
    }

    fn horizon(random: &mut RandomStream, canvas: &Canvas) -> Self {
        let finest = canvas.finest();
        let frequency = random.random_range(0.8..4.0);
        Self::Horizon {
            sky: textures::soft(random, finest),
            ground: textures::random(random, finest),
            skyline: contour(random, frequency, finest),
            height: random.random_range(0.2..0.7),
            roughness: random.random_range(0.0..0.4f32).powi(2),
        }
    }

    fn paint(&self, canvas: &mut Canvas) {
        let (_, height) = canvas.extent();
        canvas.paint(|x, y, _| match self {
            Self::Surface(texture) => texture.colour(x, y),
            Self::Patches { first, second, border, softness } => {
                let share = smooth_step(-softness, *softness, border.at(x, y));
                mix(first.colour(x, y), second.colour(x, y), share)
            }
            Self::Horizon { sky, ground, skyline, height: share, roughness } => {
                let border = height * share + roughness * skyline.at(x, 0.5);
                if y < border {
                    return sky.colour(x, y);
                }
                // Lines of the ground run together at the horizon.
                let nearness = ((y - border) / (height - border).max(0.05)).clamp(0.0, 1.0);
                let distance = 1.0 / (0.15 + 0.85 * nearness);
                let colour = ground.colour(0.5 + (x - 0.5) * distance, distance * 1.5);
                // Haze: what is far takes the colour of the sky above it.
                mix(colour, sky.colour(x, border), 0.5 * (1.0 - nearness).powi(3))
            }
        });
    }
}

/// Noise whose level lines are the borders of things.
fn contour(random: &mut RandomStream, frequency: f32, finest: f32) -> Fractal {
    let gain = random.random_range(0.4..0.7);
    Fractal::new(random, frequency, gain, finest)
}

impl Light {
    fn random(random: &mut RandomStream) -> Self {
        let angle: f32 = random.random_range(0.0..TAU);
        let frequency = random.random_range(0.5..2.0);
        Self {
            direction: (angle.cos(), angle.sin()),
            slope: random.random_range(0.0..0.5),
            patches: Fractal::new(random, frequency, 0.5, 8.0),
            patch_strength: if random.random_bool(0.5) { random.random_range(0.1..0.5) } else { 0.0 },
            vignette: random.random_range(0.0..0.3),
        }
    }

    fn paint(&self, canvas: &mut Canvas) {
        let (width, height) = canvas.extent();
        canvas.paint(|x, y, colour| {
            let (from_middle_x, from_middle_y) = (x / width - 0.5, y / height - 0.5);
            let across = from_middle_x * self.direction.0 + from_middle_y * self.direction.1;
            let corner = from_middle_x * from_middle_x + from_middle_y * from_middle_y;
            let patch = if self.patch_strength > 0.0 { self.patch_strength * self.patches.at(x, y) } else { 0.0 };
            scale(colour, (1.0 + self.slope * across) * (1.0 + patch) * (1.0 - self.vignette * corner * 2.0))
        });
    }
}
