//! Corrected last layers of branches beside the original ones.

use candle_core::{DType, Device, Tensor};
use headroom_device::model::corrections::{Correction, Corrections};

use super::error::{ExecutorError, Result};
use super::linear::Linear;
use super::operation::product::Stored;

/// All corrections of a model, on its device.
#[derive(Clone, Debug, Default)]
pub(super) struct CandleCorrections {
    /// By group, then by block: of the projection and of the down layer.
    groups: Vec<Vec<[CorrectedEnd; 2]>>,
    /// Group and place of each correction.
    places: Vec<(usize, usize)>,
}

/// A corrected layer. Layer scales are part of it.
#[derive(Clone, Debug)]
struct CorrectedEnd {
    /// `[inputs, embed_dim]`.
    weight: Tensor,
    /// `[rungs of the group, embed_dim]`.
    biases: Tensor,
}

/// The sizes that corrections must have.
#[derive(Clone, Copy, Debug)]
pub(super) struct EndSizes {
    pub blocks: usize,
    /// Inputs of the projection and of the down layer.
    pub inputs: [usize; 2],
    pub embed_dim: usize,
}

impl CandleCorrections {
    pub fn load(corrections: &Corrections, sizes: EndSizes, dtype: DType, device: &Device) -> Result<Self> {
        let mut groups = Vec::with_capacity(corrections.groups.len());
        for (number, group) in corrections.groups.iter().enumerate() {
            let found = group.blocks.len();
            if found != sizes.blocks {
                return Err(ExecutorError::CorrectedBlocks { group: number, expected: sizes.blocks, found });
            }
            let load = |block: usize, layer: &str, correction: &Correction, inputs: usize| {
                let name = format!("{number}.{block}.{layer}");
                CorrectedEnd::load(correction, &name, [group.rungs.len(), inputs, sizes.embed_dim], dtype, device)
            };
            let blocks = group.blocks.iter().enumerate().map(|(index, block)| {
                let projection = load(index, "projection", &block.projection, sizes.inputs[0])?;
                Ok([projection, load(index, "down", &block.down, sizes.inputs[1])?])
            });
            groups.push(blocks.collect::<Result<_>>()?);
        }
        Ok(Self { groups, places: corrections.places().map(|(_, group, place)| (group, place)).collect() })
    }

    /// Projection and down layer of `block` in the correction of that number.
    pub fn ends(&self, correction: usize, block: usize) -> Result<[Linear; 2]> {
        let count = self.places.len();
        let &(group, place) = self.places.get(correction).ok_or(ExecutorError::NoCorrection { correction, count })?;
        let [projection, down] = &self.groups[group][block];
        Ok([projection.end(place)?, down.end(place)?])
    }
}

impl CorrectedEnd {
    fn load(
        correction: &Correction,
        name: &str,
        [rungs, inputs, outputs]: [usize; 3],
        dtype: DType,
        device: &Device,
    ) -> Result<Self> {
        let put = |part: &str, values: &[f32], shape: [usize; 2]| {
            let expected = shape[0] * shape[1];
            if values.len() != expected {
                return Err(ExecutorError::Size { name: format!("{name}.{part}"), expected, found: values.len() });
            }
            Ok(Tensor::from_slice(values, &shape[..], &Device::Cpu)?)
        };
        let weight = put("weight", &correction.weight.data, [outputs, inputs])?.t()?.contiguous()?;
        let biases = put("bias", &correction.biases.data, [rungs, outputs])?;
        let there = |tensor: Tensor| tensor.to_dtype(dtype)?.to_device(device);
        Ok(Self { weight: there(weight)?, biases: there(biases)? })
    }

    fn end(&self, place: usize) -> Result<Linear> {
        let bias = Some(self.biases.get(place)?);
        Ok(Linear { weight: self.weight.clone(), stored: Stored::Straight, bias })
    }
}
