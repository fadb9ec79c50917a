//! Matrices and biases that make up for what pruning removes.
//!
//! The last layer of a branch (the attention's projection, the MLP's down
//! layer) can predict part of what removed inputs would have given from the
//! inputs that are kept. A *group* is one pair of corrected matrices for each
//! block, shared by several rungs, and a bias for each of those rungs. Layer
//! scales are folded into both. The original weights stay beside them.
//!
//! File format, safetensors: for group `G` and block `B` the tensors
//! `G.B.projection.weight` `[embed_dim, heads * head_dim]`, `G.B.down.weight`
//! `[embed_dim, neurons]`, and for each a `.bias` `[rungs of the group,
//! embed_dim]`; the metadata `rungs` lists the rungs of each group, such as
//! `4 5 6;7`.

use std::collections::HashMap;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::safetensors::narrow;
use super::weights::{Tensor, Weights, WeightsError};

/// The metadata entry that lists rungs.
const RUNGS: &str = "rungs";

/// The corrections of a bundle.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Corrections {
    pub groups: Vec<CorrectionGroup>,
}

/// Corrections that share their matrices.
#[derive(Clone, Debug, PartialEq)]
pub struct CorrectionGroup {
    /// The rungs that run with it, in the order of the biases.
    pub rungs: Vec<usize>,
    pub blocks: Vec<BlockCorrection>,
}

/// The corrected layers of a block.
#[derive(Clone, Debug, PartialEq)]
pub struct BlockCorrection {
    /// From the heads to the tokens.
    pub projection: Correction,
    /// From the neurons to the tokens.
    pub down: Correction,
}

/// A corrected layer.
#[derive(Clone, Debug, PartialEq)]
pub struct Correction {
    /// `[embed_dim, inputs]`, in the order of the permuted weights.
    pub weight: Tensor,
    /// `[rungs, embed_dim]`.
    pub biases: Tensor,
}

/// Why corrections cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CorrectionsError {
    /// It is no safetensors file, or a tensor is missing.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The list of rungs is absent or no list.
    #[error("the corrections do not say which rungs they are for: expected lists such as `4 5 6;7`, found {found:?}")]
    Rungs { found: Option<String> },
    /// A rung is not on the ladder, or has two corrections.
    #[error("the corrections name rung {rung} of a ladder with {rungs} rungs, or name it twice")]
    Rung { rung: usize, rungs: usize },
}

impl Corrections {
    /// Reads the file of a model with so many blocks and rungs. Shapes are checked where the corrections meet the model.
    ///
    /// # Errors
    /// If the file is broken, or names rungs that are not there.
    pub fn from_safetensors(bytes: &[u8], blocks: usize, rungs: usize) -> Result<Self, CorrectionsError> {
        let mut weights = Weights::from_safetensors(bytes)?;
        let metadata = SafeTensors::read_metadata(bytes).ok().and_then(|(_, metadata)| metadata.metadata().clone());
        let listed = metadata.and_then(|mut metadata| metadata.remove(RUNGS));
        let list = |text: &str| text.split(' ').map(str::parse).collect::<Result<Vec<usize>, _>>();
        let lists = listed.as_deref().map(|text| text.split(';').map(list).collect::<Result<Vec<_>, _>>());
        let Some(Ok(lists)) = lists else { return Err(CorrectionsError::Rungs { found: listed }) };

        let mut named = vec![false; rungs];
        for &rung in lists.iter().flatten() {
            match named.get_mut(rung) {
                Some(named) if !*named => *named = true,
                _ => return Err(CorrectionsError::Rung { rung, rungs }),
            }
        }
        let mut take = |name: String| weights.remove(&name).ok_or(WeightsError::Missing { name });
        let mut correction = |group: usize, block: usize, layer: &str| -> Result<Correction, WeightsError> {
            let weight = take(format!("{group}.{block}.{layer}.weight"))?;
            Ok(Correction { weight, biases: take(format!("{group}.{block}.{layer}.bias"))? })
        };
        let mut groups = Vec::with_capacity(lists.len());
        for (group, rungs) in lists.into_iter().enumerate() {
            let mut block = |block| -> Result<_, WeightsError> {
                let projection = correction(group, block, "projection")?;
                Ok(BlockCorrection { projection, down: correction(group, block, "down")? })
            };
            groups.push(CorrectionGroup { rungs, blocks: (0..blocks).map(&mut block).collect::<Result<_, _>>()? });
        }
        Ok(Self { groups })
    }

    /// How many numbers they are.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let blocks = self.groups.iter().flat_map(|group| &group.blocks);
        let layers = blocks.flat_map(|block| [&block.projection, &block.down]);
        layers.map(|layer| layer.weight.data.len() + layer.biases.data.len()).sum()
    }

    /// The file, its values rounded to `dtype`: F32, F16 or BF16.
    ///
    /// # Errors
    /// If a tensor's values do not fill its shape.
    pub fn to_safetensors(&self, dtype: Dtype) -> Result<Vec<u8>, WeightsError> {
        let mut tensors: Vec<(String, &Tensor, Vec<u8>)> = Vec::new();
        for (group, corrections) in self.groups.iter().enumerate() {
            for (block, corrected) in corrections.blocks.iter().enumerate() {
                for (layer, correction) in [("projection", &corrected.projection), ("down", &corrected.down)] {
                    for (part, tensor) in [("weight", &correction.weight), ("bias", &correction.biases)] {
                        tensors.push((format!("{group}.{block}.{layer}.{part}"), tensor, narrow(dtype, &tensor.data)));
                    }
                }
            }
        }
        let list = |group: &CorrectionGroup| group.rungs.iter().map(usize::to_string).collect::<Vec<_>>().join(" ");
        let rungs = self.groups.iter().map(list).collect::<Vec<_>>().join(";");
        let malformed = |error: safetensors::SafeTensorError| WeightsError::Malformed { reason: error.to_string() };
        let views = tensors
            .iter()
            .map(|(name, tensor, bytes)| Ok((name.as_str(), TensorView::new(dtype, tensor.shape.clone(), bytes)?)))
            .collect::<Result<Vec<_>, _>>()
            .map_err(malformed)?;
        safetensors::serialize(views, Some(HashMap::from([(RUNGS.to_owned(), rungs)]))).map_err(malformed)
    }

    /// Keeps the corrections of those rungs for which `keep` holds, and the matrices that one of them needs.
    pub fn retain(&mut self, keep: impl Fn(usize) -> bool) {
        for group in &mut self.groups {
            let kept: Vec<bool> = group.rungs.iter().map(|&rung| keep(rung)).collect();
            for block in &mut group.blocks {
                block.projection.retain(&kept);
                block.down.retain(&kept);
            }
            group.rungs.retain(|&rung| keep(rung));
        }
        self.groups.retain(|group| !group.rungs.is_empty());
    }

    /// Each rung with the group and the place of its biases, in the order in which a selection names corrections.
    pub fn places(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        let groups = self.groups.iter().enumerate();
        groups.flat_map(|(group, corrections)| {
            corrections.rungs.iter().enumerate().map(move |(place, &rung)| (rung, group, place))
        })
    }
}

impl Correction {
    /// Keeps the biases of the rungs that are `kept`.
    fn retain(&mut self, kept: &[bool]) {
        let width = self.biases.shape.last().copied().unwrap_or(1).max(1);
        let rows = self.biases.data.chunks(width).zip(kept).filter(|(_, kept)| **kept);
        self.biases.data = rows.flat_map(|(row, _)| row.iter().copied()).collect();
        self.biases.shape = vec![self.biases.data.len() / width, width];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrections() -> Corrections {
        let tensor = |rows: usize, columns: usize, first: f32| Tensor {
            shape: vec![rows, columns],
            data: (0..rows * columns).map(|at| first + at as f32).collect(),
        };
        let group = |rungs: Vec<usize>, first: f32| CorrectionGroup {
            blocks: (0..2)
                .map(|_| BlockCorrection {
                    projection: Correction { weight: tensor(3, 2, first), biases: tensor(rungs.len(), 3, 0.5) },
                    down: Correction { weight: tensor(3, 4, first), biases: tensor(rungs.len(), 3, 1.5) },
                })
                .collect(),
            rungs,
        };
        Corrections { groups: vec![group(vec![4, 1], 10.0), group(vec![2], 20.0)] }
    }

    #[test]
    fn what_was_written_is_read() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::BF16] {
            let file = corrections().to_safetensors(dtype).unwrap();
            assert_eq!(Corrections::from_safetensors(&file, 2, 5), Ok(corrections()), "{dtype:?}");
        }
        let places: Vec<_> = corrections().places().collect();
        assert_eq!(places, [(4, 0, 0), (1, 0, 1), (2, 1, 0)]);
    }

    #[test]
    fn corrections_of_other_rungs_are_dropped_with_their_matrices() {
        let mut some = corrections();
        some.retain(|rung| rung == 1);
        assert_eq!(some.places().collect::<Vec<_>>(), [(1, 0, 0)]);
        let biases = &some.groups[0].blocks[1].down.biases;
        assert_eq!((biases.shape.as_slice(), biases.data.as_slice()), (&[1, 3][..], &[4.5, 5.5, 6.5][..]));
        some.retain(|_| false);
        assert_eq!(some, Corrections::default());
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let file = corrections().to_safetensors(Dtype::F32).unwrap();
        assert_eq!(
            Corrections::from_safetensors(&file, 2, 4),
            Err(CorrectionsError::Rung { rung: 4, rungs: 4 }),
            "a ladder without that rung"
        );
        let missing = Corrections::from_safetensors(&file, 3, 5).unwrap_err().to_string();
        assert!(missing.contains("0.2.projection.weight"), "{missing}");
        let mut twice = corrections();
        twice.groups[1].rungs = vec![1];
        let twice = twice.to_safetensors(Dtype::F32).unwrap();
        assert_eq!(Corrections::from_safetensors(&twice, 2, 5), Err(CorrectionsError::Rung { rung: 1, rungs: 5 }));
        let other = safetensors::serialize([("a", TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap())], None);
        let other = Corrections::from_safetensors(&other.unwrap(), 2, 5);
        assert_eq!(other, Err(CorrectionsError::Rungs { found: None }));
        for length in 0..file.len() {
            assert!(Corrections::from_safetensors(&file[..length], 2, 5).is_err(), "{length}");
        }
    }
}
