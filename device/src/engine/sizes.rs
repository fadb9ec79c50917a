//! The sizes that the engine's buffers depend on.

use super::error::EngineError;
use super::pack::Tensors;
use crate::model::Description;
use crate::model::description::{Head, Pooling, Position, PrefixKind};

/// Sizes of a model that passed the checks of [`Sizes::new`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sizes {
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    pub patch: usize,
    /// Rows and columns of patches.
    pub grid: (usize, usize),
    pub prefix_tokens: usize,
    pub tokens: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub neurons: usize,
    /// Whether positions turn queries and keys.
    pub rotary: bool,
    /// Heads and hidden neurons of attention pooling; zeros without it.
    pub pooling_heads: usize,
    pub pooling_neurons: usize,
    /// Outputs of the head; 0 without one.
    pub classes: usize,
}

impl Sizes {
    pub(super) fn new(description: &Description, tensors: Tensors) -> Result<Self, EngineError> {
        let image = &description.image;
        check(image.patch > 0, || "patches have no pixels".into())?;
        let (pooling_heads, pooling_neurons) = match &description.pooling {
            Pooling::Attention { heads, up, .. } => (*heads, tensors.outputs(up)),
            _ => (0, 0),
        };
        let classes = match &description.head {
            None => 0,
            Some(Head::Linear { linear } | Head::ClassAndPatchMean { linear }) => tensors.outputs(linear),
            Some(Head::AverageOfTwo { class, .. }) => tensors.outputs(class),
        };
        let sizes = Self {
            channels: image.channels,
            height: image.height,
            width: image.width,
            patch: image.patch,
            grid: description.grid(),
            prefix_tokens: description.prefix_tokens(),
            tokens: description.tokens(),
            embed_dim: description.embed_dim,
            depth: description.blocks.len(),
            heads: description.heads,
            head_dim: description.head_dim,
            neurons: description.neurons,
            rotary: matches!(description.embedding.position, Position::Rotary { .. }),
            pooling_heads,
            pooling_neurons,
            classes,
        };
        sizes.check(description)?;
        Ok(sizes)
    }

    fn check(&self, description: &Description) -> Result<(), EngineError> {
        let (channels, height, width, patch) = (self.channels, self.height, self.width, self.patch);
        check(channels > 0 && self.patches() > 0, || {
            format!("an image of {channels} x {height} x {width} has no patch of {patch} pixels")
        })?;
        let positive = [self.embed_dim, self.heads, self.head_dim, self.neurons].iter().all(|&size| size > 0);
        check(positive, || "embed_dim, heads, head_dim and neurons must be positive".into())?;
        if let Position::Rotary { .. } = description.embedding.position {
            check(self.head_dim.is_multiple_of(4), || {
                format!("rotary positions need a head_dim that is a multiple of 4, not {}", self.head_dim)
            })?;
        }
        if let Position::Learned { prefix_positions, .. } = description.embedding.position {
            check(prefix_positions <= self.prefix_tokens, || {
                format!("{prefix_positions} prefix tokens have a position, but there are {}", self.prefix_tokens)
            })?;
        }
        if let Pooling::Attention { heads, .. } = description.pooling {
            check(heads > 0 && self.embed_dim.is_multiple_of(heads), || {
                format!("{heads} pooling heads do not divide a width of {}", self.embed_dim)
            })?;
        }
        self.check_leading_tokens(description)
    }

    /// Token 0 must be the class token, and token 1 the distillation token, where they are read.
    fn check_leading_tokens(&self, description: &Description) -> Result<(), EngineError> {
        let needed: &[PrefixKind] = match (&description.pooling, &description.head) {
            (Pooling::MeanClassDistillation, _) | (_, Some(Head::AverageOfTwo { .. })) => {
                &[PrefixKind::Class, PrefixKind::Distillation]
            }
            (Pooling::Class | Pooling::ClassThenNorm { .. } | Pooling::ClassDenseTanh { .. }, _)
            | (_, Some(Head::ClassAndPatchMean { .. })) => &[PrefixKind::Class],
            _ => &[],
        };
        let found =
            description.embedding.prefix.iter().flat_map(|prefix| std::iter::repeat_n(prefix.kind, prefix.count));
        let found: Vec<_> = found.take(needed.len()).collect();
        check(found == needed, || format!("pooling or head read {needed:?} tokens first, the prefix has {found:?}"))
    }

    /// Patch tokens of an image.
    pub(super) fn patches(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// Pixel values of an image.
    pub(super) fn pixels(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Pixel values of a patch.
    pub(super) fn patch_values(&self) -> usize {
        self.channels * self.patch * self.patch
    }

    /// Values of an image's tokens.
    pub(super) fn image_values(&self) -> usize {
        self.tokens * self.embed_dim
    }

    /// Width of a head of attention pooling; 0 without it.
    pub(super) fn pooling_head_dim(&self) -> usize {
        self.embed_dim.checked_div(self.pooling_heads).unwrap_or(0)
    }
}

pub(super) fn check(holds: bool, what: impl FnOnce() -> String) -> Result<(), EngineError> {
    if holds { Ok(()) } else { Err(EngineError::Description { what: what() }) }
}
