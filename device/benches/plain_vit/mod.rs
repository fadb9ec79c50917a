//! Plain Vision Transformers under timm's names: random ones of any size, and their rungs.

use headroom_device::model::description::{
    Activation, Block, CropMode, Description, Embedding, ImageInput, Interpolation, LayerNorm, Linear, Mlp, Pooling,
    Position, PositionResampling, PrefixKind, PrefixTokens, TensorRef,
};
use headroom_device::model::weights::{Tensor, Weights};
use headroom_shared::KeptStructures;
use serde::Serialize;

use crate::random_model::noise;

/// The sizes of a ViT with square images, a class token, and an embedding as its output.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct PlainVit {
    pub size: usize,
    pub patch: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub neurons: usize,
}

impl PlainVit {
    pub const VIT_S16: Self =
        Self { size: 224, patch: 16, embed_dim: 384, depth: 12, heads: 6, head_dim: 64, neurons: 1536 };
    /// The trained model of `../shared/models`.
    pub const VIT_CIFAR10_S: Self =
        Self { size: 32, patch: 4, embed_dim: 192, depth: 10, heads: 6, head_dim: 32, neurons: 768 };

    fn grid(self) -> usize {
        self.size / self.patch
    }

    pub fn description(self) -> Description {
        let rows = |part: usize| (part * self.heads * self.head_dim, self.heads * self.head_dim);
        let blocks = 0..self.depth;
        let blocks = blocks.map(|index| {
            let name = |part: &str| format!("blocks.{index}.{part}");
            let [query, key, value] = [0, 1, 2].map(|part| linear(&name("attn.qkv"), Some(rows(part))));
            Block {
                norm1: norm(&name("norm1")),
                query,
                key,
                value,
                projection: linear(&name("attn.proj"), None),
                layer_scale1: None,
                norm2: norm(&name("norm2")),
                mlp: Mlp::Plain { up: linear(&name("mlp.fc1"), None), down: linear(&name("mlp.fc2"), None) },
                layer_scale2: None,
            }
        });
        Description {
            family: "vit".into(),
            image: ImageInput {
                height: self.size,
                width: self.size,
                channels: 3,
                patch: self.patch,
                mean: [0.5; 3],
                std: [0.5; 3],
                interpolation: Interpolation::Bicubic,
                crop_fraction: 1.0,
                crop_mode: CropMode::Center,
            },
            embed_dim: self.embed_dim,
            heads: self.heads,
            head_dim: self.head_dim,
            neurons: self.neurons,
            activation: Activation::Gelu,
            embedding: Embedding {
                patch: linear("patch_embed.proj", None),
                prefix: vec![PrefixTokens { kind: PrefixKind::Class, tensor: tensor("cls_token"), count: 1 }],
                position: Position::Learned {
                    tensor: tensor("pos_embed"),
                    prefix_positions: 1,
                    grid: (self.grid(), self.grid()),
                    resampling: PositionResampling::Bicubic,
                },
                norm: None,
            },
            blocks: blocks.collect(),
            final_norm: Some(norm("norm")),
            pooling: Pooling::Class,
            head: None,
            labels: None,
        }
    }

    /// Weights of the usual spread.
    pub fn random_weights(self) -> Weights {
        let Self { embed_dim, heads, head_dim, neurons, patch, .. } = self;
        let mut weights = Weights::default();
        let mut seed = 0;
        let mut add = |name: &str, shape: &[usize], centre: f32, spread: f32| {
            seed += 1;
            let data = noise(seed, shape.iter().product()).map(|value| centre + spread * value).collect();
            weights.insert(name, Tensor { shape: shape.to_vec(), data });
        };
        add("cls_token", &[1, 1, embed_dim], 0.0, 1.0);
        add("pos_embed", &[1, self.grid().pow(2) + 1, embed_dim], 0.0, 0.5);
        let mut layers = vec![("patch_embed.proj".to_owned(), vec![embed_dim, 3, patch, patch])];
        let mut norms = vec!["norm".to_owned()];
        for block in 0..self.depth {
            let attended = heads * head_dim;
            norms.extend(["norm1", "norm2"].map(|part| format!("blocks.{block}.{part}")));
            let shapes = [
                ("attn.qkv", [3 * attended, embed_dim]),
                ("attn.proj", [embed_dim, attended]),
                ("mlp.fc1", [neurons, embed_dim]),
                ("mlp.fc2", [embed_dim, neurons]),
            ];
            layers.extend(shapes.map(|(part, shape)| (format!("blocks.{block}.{part}"), shape.to_vec())));
        }
        for (name, shape) in layers {
            let inputs: usize = shape[1..].iter().product();
            add(&format!("{name}.weight"), &shape, 0.0, (3.0 / inputs as f32).sqrt());
            add(&format!("{name}.bias"), &shape[..1], 0.0, 0.3);
        }
        for name in norms {
            add(&format!("{name}.weight"), &[embed_dim], 1.0, 0.5);
            add(&format!("{name}.bias"), &[embed_dim], 0.0, 0.3);
        }
        weights
    }

    /// Multiply-accumulates of one image in the kept structures' products.
    pub fn macs(self, kept: &impl KeptStructures) -> usize {
        let patches = self.grid().pow(2);
        let mut tokens = patches + 1;
        let blocks = (0..self.depth).map(|block| {
            let attended = kept.heads(block) * self.head_dim;
            let attention = tokens * (4 * self.embed_dim * attended + 2 * tokens * attended);
            tokens -= kept.merged_tokens(block);
            attention + tokens * 2 * self.embed_dim * kept.neurons(block)
        });
        blocks.sum::<usize>() + patches * self.embed_dim * 3 * self.patch.pow(2)
    }

    /// About `share` of the dense model's MACs: the same share of the heads, spread over the
    /// blocks, and what is left of the MACs as neurons, by eights.
    pub fn rung(self, share: f64) -> FirstStructures {
        let Self { depth, heads, neurons, .. } = self;
        let all_heads = (share * (heads * depth) as f64).round() as usize;
        let mut kept = FirstStructures(
            (0..depth).map(|block| ((block + 1) * all_heads / depth - block * all_heads / depth, 0)).collect(),
        );
        let dense = FirstStructures(vec![(heads, neurons); depth]);
        let missing = share * self.macs(&dense) as f64 - self.macs(&kept) as f64;
        let of_eight = 2 * 8 * self.embed_dim * (self.grid().pow(2) + 1) * depth;
        let eights = (missing / of_eight as f64).round().max(0.0) as usize;
        kept.0.iter_mut().for_each(|(_, kept)| *kept = (8 * eights).min(neurons));
        kept
    }
}

/// The first heads and neurons of each block, as many.
#[derive(Clone, Debug, Serialize)]
pub struct FirstStructures(pub Vec<(usize, usize)>);

impl KeptStructures for FirstStructures {
    fn heads(&self, block: usize) -> usize {
        self.0[block].0
    }

    fn head(&self, _block: usize, index: usize) -> usize {
        index
    }

    fn neurons(&self, block: usize) -> usize {
        self.0[block].1
    }
}

fn tensor(name: &str) -> TensorRef {
    TensorRef { name: name.into(), rows: None }
}

fn linear(name: &str, rows: Option<(usize, usize)>) -> Linear {
    let part = |part: &str| TensorRef { name: format!("{name}.{part}"), rows };
    Linear { weight: part("weight"), bias: Some(part("bias")) }
}

fn norm(name: &str) -> LayerNorm {
    LayerNorm { weight: tensor(&format!("{name}.weight")), bias: tensor(&format!("{name}.bias")), eps: 1e-6 }
}
