//! The local importance of structures: a self-supervised Fisher term.
//!
//! For every image, the loss of [`loss`] compares the embeddings of its views; a structure is as
//! important as its weights' gradient is large: for a neuron the row of the MLP's first layer
//! (gate and up in a gated MLP), for a head its rows of the value projection. SnapViT
//! (arXiv 2510.17700). Nothing is learned and no label is read.
//!
//! A pass costs less than a plain backward. With `C` the token width, an MLP of `4 C` and
//! attention left aside, a token costs `12 C^2` multiply-accumulates per block forward, `12 C^2` to carry the gradient back
//! to the inputs, and `5 C^2` for the rows that are asked for, where all weights would cost `12 C^2` more.

mod error;
mod estimate;
pub mod loss;
mod rows;
mod sums;
#[cfg(test)]
mod tests;

pub use error::ImportanceError;
pub use estimate::{Options, estimate};

/// How gradients of several images become one number per weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum FisherForm {
    /// The mean over images of the squared gradient: the diagonal of the empirical Fisher matrix.
    #[default]
    PerImage,
    /// The square of the mean gradient, as the published code computes it.
    Accumulated,
    /// The absolute value of mean gradient times weight, as SNIP has it (arXiv 1810.02340): a baseline.
    #[value(skip)]
    Saliency,
}

/// The importance of every structure; larger is more important.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Importance {
    /// By block and head.
    pub heads: Vec<Vec<f64>>,
    /// By block and neuron.
    pub neurons: Vec<Vec<f64>>,
    /// By block and value dimension, head after head; empty where they are not scored.
    pub value_dims: Vec<Vec<f64>>,
    /// The same of query and key dimensions.
    pub query_dims: Vec<Vec<f64>>,
}

/// The views of one image, as the model takes them.
#[derive(Clone, Debug, PartialEq)]
pub struct Views {
    /// `[views, channels, height, width]`, normalised.
    pub pixels: Vec<f32>,
    /// How many views there are.
    pub views: usize,
    /// How many of the first views teach the others.
    pub global: usize,
}
