//! A small timm ViT in memory.

use std::collections::HashMap;

use safetensors::tensor::{Dtype, TensorView};

/// A weight file under construction: name, shape, values.
pub(super) struct TinyVit {
    pub(super) tensors: Vec<(String, Vec<usize>, Vec<f32>)>,
}

pub(super) const EMBED_DIM: usize = 8;
pub(super) const HEADS: usize = 4;
pub(super) const NEURONS: usize = 6;
pub(super) const BLOCKS: usize = 2;

/// The config that fits [`TinyVit::new`].
pub(super) const CONFIG: &str = r#"{
    "architecture": "vit_tiny_patch16_224", "num_classes": 3, "global_pool": "token",
    "model_args": {"img_size": 4, "patch_size": 2, "embed_dim": 8, "depth": 2, "num_heads": 4}
}"#;

impl TinyVit {
    pub(super) fn new() -> Self {
        let mut vit = Self { tensors: Vec::new() };
        vit.add("patch_embed.proj.weight", &[EMBED_DIM, 3, 2, 2]);
        vit.add("patch_embed.proj.bias", &[EMBED_DIM]);
        vit.add("cls_token", &[1, 1, EMBED_DIM]);
        vit.add("pos_embed", &[1, 5, EMBED_DIM]);
        for block in 0..BLOCKS {
            for (name, outputs, inputs) in [
                ("attn.qkv", 3 * EMBED_DIM, EMBED_DIM),
                ("attn.proj", EMBED_DIM, EMBED_DIM),
                ("mlp.fc1", NEURONS, EMBED_DIM),
                ("mlp.fc2", EMBED_DIM, NEURONS),
            ] {
                vit.add(&format!("blocks.{block}.{name}.weight"), &[outputs, inputs]);
                vit.add(&format!("blocks.{block}.{name}.bias"), &[outputs]);
            }
            for norm in ["norm1", "norm2"] {
                vit.add(&format!("blocks.{block}.{norm}.weight"), &[EMBED_DIM]);
                vit.add(&format!("blocks.{block}.{norm}.bias"), &[EMBED_DIM]);
            }
        }
        vit.add("norm.weight", &[EMBED_DIM]);
        vit.add("norm.bias", &[EMBED_DIM]);
        vit.add("head.weight", &[3, EMBED_DIM]);
        vit.add("head.bias", &[3]);
        vit
    }

    /// Every value of the model is different.
    pub(super) fn add(&mut self, name: &str, shape: &[usize]) {
        let start: usize = self.tensors.iter().map(|(_, _, values)| values.len()).sum();
        let values = (start..start + shape.iter().product::<usize>()).map(|value| value as f32 / 64.0).collect();
        self.tensors.push((name.to_owned(), shape.to_vec(), values));
    }

    pub(super) fn without(mut self, name: &str) -> Self {
        self.tensors.retain(|(other, _, _)| other != name);
        self
    }

    pub(super) fn edit(mut self, name: &str, edit: impl FnOnce(&mut Vec<usize>, &mut Vec<f32>)) -> Self {
        let (_, shape, values) = self.tensors.iter_mut().find(|(other, _, _)| other == name).unwrap();
        edit(shape, values);
        self
    }

    /// The bytes of the safetensors file.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let stored: Vec<(&str, &[usize], Vec<u8>)> = self
            .tensors
            .iter()
            .map(|(name, shape, values)| {
                (name.as_str(), &shape[..], values.iter().flat_map(|v| v.to_le_bytes()).collect())
            })
            .collect();
        let views = stored
            .iter()
            .map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.to_vec(), bytes).unwrap()));
        let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
        safetensors::serialize(views, Some(metadata)).unwrap()
    }
}
