//! What scenes are painted on.

use super::colour::{Colour, mix};

/// Colours by row and column.
#[derive(Clone, Debug)]
pub struct Canvas {
    height: usize,
    width: usize,
    pixels: Vec<Colour>,
}

impl Canvas {
    /// A black canvas; both sides are at least 1.
    pub fn new(height: usize, width: usize) -> Self {
        Self { height, width, pixels: vec![[0.0; 3]; height * width] }
    }

    pub fn height(&self) -> usize {
        self.height
    }

    pub fn width(&self) -> usize {
        self.width
    }

    pub fn pixels(&self) -> &[Colour] {
        &self.pixels
    }

    /// Pixels per unit of length: the shorter side.
    pub fn pixels_per_unit(&self) -> f32 {
        self.height.min(self.width) as f32
    }

    /// Width and height in units of length.
    pub fn extent(&self) -> (f32, f32) {
        (self.width as f32 / self.pixels_per_unit(), self.height as f32 / self.pixels_per_unit())
    }

    /// The finest noise worth painting, bumps per unit of length.
    pub fn finest(&self) -> f32 {
        self.pixels_per_unit() / 3.0
    }

    /// Replaces every pixel by `paint(x, y, colour)`.
    pub fn paint(&mut self, paint: impl FnMut(f32, f32, Colour) -> Colour) {
        let (width, height) = self.extent();
        self.paint_box((0.0, 0.0), (width, height), paint);
    }

    /// As [`Canvas::paint`], within a box from `low` to `high`.
    pub fn paint_box(&mut self, low: (f32, f32), high: (f32, f32), mut paint: impl FnMut(f32, f32, Colour) -> Colour) {
        let unit = self.pixels_per_unit();
        // The cast saturates: what is off the canvas is left out.
        let span = |low: f32, high: f32, side: usize| {
            let end = ((high * unit).ceil() as usize).min(side);
            ((low * unit).floor() as usize).min(end)..end
        };
        let columns = span(low.0, high.0, self.width);
        for row in span(low.1, high.1, self.height) {
            let y = (row as f32 + 0.5) / unit;
            for column in columns.clone() {
                let pixel = &mut self.pixels[row * self.width + column];
                *pixel = paint((column as f32 + 0.5) / unit, y, *pixel);
            }
        }
    }

    /// Blurs with a triangle of `radius` units of length to each side.
    pub fn blur(&mut self, radius: f32) {
        let reach = (radius * self.pixels_per_unit() / 2.0).round() as usize;
        if reach == 0 {
            return;
        }
        // Two passes of a box make a triangle.
        for _ in 0..2 {
            for row in self.pixels.chunks_exact_mut(self.width) {
                box_blur(row, reach);
            }
            let mut line = vec![[0.0; 3]; self.height];
            for column in 0..self.width {
                let cells = || (column..self.width * self.height).step_by(self.width);
                line.iter_mut().zip(cells()).for_each(|(to, cell)| *to = self.pixels[cell]);
                box_blur(&mut line, reach);
                line.iter().zip(cells()).for_each(|(from, cell)| self.pixels[cell] = *from);
            }
        }
    }
}

/// Replaces each colour by the mean of those up to `reach` away; the ends repeat.
fn box_blur(line: &mut [Colour], reach: usize) {
    let source = line.to_vec();
    let last = source.len() - 1;
    let at = |index: isize| source[index.clamp(0, last as isize) as usize];
    let share = 1.0 / (2 * reach + 1) as f32;
    let reach = reach as isize;
    let mut sum = [0.0f32; 3];
    for offset in -reach..=reach {
        let colour = at(offset);
        sum.iter_mut().zip(colour).for_each(|(sum, value)| *sum += value);
    }
    for (index, pixel) in line.iter_mut().enumerate() {
        *pixel = mix([0.0; 3], sum, share);
        let (enters, leaves) = (at(index as isize + reach + 1), at(index as isize - reach));
        for (channel, sum) in sum.iter_mut().enumerate() {
            *sum += enters[channel] - leaves[channel];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blur_keeps_what_is_even_and_spreads_what_is_not() {
        let mut canvas = Canvas::new(20, 30);
        canvas.paint(|_, _, _| [0.5, 0.25, 0.75]);
        canvas.blur(0.3);
        for pixel in canvas.pixels() {
            assert!(pixel.iter().zip([0.5, 0.25, 0.75]).all(|(a, b)| (a - b).abs() < 1e-5));
        }
        canvas.paint(|x, _, _| if x < 0.75 { [0.0; 3] } else { [1.0; 3] });
        canvas.blur(0.3);
        let row = &canvas.pixels()[..30];
        assert!(row.windows(2).all(|pair| pair[1][0] >= pair[0][0] - 1e-5), "no ringing");
        assert!(row[14][0] > 0.2 && row[14][0] < 0.8);
    }

    #[test]
    fn painting_stops_at_the_borders() {
        let mut canvas = Canvas::new(4, 6);
        canvas.paint_box((-3.0, -2.0), (9.0, 0.5), |_, _, _| [1.0; 3]);
        let painted = canvas.pixels().iter().filter(|pixel| pixel[0] == 1.0).count();
        assert_eq!(painted, 2 * 6);
        canvas.paint_box((5.0, 5.0), (6.0, 6.0), |_, _, _| unreachable!());
    }
}
