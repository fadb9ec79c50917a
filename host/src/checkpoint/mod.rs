//! Pretrained Vision Transformers as the hubs ship them.
//!
//! [`Checkpoint::open`] finds the files ([`source`](self)), recognises the
//! family by its tensor names, lets the family's file in `families/` fill a
//! [`Description`], and holds it against the tensors. Sizes come from the
//! tensors; what they cannot tell (heads, activation, eps, rotary base) from
//! the config beside them. Weights are read only when asked for.
//!
//! Limits: safetensors, and PyTorch's zip files (read as data, nothing in
//! them is executed); F32, F16 and BF16 weights; square patches; at most
//! what [`families`] lists. A checkpoint with a tensor that its family does
//! not know is refused, because ignoring it could change the function.

mod check;
mod config;
mod error;
mod families;
mod permute;
mod recognise;
mod safetensors_file;
mod source;
mod tensors;
mod torch_file;
mod write;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;

use headroom_device::model::description::Mlp;
use headroom_device::model::{Description, Weights};
use safetensors::Dtype;

pub use error::CheckpointError;
pub use permute::{BlockOrder, Permutation, PermutationError};
pub use tensors::{TensorInfo, TensorStore};
pub(crate) use torch_file::read_root as read_torch_root;

use check::Named;
use families::{Evidence, Finding};
use source::{Document, Source};
use tensors::WeightFile;

/// Longest side of an input, pixels: a structure map counts tokens in sixteen bits anyway.
const MAX_SIDE: usize = 1 << 16;

/// What the user may say where the files are silent or another choice is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenOptions {
    /// Attention heads of a block, before what the config says.
    pub heads: Option<usize>,
    /// Height and width of the input, pixels; learned positions are resampled to it.
    pub image_size: Option<(usize, usize)>,
}

/// A recognised checkpoint whose tensors fit its description.
#[derive(Debug)]
pub struct Checkpoint {
    /// The model as data.
    pub description: Description,
    /// What the user should know: what was assumed, chosen or left aside.
    pub notes: Vec<String>,
    tensors: TensorStore,
    config: Option<String>,
}

impl Checkpoint {
    /// Opens a folder or a weight file.
    ///
    /// # Errors
    /// If files are missing or malformed, or the model is of no supported family or contradicts itself.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        Self::open_with(path, &OpenOptions::default())
    }

    /// [`Checkpoint::open`] with the user's choices.
    ///
    /// # Errors
    /// As [`Checkpoint::open`], or if the options do not fit the model.
    pub fn open_with(path: &Path, options: &OpenOptions) -> Result<Self, CheckpointError> {
        Self::understand(source::find(path)?, options)
    }

    /// A checkpoint in memory: the bytes of a safetensors file and the text of its config.
    ///
    /// # Errors
    /// As [`Checkpoint::open_with`].
    pub fn from_bytes(
        weights: impl Into<Cow<'static, [u8]>>,
        config: Option<&str>,
        options: &OpenOptions,
    ) -> Result<Self, CheckpointError> {
        let mut tensors = TensorStore::default();
        safetensors_file::read_into(&mut tensors, WeightFile::in_memory("weights in memory", weights.into()))?;
        let config = config.map(|text| Document { path: "config in memory".into(), text: text.to_owned() });
        Self::understand(Source { tensors, config, preprocessor: None }, options)
    }

    fn understand(source: Source, options: &OpenOptions) -> Result<Self, CheckpointError> {
        let Source { tensors, config, preprocessor } = source;
        let (family, prefix) = recognise::recognise(&tensors, config.as_ref())?;
        let evidence = Evidence {
            tensors: &tensors,
            prefix: &prefix,
            config: config.as_ref(),
            preprocessor: preprocessor.as_ref(),
            options,
        };
        let mut finding = (family.describe)(&evidence)?;
        check::check(&finding, &tensors)?;

        set_image_size(&mut finding, options.image_size)?;
        let config = config.map(|document| document.text);
        Ok(Self { description: finding.description, notes: finding.notes, tensors, config })
    }

    /// The text of the config beside the weights, where there is one.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// The tensors of the files, named or not.
    #[must_use]
    pub fn tensors(&self) -> &TensorStore {
        &self.tensors
    }

    /// How weights are stored, as the first block's MLP has them: F32, F16 or BF16.
    #[must_use]
    pub fn dtype(&self) -> Dtype {
        let down = self.description.blocks.first().map(|block| match &block.mlp {
            Mlp::Plain { down, .. } | Mlp::Gated { down, .. } => &down.weight.name,
        });
        down.and_then(|name| self.tensors.info(name)).map_or(Dtype::F32, |info| info.dtype)
    }

    /// Bytes of one stored weight.
    #[must_use]
    pub fn bytes_per_weight(&self) -> u8 {
        if self.dtype() == Dtype::F32 { 4 } else { 2 }
    }

    /// The names of the tensors that the description names: those of the image path.
    fn named(&self) -> BTreeSet<&str> {
        let named = Named::of(&self.description, &self.tensors, None);
        named.into_iter().map(|named| named.tensor.name.as_str()).collect()
    }

    /// Weights of the image path. A text tower beside it is not counted.
    #[must_use]
    pub fn parameters(&self) -> u64 {
        let values = |name: &str| self.tensors.info(name).map_or(0, |info| info.shape.iter().product::<usize>() as u64);
        self.named().into_iter().map(values).sum()
    }

    /// Reads the tensors that the description names, widened to f32.
    ///
    /// # Errors
    /// If a file cannot be read, or a weight is not finite or of another type than F32, F16 or BF16.
    pub fn weights(&self) -> Result<Weights, CheckpointError> {
        let mut weights = Weights::default();
        for name in self.named() {
            weights.insert(name, self.tensors.widened(&self.description.family, name)?);
        }
        Ok(weights)
    }
}

/// Takes the asked input size. The model's own is cut to whole patches, as its patch convolution leaves out the
/// pixels that fill none (SigLIP so400m: 384 pixels, 14 a patch): those at the right and below, where ours are those
/// around the centre.
fn set_image_size(finding: &mut Finding, asked: Option<(usize, usize)>) -> Result<(), CheckpointError> {
    let image = &mut finding.description.image;
    let patch = image.patch;
    let whole = |(height, width): (usize, usize)| (height / patch * patch, width / patch * patch);
    let wanted = asked.unwrap_or((image.height, image.width));
    (image.height, image.width) = whole(wanted);
    let (height, width) = wanted;
    let in_range = |side: usize| side > 0 && side <= MAX_SIDE;
    if !in_range(image.height) || !in_range(image.width) || (asked.is_some() && whole(wanted) != wanted) {
        return Err(CheckpointError::ImageSize { height, width, patch });
    }
    if whole(wanted) != wanted {
        // The pixels keep their scale.
        image.crop_fraction *= image.height.min(image.width) as f32 / height.min(width) as f32;
        let note =
            format!("images of {}x{} instead of {height}x{width}: whole patches only", image.height, image.width);
        finding.notes.push(note);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
