//! From pixels to the tokens that enter block 0.

use candle_core::Tensor;
use headroom_device::model::Description;
use headroom_device::model::description::{ImageInput, Position};
use headroom_device::model::position::{learned_positions, rotary_tables};

use super::error::{ExecutorError, Result};
use super::linear::Linear;
use super::load::Loader;
use super::operation::layer_norm::LayerNorm;
use super::operation::rotary::Rotary;

/// The patch embedding, the prefix tokens and the positions.
#[derive(Clone, Debug)]
pub(super) struct Embedding {
    image: ImageInput,
    grid: (usize, usize),
    patch: Linear,
    /// `[prefix tokens, embed_dim]`, their positions added.
    prefix: Option<Tensor>,
    /// `[patches, embed_dim]`.
    patch_positions: Option<Tensor>,
    norm: Option<LayerNorm>,
}

impl Embedding {
    pub fn load(loader: &Loader, description: &Description) -> Result<Self> {
        let (image, width) = (&description.image, description.embed_dim);
        let embedding = &description.embedding;
        let mut prefix = Vec::new();
        for part in &embedding.prefix {
            prefix.extend_from_slice(loader.values(&part.tensor, part.count * width)?);
        }
        let mut patch_positions = None;
        if let (Position::Learned { prefix_positions, .. }, Some(positions)) =
            (&embedding.position, learned_positions(description, loader.weights)?)
        {
            let (of_prefix, of_patches) = positions.split_at(prefix_positions * width);
            if of_prefix.len() > prefix.len() {
                let (positions, tokens) = (*prefix_positions, prefix.len() / width);
                return Err(ExecutorError::PrefixPositions { positions, tokens });
            }
            for (token, position) in prefix.iter_mut().zip(of_prefix) {
                *token += position;
            }
            patch_positions = Some(loader.put(of_patches, &[of_patches.len() / width, width])?);
        }
        let pixels = image.channels * image.patch * image.patch;
        Ok(Self {
            image: image.clone(),
            grid: description.grid(),
            patch: loader.linear(&embedding.patch, pixels, width)?,
            prefix: if prefix.is_empty() { None } else { Some(loader.put(&prefix, &[prefix.len() / width, width])?) },
            patch_positions,
            norm: embedding.norm.as_ref().map(|norm| loader.norm(norm, width)).transpose()?,
        })
    }

    /// Channels, height and width of an image.
    pub fn image_shape(&self) -> [usize; 3] {
        [self.image.channels, self.image.height, self.image.width]
    }

    /// `[images, tokens, embed_dim]` of `pixels` `[images, channels, height, width]`.
    pub fn forward(&self, pixels: &Tensor) -> Result<Tensor> {
        let ImageInput { height, width, channels, patch, .. } = self.image;
        let images = match pixels.dims() {
            &[images, c, h, w] if (c, h, w) == (channels, height, width) && images > 0 => images,
            found => return Err(ExecutorError::Pixels { channels, height, width, found: found.to_vec() }),
        };
        let (rows, columns) = self.grid;
        let patches = pixels
            .narrow(2, 0, rows * patch)?
            .narrow(3, 0, columns * patch)?
            .reshape(&[images, channels, rows, patch, columns, patch][..])?
            .permute(&[0, 2, 4, 1, 3, 5][..])?
            .reshape((images * rows * columns, channels * patch * patch))?;
        let mut tokens = self.patch.forward(&patches)?.reshape((images, rows * columns, ()))?;
        if let Some(positions) = &self.patch_positions {
            tokens = tokens.broadcast_add(positions)?;
        }
        if let Some(prefix) = &self.prefix {
            let prefix = prefix.broadcast_left(images)?;
            tokens = Tensor::cat(&[prefix, tokens], 1)?;
        }
        match &self.norm {
            Some(norm) => Ok(norm.forward(&tokens)?),
            None => Ok(tokens),
        }
    }
}

/// The rotation of a rotary model at its input size.
pub(super) fn load_rotary(loader: &Loader, description: &Description) -> Result<Option<Rotary>> {
    let Some((cosine, sine)) = rotary_tables(description) else { return Ok(None) };
    let prefix = description.prefix_tokens() * description.head_dim;
    let shape = [description.tokens(), description.head_dim];
    let table = |of_prefix: f32, of_patches: &[f32]| {
        let mut table = vec![of_prefix; prefix];
        table.extend_from_slice(of_patches);
        loader.put(&table, &shape)
    };
    Ok(Some(Rotary { cosine: table(1.0, &cosine)?, sine: table(0.0, &sine)? }))
}
