//! Colours as red, green and blue, 0 to 1, in display (gamma) space.

/// Red, green and blue; painting may leave 0 to 1, the camera clips.
pub type Colour = [f32; 3];

/// `a` at 0, `b` at 1.
pub fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * share)
}

/// Every channel times `factor`.
pub fn scale(colour: Colour, factor: f32) -> Colour {
    colour.map(|value| value * factor)
}

/// Brightness as Rec. 601 weighs it.
pub fn luminance([red, green, blue]: Colour) -> f32 {
    0.299 * red + 0.587 * green + 0.114 * blue
}

/// A colour from hue (turns), saturation and lightness (both 0 to 1).
pub fn from_hsl(hue: f32, saturation: f32, lightness: f32) -> Colour {
    let reach = saturation * lightness.min(1.0 - lightness);
    [0.0, 8.0, 4.0].map(|offset| {
        let sector = (offset + hue.rem_euclid(1.0) * 12.0).rem_euclid(12.0);
        lightness - reach * (sector - 3.0).min(9.0 - sector).clamp(-1.0, 1.0)
    })
}

/// 0 below `low`, 1 above `high`, smooth between.
pub fn smooth_step(low: f32, high: f32, value: f32) -> f32 {
    let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
    share * share * (3.0 - 2.0 * share)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hues_are_where_they_belong() {
        for (hue, expected) in [(0.0, [1.0, 0.0, 0.0]), (1.0 / 3.0, [0.0, 1.0, 0.0]), (2.0 / 3.0, [0.0, 0.0, 1.0])] {
            let found = from_hsl(hue, 1.0, 0.5);
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5), "{hue}: {found:?}");
        }
        assert_eq!(from_hsl(0.3, 0.0, 0.25), [0.25; 3]);
    }
}
