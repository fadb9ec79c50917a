//! Small models with every part that a description can name, and random weights.
#![allow(dead_code, reason = "each test and bench that includes this file uses a part of it")]

use headroom_device::model::description::{
    Activation, Block, CropMode, Description, Embedding, Head, ImageInput, Interpolation, LayerNorm, Linear, Mlp,
    Pooling, Position, PositionResampling, PrefixKind, PrefixTokens, TensorRef,
};
use headroom_device::model::weights::{Tensor, Weights};
use headroom_shared::KeptStructures;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionChoice {
    Learned { grid: (usize, usize), resampling: PositionResampling, of_prefix: bool },
    Rotary,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingChoice {
    Class,
    ClassThenNorm,
    ClassDenseTanh,
    MeanClassDistillation,
    MeanPatches,
    MeanPatchesThenNorm,
    Attention { heads: usize },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadChoice {
    None,
    Linear,
    ClassAndPatchMean,
    AverageOfTwo,
}

/// All choices that make a model.
#[derive(Clone, Debug)]
pub struct Choices {
    pub grid: (usize, usize),
    pub patch: usize,
    pub embed_dim: usize,
    pub depth: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub neurons: usize,
    pub activation: Activation,
    pub gated: bool,
    pub layer_scale: bool,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub fused_qkv: bool,
    pub registers: usize,
    pub position: PositionChoice,
    pub pre_norm: bool,
    pub final_norm: bool,
    pub pooling: PoolingChoice,
    pub head: HeadChoice,
    pub classes: usize,
}

impl Choices {
    /// A plain ViT with a class token.
    pub fn vit(grid: usize, patch: usize, embed_dim: usize, depth: usize, heads: usize, neurons: usize) -> Self {
        Self {
            grid: (grid, grid),
            patch,
            embed_dim,
            depth,
            heads,
            head_dim: embed_dim / heads,
            neurons,
            activation: Activation::Gelu,
            gated: false,
            layer_scale: false,
            attention_bias: true,
            mlp_bias: true,
            fused_qkv: true,
            registers: 0,
            position: PositionChoice::Learned {
                grid: (grid, grid),
                resampling: PositionResampling::Bicubic,
                of_prefix: true,
            },
            pre_norm: false,
            final_norm: true,
            pooling: PoolingChoice::Class,
            head: HeadChoice::Linear,
            classes: 10,
        }
    }
}

/// The structures that a test keeps.
#[derive(Clone, Debug)]
pub struct Kept {
    pub heads: Vec<Vec<usize>>,
    pub neurons: Vec<usize>,
    pub value_dims: Vec<usize>,
    pub query_dims: Vec<usize>,
    pub merged_tokens: Vec<usize>,
}

impl Kept {
    pub fn all(choices: &Choices) -> Self {
        Self {
            heads: vec![(0..choices.heads).collect(); choices.depth],
            neurons: vec![choices.neurons; choices.depth],
            value_dims: vec![choices.head_dim; choices.depth],
            query_dims: vec![choices.head_dim; choices.depth],
            merged_tokens: vec![0; choices.depth],
        }
    }
}

impl KeptStructures for Kept {
    fn heads(&self, block: usize) -> usize {
        self.heads[block].len()
    }

    fn head(&self, block: usize, index: usize) -> usize {
        self.heads[block][index]
    }

    fn neurons(&self, block: usize) -> usize {
        self.neurons[block]
    }

    fn value_dims(&self, block: usize) -> Option<usize> {
        Some(self.value_dims[block])
    }

    fn query_dims(&self, block: usize) -> Option<usize> {
        Some(self.query_dims[block])
    }

    fn merged_tokens(&self, block: usize) -> usize {
        self.merged_tokens[block]
    }
}

/// `count` values in -1 to 1 that depend on `seed` alone (SplitMix64, doi 10.1145/2714064.2660195).
pub fn noise(seed: u64, count: usize) -> impl Iterator<Item = f32> {
    (1..=count as u64).map(move |index| {
        let mut mixed = (seed << 32).wrapping_add(index).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 40) as f32 / (1 << 23) as f32 - 1.0
    })
}

/// The model of these choices.
pub fn build(choices: &Choices, seed: u64) -> (Description, Weights) {
    let mut builder = Builder { weights: Weights::default(), seed };
    let description = builder.description(choices);
    (description, builder.weights)
}

struct Builder {
    weights: Weights,
    seed: u64,
}

impl Builder {
    fn tensor(&mut self, name: &str, shape: &[usize], centre: f32, spread: f32) -> TensorRef {
        self.seed += 1;
        let data = noise(self.seed, shape.iter().product()).map(|value| centre + spread * value).collect();
        self.weights.insert(name, Tensor { shape: shape.to_vec(), data });
        TensorRef { name: name.into(), rows: None }
    }

    fn linear(&mut self, name: &str, outputs: usize, inputs: usize, bias: bool) -> Linear {
        let spread = (3.0 / inputs as f32).sqrt();
        Linear {
            weight: self.tensor(&format!("{name}.weight"), &[outputs, inputs], 0.0, spread),
            bias: bias.then(|| self.tensor(&format!("{name}.bias"), &[outputs], 0.0, 0.3)),
        }
    }

    fn norm(&mut self, name: &str, width: usize) -> LayerNorm {
        LayerNorm {
            weight: self.tensor(&format!("{name}.weight"), &[width], 1.0, 0.5),
            bias: self.tensor(&format!("{name}.bias"), &[width], 0.0, 0.3),
            eps: 1e-6,
        }
    }

    fn block(&mut self, index: usize, choices: &Choices) -> Block {
        let Choices { embed_dim: width, heads, head_dim, neurons, .. } = *choices;
        let attended = heads * head_dim;
        let name = |part: &str| format!("blocks.{index}.{part}");
        let [query, key, value] = if choices.fused_qkv {
            let fused = self.linear(&name("qkv"), 3 * attended, width, choices.attention_bias);
            [0, 1, 2].map(|part| {
                let rows = |tensor: &TensorRef| TensorRef {
                    name: tensor.name.clone(),
                    rows: Some((part * attended, attended)),
                };
                Linear { weight: rows(&fused.weight), bias: fused.bias.as_ref().map(rows) }
            })
        } else {
            ["q", "k", "v"].map(|part| self.linear(&name(part), attended, width, choices.attention_bias))
        };
        let up = self.linear(&name("up"), neurons, width, choices.mlp_bias);
        let down = self.linear(&name("down"), width, neurons, choices.mlp_bias);
        Block {
            norm1: self.norm(&name("norm1"), width),
            query,
            key,
            value,
            projection: self.linear(&name("proj"), width, attended, choices.attention_bias),
            layer_scale1: choices.layer_scale.then(|| self.tensor(&name("scale1"), &[width], 0.5, 0.4)),
            norm2: self.norm(&name("norm2"), width),
            mlp: if choices.gated {
                Mlp::Gated { gate: self.linear(&name("gate"), neurons, width, choices.mlp_bias), up, down }
            } else {
                Mlp::Plain { up, down }
            },
            layer_scale2: choices.layer_scale.then(|| self.tensor(&name("scale2"), &[width], 0.5, 0.4)),
        }
    }

    fn prefix(&mut self, choices: &Choices) -> Vec<PrefixTokens> {
        let two = choices.pooling == PoolingChoice::MeanClassDistillation || choices.head == HeadChoice::AverageOfTwo;
        let class =
            two || matches!(
                choices.pooling,
                PoolingChoice::Class | PoolingChoice::ClassThenNorm | PoolingChoice::ClassDenseTanh
            ) || choices.head == HeadChoice::ClassAndPatchMean;
        let mut prefix = Vec::new();
        let counts = [
            (PrefixKind::Class, usize::from(class)),
            (PrefixKind::Distillation, usize::from(two)),
            (PrefixKind::Registers, choices.registers),
        ];
        for (kind, count) in counts {
            if count > 0 {
                let tensor = self.tensor(&format!("prefix.{kind:?}"), &[1, count, choices.embed_dim], 0.0, 1.0);
                prefix.push(PrefixTokens { kind, tensor, count });
            }
        }
        prefix
    }

    fn pooling(&mut self, choice: PoolingChoice, width: usize) -> Pooling {
        match choice {
            PoolingChoice::Class => Pooling::Class,
            PoolingChoice::ClassThenNorm => Pooling::ClassThenNorm { norm: self.norm("pool.norm", width) },
            PoolingChoice::ClassDenseTanh => {
                Pooling::ClassDenseTanh { dense: self.linear("pool.dense", width, width, true) }
            }
            PoolingChoice::MeanClassDistillation => Pooling::MeanClassDistillation,
            PoolingChoice::MeanPatches => Pooling::MeanPatches,
            PoolingChoice::MeanPatchesThenNorm => Pooling::MeanPatchesThenNorm { norm: self.norm("pool.norm", width) },
            PoolingChoice::Attention { heads } => Pooling::Attention {
                probe: self.tensor("pool.probe", &[1, 1, width], 0.0, 1.0),
                heads,
                query: self.linear("pool.q", width, width, true),
                key: self.linear("pool.k", width, width, true),
                value: self.linear("pool.v", width, width, true),
                out: self.linear("pool.out", width, width, true),
                norm: self.norm("pool.norm", width),
                up: self.linear("pool.up", 2 * width + 3, width, true),
                down: self.linear("pool.down", width, 2 * width + 3, true),
                activation: Activation::GeluTanh,
            },
        }
    }

    fn description(&mut self, choices: &Choices) -> Description {
        let Choices { grid, patch, embed_dim: width, classes, .. } = *choices;
        let prefix = self.prefix(choices);
        let position = match choices.position {
            PositionChoice::Rotary => Position::Rotary { theta: 100.0 },
            PositionChoice::Learned { grid, resampling, of_prefix } => {
                let prefix_positions = if of_prefix { prefix.iter().map(|prefix| prefix.count).sum() } else { 0 };
                let shape = [1, prefix_positions + grid.0 * grid.1, width];
                Position::Learned {
                    tensor: self.tensor("position", &shape, 0.0, 0.5),
                    prefix_positions,
                    grid,
                    resampling,
                }
            }
        };
        let patch_embedding = Linear {
            weight: self.tensor("patch.weight", &[width, 3, patch, patch], 0.0, 1.0 / patch as f32),
            bias: Some(self.tensor("patch.bias", &[width], 0.0, 0.3)),
        };
        Description {
            family: "random".into(),
            image: ImageInput {
                height: grid.0 * patch,
                width: grid.1 * patch,
                channels: 3,
                patch,
                mean: [0.5; 3],
                std: [0.5; 3],
                interpolation: Interpolation::Bicubic,
                crop_fraction: 1.0,
                crop_mode: CropMode::Center,
            },
            embed_dim: width,
            heads: choices.heads,
            head_dim: choices.head_dim,
            neurons: choices.neurons,
            activation: choices.activation,
            embedding: Embedding {
                patch: patch_embedding,
                prefix,
                position,
                norm: choices.pre_norm.then(|| self.norm("pre_norm", width)),
            },
            blocks: (0..choices.depth).map(|index| self.block(index, choices)).collect(),
            final_norm: choices.final_norm.then(|| self.norm("norm", width)),
            pooling: self.pooling(choices.pooling, width),
            head: match choices.head {
                HeadChoice::None => None,
                HeadChoice::Linear => Some(Head::Linear { linear: self.linear("head", classes, width, true) }),
                HeadChoice::ClassAndPatchMean => {
                    Some(Head::ClassAndPatchMean { linear: self.linear("head", classes, 2 * width, true) })
                }
                HeadChoice::AverageOfTwo => Some(Head::AverageOfTwo {
                    class: self.linear("head", classes, width, true),
                    distillation: self.linear("head_dist", classes, width, false),
                }),
            },
            labels: None,
        }
    }
}
