//! Calibration images made from a seed.
//!
//! Pictures with the statistics that vision models live on: hard edges between
//! things that occlude each other, textures at all scales (power falling roughly
//! with the square of the frequency), shading, perspective, blur and coherent
//! colours. SnapViT calibrates on procedural shaders in an ablation (arXiv
//! 2510.17700); that layered shapes with power-law sizes have natural statistics
//! is known from the dead-leaves model (doi 10.1023/A:1011113216584).
//!
//! A *scene* is painted on a *canvas* of twice the size and then taken by a
//! *camera* that sets exposure and averages down. Coordinates are in units of
//! the shorter side, and no detail is finer than the canvas can show. The bytes
//! depend on seed, number and size; another size is another picture. Across
//! platforms bytes may differ by a unit where the standard library's sine,
//! exponential or power does.

mod camera;
mod canvas;
mod colour;
mod leaf;
mod noise;
mod outline;
mod palette;
mod scene;
mod textures;

use std::num::NonZeroUsize;

use headroom_device::images::RgbImage;

use super::random::{Purpose, stream};
use camera::Camera;
use canvas::Canvas;
use scene::Scene;

/// Canvas pixels per image pixel, along a side.
const SUPERSAMPLING: usize = 2;

/// A numbered set of made-up images.
#[derive(Clone, Debug)]
pub struct ProceduralImages {
    seed: u64,
    /// The number of image 0 in the endless sequence of the seed.
    first: u64,
    count: NonZeroUsize,
    height: u32,
    width: u32,
}

impl ProceduralImages {
    /// `count` images of `height` x `width` pixels.
    #[must_use]
    pub fn new(seed: u64, count: NonZeroUsize, height: u32, width: u32) -> Self {
        Self { seed, first: 0, count, height: height.max(1), width: width.max(1) }
    }

    /// The number of images.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count.get()
    }

    /// The first `count` images and the others, if there are any.
    #[must_use]
    pub fn split(self, count: usize) -> (Self, Option<Self>) {
        let others = NonZeroUsize::new(self.count().saturating_sub(count));
        let first = NonZeroUsize::new(count).map_or(self.count, |count| count.min(self.count));
        let others = others.map(|count| Self { first: self.first + first.get() as u64, count, ..self.clone() });
        (Self { count: first, ..self }, others)
    }

    /// Image number `index`; numbers at and above the count are images too.
    #[must_use]
    pub fn image(&self, index: u64) -> RgbImage {
        let mut random = stream(self.seed, Purpose::Picture, self.first + index);
        let mut canvas = Canvas::new(self.height as usize * SUPERSAMPLING, self.width as usize * SUPERSAMPLING);
        Scene::random(&mut random, &canvas).paint(&mut canvas);
        Camera::random(&mut random).take(&canvas, SUPERSAMPLING, &mut random)
    }
}

#[cfg(test)]
mod tests;
