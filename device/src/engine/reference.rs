//! The forward pass in f64, as plainly as the description says it: what the engine is tested against.

use headroom_shared::KeptStructures;

use super::selection::HeadDims;
use crate::model::description::{Activation, Block, Head, LayerNorm, Linear, Mlp, Pooling};
use crate::model::position::{learned_positions, rotary_tables};
use crate::model::{Description, Weights};

pub(crate) type Rows = Vec<Vec<f64>>;

pub(crate) struct Reference<'a> {
    pub description: &'a Description,
    pub weights: &'a Weights,
}

/// The states of one image.
pub(crate) struct ReferenceOutput {
    pub hidden_states: Vec<Rows>,
    pub tokens: Rows,
    pub pooled: Vec<f64>,
    pub logits: Option<Vec<f64>>,
    /// How far apart the likenesses of tokens are, so that the same ones are merged with rounded numbers: the smallest
    /// gap between one that was chosen and the next best, less where a key is so short that rounding turns it.
    pub margin: f64,
}

pub(crate) fn activation(activation: Activation, x: f64) -> f64 {
    let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
    match activation {
        Activation::Gelu => x * 0.5 * libm::erfc(-x / std::f64::consts::SQRT_2),
        Activation::GeluTanh => {
            let u = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3));
            0.5 * x * (1.0 + u.tanh())
        }
        Activation::QuickGelu => x * logistic(1.702 * x),
        Activation::Silu => x * logistic(x),
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|value| value / sum).collect()
}

fn mean(rows: &[Vec<f64>]) -> Vec<f64> {
    (0..rows[0].len()).map(|column| rows.iter().map(|row| row[column]).sum::<f64>() / rows.len() as f64).collect()
}

fn add(row: &mut [f64], other: &[f64]) {
    row.iter_mut().zip(other).for_each(|(a, b)| *a += b);
}

impl Reference<'_> {
    fn values(&self, tensor: &crate::model::description::TensorRef) -> Vec<f64> {
        self.weights.values(tensor).unwrap().iter().map(|&value| f64::from(value)).collect()
    }

    fn linear(&self, linear: &Linear, input: &[f64]) -> Vec<f64> {
        let weight = self.values(&linear.weight);
        let mut output: Vec<f64> = weight.chunks(input.len()).map(|row| dot(row, input)).collect();
        if let Some(bias) = &linear.bias {
            add(&mut output, &self.values(bias));
        }
        output
    }

    fn norm(&self, norm: &LayerNorm, row: &[f64]) -> Vec<f64> {
        let (weight, bias) = (self.values(&norm.weight), self.values(&norm.bias));
        let mean = row.iter().sum::<f64>() / row.len() as f64;
        let variance = row.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (variance + norm.eps).sqrt();
        (0..row.len()).map(|column| (row[column] - mean) * scale * weight[column] + bias[column]).collect()
    }

    pub(crate) fn forward(&self, pixels: &[f32], kept: &impl KeptStructures) -> ReferenceOutput {
        let mut tokens = self.embed(pixels);
        let mut hidden_states = vec![tokens.clone()];
        let mut groups: Vec<Vec<usize>> = (0..tokens.len()).map(|token| vec![token]).collect();
        let mut margin = f64::INFINITY;
        for (index, block) in self.description.blocks.iter().enumerate() {
            let heads: Vec<usize> = (0..kept.heads(index)).map(|place| kept.head(index, place)).collect();
            let value_dims = kept.value_dims(index).unwrap_or(self.description.head_dim);
            let query_dims = kept.query_dims(index).unwrap_or(self.description.head_dim);
            let dims = HeadDims { query: query_dims, value: value_dims };
            let merged = kept.merged_tokens(index);
            let of_block = self.block(block, &heads, dims, kept.neurons(index), merged, &mut tokens, &mut groups);
            margin = margin.min(of_block);
            hidden_states.push(tokens.clone());
        }
        if let Some(norm) = &self.description.final_norm {
            tokens = tokens.iter().map(|row| self.norm(norm, row)).collect();
        }
        let mut grid = vec![Vec::new(); self.description.tokens()];
        for (group, row) in groups.iter().zip(&tokens) {
            group.iter().for_each(|&token| grid[token] = row.clone());
        }
        let tokens = grid;
        let pooled = self.pool(&tokens);
        let patches = &tokens[self.description.prefix_tokens()..];
        let logits = self.description.head.as_ref().map(|head| match head {
            Head::Linear { linear } => self.linear(linear, &pooled),
            Head::ClassAndPatchMean { linear } => self.linear(linear, &[tokens[0].clone(), mean(patches)].concat()),
            Head::AverageOfTwo { class, distillation } => {
                mean(&[self.linear(class, &tokens[0]), self.linear(distillation, &tokens[1])])
            }
        });
        ReferenceOutput { hidden_states, tokens, pooled, logits, margin }
    }

    fn embed(&self, pixels: &[f32]) -> Rows {
        let description = self.description;
        let (image, embedding) = (&description.image, &description.embedding);
        let mut tokens = Rows::new();
        for prefix in &embedding.prefix {
            tokens.extend(self.values(&prefix.tensor).chunks(description.embed_dim).map(<[f64]>::to_vec));
        }
        let (rows, columns) = description.grid();
        for patch in 0..rows * columns {
            let mut values = Vec::new();
            for channel in 0..image.channels {
                for y in 0..image.patch {
                    for x in 0..image.patch {
                        let (y, x) = (patch / columns * image.patch + y, patch % columns * image.patch + x);
                        values.push(f64::from(pixels[(channel * image.height + y) * image.width + x]));
                    }
                }
            }
            tokens.push(self.linear(&embedding.patch, &values));
        }
        if let Some(positions) = learned_positions(description, self.weights).unwrap() {
            let positions: Vec<f64> = positions.iter().map(|&value| f64::from(value)).collect();
            let with_position = positions.len() / description.embed_dim - rows * columns;
            let first_patch = description.prefix_tokens();
            for (index, position) in positions.chunks(description.embed_dim).enumerate() {
                let token = if index < with_position { index } else { first_patch + index - with_position };
                add(&mut tokens[token], position);
            }
        }
        if let Some(norm) = &embedding.norm {
            tokens = tokens.iter().map(|row| self.norm(norm, row)).collect();
        }
        tokens
    }

    /// Returns the margin of the merge.
    #[expect(clippy::too_many_arguments, reason = "all that a block depends on")]
    fn block(
        &self,
        block: &Block,
        heads: &[usize],
        dims: HeadDims,
        neurons: usize,
        merged: usize,
        tokens: &mut Rows,
        groups: &mut Vec<Vec<usize>>,
    ) -> f64 {
        let head_dim = self.description.head_dim;
        let normed: Rows = tokens.iter().map(|row| self.norm(&block.norm1, row)).collect();
        let project = |linear: &Linear| -> Rows { normed.iter().map(|row| self.linear(linear, row)).collect() };
        let [mut queries, mut keys, values] = [&block.query, &block.key, &block.value].map(project);
        self.rotate(&mut queries);
        self.rotate(&mut keys);
        let scale1 = block.layer_scale1.as_ref().map(|scale| self.values(scale));
        for (token, query) in queries.iter().enumerate() {
            let mut attended = vec![0.0; query.len()];
            for &head in heads {
                let columns = head * head_dim..(head + 1) * head_dim;
                let compared = columns.start..columns.start + dims.query;
                let score =
                    |key: &Vec<f64>| dot(&query[compared.clone()], &key[compared.clone()]) / (head_dim as f64).sqrt();
                let sizes = groups.iter().map(|group| (group.len() as f64).ln());
                let scores = keys.iter().map(score).zip(sizes).map(|(score, size)| score + size);
                let weights = softmax(&scores.collect::<Vec<_>>());
                for (weight, value) in weights.iter().zip(&values) {
                    columns.clone().take(dims.value).for_each(|column| attended[column] += weight * value[column]);
                }
            }
            let mut branch = self.linear(&block.projection, &attended);
            if let Some(scale) = &scale1 {
                branch.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
            }
            add(&mut tokens[token], &branch);
        }
        let margin = self.merge(&keys, heads, dims.query, merged, tokens, groups);
        let scale2 = block.layer_scale2.as_ref().map(|scale| self.values(scale));
        for token in tokens {
            let normed = self.norm(&block.norm2, token);
            let act = |values: Vec<f64>| values.into_iter().map(|x| activation(self.description.activation, x));
            let (mut hidden, down): (Vec<f64>, _) = match &block.mlp {
                Mlp::Plain { up, down } => (act(self.linear(up, &normed)).collect(), down),
                Mlp::Gated { gate, up, down } => {
                    let gates = act(self.linear(gate, &normed));
                    (gates.zip(self.linear(up, &normed)).map(|(gate, up)| gate * up).collect(), down)
                }
            };
            hidden[neurons..].fill(0.0);
            let mut branch = self.linear(down, &hidden);
            if let Some(scale) = &scale2 {
                branch.iter_mut().zip(scale).for_each(|(value, scale)| *value *= scale);
            }
            add(token, &branch);
        }
        margin
    }

    fn merge(
        &self,
        keys: &Rows,
        heads: &[usize],
        query_dims: usize,
        merged: usize,
        tokens: &mut Rows,
        groups: &mut Vec<Vec<usize>>,
    ) -> f64 {
        let (prefix, head_dim) = (self.description.prefix_tokens(), self.description.head_dim);
        let mean_key = |key: &Vec<f64>| -> Vec<f64> {
            (0..query_dims).map(|column| heads.iter().map(|head| key[head * head_dim + column]).sum()).collect()
        };
        let keys: Rows = keys.iter().map(mean_key).collect();
        let cosine = |a: usize, b: usize| {
            let lengths = (dot(&keys[a], &keys[a]) * dot(&keys[b], &keys[b])).sqrt();
            if lengths > 0.0 { dot(&keys[a], &keys[b]) / lengths } else { 0.0 }
        };
        let mut edges = Vec::new();
        for even in (prefix..tokens.len()).step_by(2) {
            let mut best: Option<(f64, usize)> = None;
            let mut lead = f64::INFINITY;
            for odd in (prefix + 1..tokens.len()).step_by(2) {
                let likeness = cosine(even, odd);
                if let Some((before, _)) = best {
                    lead = if likeness > before { likeness - before } else { lead.min(before - likeness) };
                }
                if best.is_none_or(|(before, _)| likeness > before) {
                    best = Some((likeness, odd));
                }
            }
            edges.extend(best.map(|(likeness, odd)| (likeness, even, odd, lead)));
        }
        // Stable: the first of equals stays first.
        edges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let lead = if merged == 0 { None } else { edges.get(merged).map(|next| edges[merged - 1].0 - next.0) };
        edges.truncate(merged);
        let lead = edges.iter().map(|edge| edge.3).chain(lead).fold(f64::INFINITY, f64::min);
        let lengths = keys[prefix..].iter().map(|key| dot(key, key).sqrt());
        let shortest =
            lengths.clone().fold(f64::INFINITY, f64::min) / (lengths.sum::<f64>() / (keys.len() - prefix) as f64);
        let margin = lead * shortest;
        let (before, sizes) = (tokens.clone(), groups.clone());
        for odd in (prefix + 1..before.len()).step_by(2) {
            let sources: Vec<usize> =
                edges.iter().filter(|edge| edge.2 == odd).map(|edge| edge.1).chain([odd]).collect();
            let total: usize = sources.iter().map(|&source| sizes[source].len()).sum();
            for column in 0..before[odd].len() {
                let sum = |&source: &usize| before[source][column] * sizes[source].len() as f64;
                tokens[odd][column] = sources.iter().map(sum).sum::<f64>() / total as f64;
            }
            groups[odd] = sources.iter().flat_map(|&source| sizes[source].clone()).collect();
        }
        let is_gone = |token: usize| edges.iter().any(|edge| edge.1 == token);
        let left: Vec<usize> = (0..before.len()).filter(|&token| !is_gone(token)).collect();
        *tokens = left.iter().map(|&token| tokens[token].clone()).collect();
        *groups = left.iter().map(|&token| groups[token].clone()).collect();
        margin
    }

    fn rotate(&self, rows: &mut Rows) {
        let Some((cosines, sines)) = rotary_tables(self.description) else {
            return;
        };
        let head_dim = self.description.head_dim;
        for (patch, row) in rows[self.description.prefix_tokens()..].iter_mut().enumerate() {
            for head in row.chunks_mut(head_dim) {
                let before = head.to_vec();
                for dimension in 0..head_dim {
                    let half = head_dim / 2;
                    let turned = if dimension < half { -before[dimension + half] } else { before[dimension - half] };
                    let place = patch * head_dim + dimension;
                    head[dimension] = before[dimension] * f64::from(cosines[place]) + turned * f64::from(sines[place]);
                }
            }
        }
    }

    fn pool(&self, tokens: &[Vec<f64>]) -> Vec<f64> {
        let patches = &tokens[self.description.prefix_tokens()..];
        match &self.description.pooling {
            Pooling::Class => tokens[0].clone(),
            Pooling::ClassThenNorm { norm } => self.norm(norm, &tokens[0]),
            Pooling::ClassDenseTanh { dense } => self.linear(dense, &tokens[0]).into_iter().map(f64::tanh).collect(),
            Pooling::MeanClassDistillation => mean(&tokens[..2]),
            Pooling::MeanPatches => mean(patches),
            Pooling::MeanPatchesThenNorm { norm } => self.norm(norm, &mean(patches)),
            Pooling::Attention { probe, heads, query, key, value, out, norm, up, down, activation: act } => {
                let query = self.linear(query, &self.values(probe));
                let keys: Rows = tokens.iter().map(|row| self.linear(key, row)).collect();
                let values: Rows = tokens.iter().map(|row| self.linear(value, row)).collect();
                let head_dim = query.len() / heads;
                let mut attended = vec![0.0; query.len()];
                for first in (0..query.len()).step_by(head_dim) {
                    let columns = first..first + head_dim;
                    let score =
                        |key: &Vec<f64>| dot(&query[columns.clone()], &key[columns.clone()]) / (head_dim as f64).sqrt();
                    let weights = softmax(&keys.iter().map(score).collect::<Vec<_>>());
                    for (weight, value) in weights.iter().zip(&values) {
                        columns.clone().for_each(|column| attended[column] += weight * value[column]);
                    }
                }
                let mut pooled = self.linear(out, &attended);
                let hidden = self.linear(up, &self.norm(norm, &pooled));
                let hidden: Vec<f64> = hidden.into_iter().map(|x| activation(*act, x)).collect();
                add(&mut pooled, &self.linear(down, &hidden));
                pooled
            }
        }
    }
}
