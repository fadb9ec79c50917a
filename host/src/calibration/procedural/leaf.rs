//! Things that lie over each other.

use rand::RngExt;

use super::super::random::RandomStream;
use super::canvas::Canvas;
use super::colour::{Colour, mix, scale, smooth_step};
use super::outline::Outline;
use super::palette::Palette;
use super::textures::Texture;

/// A filled, shaded outline.
pub struct Leaf {
    outline: Outline,
    centre: (f32, f32),
    radius: f32,
    colour: Colour,
    texture: Option<Box<dyn Texture>>,
    /// Brightness gained from the shadow side to the light side.
    relief: f32,
    /// Whether it bulges like a ball or lies flat.
    round: bool,
    /// Darkness of the shadow it casts, 0 to 1.
    shadow: f32,
}

impl Leaf {
    /// A leaf of that size at that place, with a texture if it is worth one.
    pub fn random(
        random: &mut RandomStream,
        canvas: &Canvas,
        palette: &Palette,
        centre: (f32, f32),
        radius: f32,
    ) -> Self {
        // A texture needs some pixels to be seen.
        let textured = radius * canvas.pixels_per_unit() > 8.0 && random.random_bool(0.6);
        Self {
            outline: Outline::random(random),
            centre,
            radius,
            colour: palette.at(random.random_range(0.0..1.0)),
            texture: textured.then(|| super::textures::random(random, canvas.finest())),
            relief: random.random_range(0.0..0.7),
            round: random.random_bool(0.5),
            shadow: random.random_range(0.0..0.6),
        }
    }

    /// Paints the leaf and its shadow in the light that comes from `light`
    /// (a unit vector of the canvas).
    pub fn paint(&self, canvas: &mut Canvas, light: (f32, f32)) {
        let reach = self.radius * Outline::REACH;
        let shadow_offset = self.radius * 0.15;
        let margin = reach + shadow_offset;
        let low = (self.centre.0 - margin, self.centre.1 - margin);
        let high = (self.centre.0 + margin, self.centre.1 + margin);
        let local = |x: f32, y: f32| ((x - self.centre.0) / self.radius, (y - self.centre.1) / self.radius);
        canvas.paint_box(low, high, |x, y, below| {
            let (u, v) = local(x, y);
            if let Some(place) = self.outline.place(u, v)
                && place.depth < 1.0
            {
                let facing = place.direction.0 * light.0 + place.direction.1 * light.1;
                // On a ball the surface turns away from the viewer at the rim.
                let (tilt, ambient) = if self.round {
                    (place.depth, (1.0 - place.depth * place.depth).sqrt())
                } else {
                    (place.depth, 1.0)
                };
                let shade = (0.65 + 0.35 * ambient) * (1.0 + self.relief * tilt * facing);
                return scale(self.surface(u, v), shade);
            }
            if self.shadow > 0.0
                && let Some(place) = self.outline.place(u + 0.15 * light.0, v + 0.15 * light.1)
            {
                return scale(below, 1.0 - self.shadow * (1.0 - smooth_step(0.75, 1.15, place.depth)));
            }
            below
        });
    }

    fn surface(&self, u: f32, v: f32) -> Colour {
        match &self.texture {
            // Offset, so that leaves do not share the origin of their textures.
            Some(texture) => mix(self.colour, texture.colour(u * self.radius + 7.0, v * self.radius + 3.0), 0.7),
            None => self.colour,
        }
    }
}
