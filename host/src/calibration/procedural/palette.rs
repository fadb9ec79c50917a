//! Few colours that go together.

use rand::RngExt;

use super::super::random::RandomStream;
use super::colour::{Colour, from_hsl, mix};

/// Colours in a row, from dark to light more often than not.
#[derive(Clone, Debug)]
pub struct Palette {
    stops: [Colour; 5],
}

/// Hues (turns) that much of what is photographed has, and how saturated it
/// is: foliage, earth and skin, sky and water, stone.
const NATURAL: [(f32, f32); 5] = [(0.28, 0.45), (0.08, 0.45), (0.57, 0.5), (0.10, 0.12), (0.05, 0.3)];

impl Palette {
    /// Half of the palettes have natural hues, the others any.
    pub fn random(random: &mut RandomStream) -> Self {
        let (hue, saturation) = if random.random_bool(0.5) {
            let (hue, saturation) = NATURAL[random.random_range(0..NATURAL.len())];
            (hue + random.random_range(-0.05..0.05), saturation)
        } else {
            // The square favours the dull, as photographs do.
            (random.random_range(0.0..1.0), random.random_range(0.0..1.0f32).powi(2))
        };
        let spread = random.random_range(0.01..0.12f32);
        let (dark, light) = (random.random_range(0.02..0.4f32), random.random_range(0.5..0.98f32));
        let accent = random.random_bool(0.25).then(|| random.random_range(0..5));
        let mut stops = std::array::from_fn(|stop| {
            let lightness = dark + (light - dark) * stop as f32 / 4.0 + random.random_range(-0.08..0.08);
            let saturation = saturation * random.random_range(0.6..1.4);
            let hue = hue + spread * random.random_range(-1.0..1.0);
            let hue = if accent == Some(stop) { hue + 0.5 } else { hue };
            from_hsl(hue, saturation.clamp(0.0, 1.0), lightness.clamp(0.0, 1.0))
        });
        if random.random_bool(0.2) {
            stops.reverse();
        }
        Self { stops }
    }

    /// The colour at `position`, 0 to 1, blended between the stops.
    pub fn at(&self, position: f32) -> Colour {
        let place = position.clamp(0.0, 1.0) * (self.stops.len() - 1) as f32;
        let stop = (place as usize).min(self.stops.len() - 2);
        mix(self.stops[stop], self.stops[stop + 1], place - stop as f32)
    }
}
