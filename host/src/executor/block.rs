//! A transformer block: forward, backward, and cut down to what a sub-network keeps.

use candle_core::{Result, Tensor};
use headroom_device::model::Description;
use headroom_device::model::description::{self, Activation};

use super::branch::Branch;
use super::error::Result as ExecutorResult;
use super::linear::Linear;
use super::load::Loader;
use super::operation::activation::{activate, activate_backward};
use super::operation::attention::Attention;
use super::operation::layer_norm::LayerNorm;
use super::operation::rotary::Rotary;
use super::operation::summed_product::summed_product;

/// A block with its weights. The layer scales are part of the branches' last layers.
#[derive(Clone, Debug)]
pub(super) struct Block {
    norm1: LayerNorm,
    /// Queries, keys and values of all heads, in this order.
    pub(super) packed: Linear,
    pub(super) projection: Linear,
    norm2: LayerNorm,
    pub(super) mlp: Mlp,
    heads: usize,
    /// Dimensions of a query, of a key and of a value, and of a head before any were cut.
    query_dims: usize,
    value_dims: usize,
    head_dim: usize,
    activation: Activation,
}

#[derive(Clone, Debug)]
pub(super) enum Mlp {
    Plain { up: Linear, down: Linear },
    Gated { gate: Linear, up: Linear, down: Linear },
}

/// What the backward pass of a block needs of its forward pass.
pub(super) struct Trace {
    input: Tensor,
    packed: Tensor,
    /// The rows that go on after the attention, where not all do.
    rows: Option<Tensor>,
    middle: Tensor,
    hidden: Hidden,
}

/// The MLP before its activation.
enum Hidden {
    /// And after it.
    Plain {
        hidden: Tensor,
        active: Tensor,
    },
    Gated {
        gate: Tensor,
        up: Tensor,
    },
}

/// The gradient at a layer's outputs and the layer's inputs, both by token: the gradient of the
/// layer's weight is `outputs^T inputs`.
pub struct LayerGradient {
    /// `[tokens, out]`.
    pub outputs: Tensor,
    /// `[tokens, in]`.
    pub inputs: Tensor,
}

/// The gradients at the layers of a block whose rows are structures.
pub struct BlockGradient {
    /// `heads * head_dim` outputs.
    pub value: LayerGradient,
    /// The layer into the hidden neurons; gate and up in a gated MLP.
    pub neurons: Vec<LayerGradient>,
    masks: Masks,
}

/// What the gradients at the masks of a block's structures are made of.
struct Masks {
    batch: Batch,
    heads: usize,
    /// `[tokens, heads * head_dim]`.
    values: Tensor,
    /// Queries, turned by positions where those are rotary, and the gradient at them.
    queries: Tensor,
    at_queries: Tensor,
    /// The neurons and the gradient at them, or another pair with the same product.
    neurons: [Tensor; 2],
}

/// The gradient at the masks of a block's structures: each is multiplied by one and could be multiplied by zero.
pub struct MaskGradient {
    /// `[images, heads]`.
    pub heads: Tensor,
    /// Of every value dimension alone, head after head: `[images, heads * head_dim]`.
    pub value_dims: Tensor,
    /// Of every query dimension alone, which is that of its key too.
    pub query_dims: Tensor,
    /// `[images, neurons]`.
    pub neurons: Tensor,
}

impl BlockGradient {
    /// The gradient at the masks, image by image.
    ///
    /// The gradient at the mask of `y = m * f(x)` is `y . dL/dy` at `m = 1`. Of a head, whose output is linear in its
    /// values, that is also `v . dL/dv`.
    ///
    /// # Errors
    /// If the device fails.
    pub fn masks(&self) -> Result<MaskGradient> {
        let Masks { batch, heads, values, queries, at_queries, neurons } = &self.masks;
        let query_dims = summed_product(queries, at_queries, batch.images)?;
        let value_dims = summed_product(values, &self.value.outputs, batch.images)?;
        let heads = value_dims.reshape((batch.images, *heads, ()))?.sum(2)?;
        // The last block may have gone on with a few tokens of each image.
        let neurons = summed_product(&neurons[0], &neurons[1], batch.images)?;
        Ok(MaskGradient { heads, value_dims, query_dims, neurons })
    }
}

/// The sizes of a batch of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Batch {
    pub images: usize,
    pub tokens: usize,
}

impl Block {
    pub fn load(loader: &Loader, description: &Description, block: &description::Block) -> ExecutorResult<Self> {
        let width = description.embed_dim;
        let attention_width = description.heads * description.head_dim;
        let neurons = description.neurons;
        let down = |down| loader.branch_end(down, block.layer_scale2.as_ref(), neurons, width);
        let mlp = match &block.mlp {
            description::Mlp::Plain { up, down: end } => {
                Mlp::Plain { up: loader.linear(up, width, neurons)?, down: down(end)? }
            }
            description::Mlp::Gated { gate, up, down: end } => Mlp::Gated {
                gate: loader.linear(gate, width, neurons)?,
                up: loader.linear(up, width, neurons)?,
                down: down(end)?,
            },
        };
        let layer_scale = block.layer_scale1.as_ref();
        Ok(Self {
            norm1: loader.norm(&block.norm1, width)?,
            packed: loader.joined(&[&block.query, &block.key, &block.value], width, attention_width)?,
            projection: loader.branch_end(&block.projection, layer_scale, attention_width, width)?,
            norm2: loader.norm(&block.norm2, width)?,
            mlp,
            heads: description.heads,
            query_dims: description.head_dim,
            value_dims: description.head_dim,
            head_dim: description.head_dim,
            activation: description.activation,
        })
    }

    /// The whole block with only the first `neurons` neurons, which are views. At least one.
    pub fn with_neurons(&self, neurons: usize) -> Result<Self> {
        let mut kept = self.clone();
        kept.mlp = match &self.mlp {
            Mlp::Plain { up, down } => Mlp::Plain { up: up.first_outputs(neurons)?, down: down.first_inputs(neurons)? },
            Mlp::Gated { gate, up, down } => Mlp::Gated {
                gate: gate.first_outputs(neurons)?,
                up: up.first_outputs(neurons)?,
                down: down.first_inputs(neurons)?,
            },
        };
        Ok(kept)
    }

    /// The whole block with only these heads, and of each the first dimensions of queries, keys and values, copied where
    /// not all are kept. At least one of each.
    pub fn with_heads(&self, heads: &[usize], query_dims: usize, value_dims: usize) -> Result<Self> {
        let mut kept = self.clone();
        if heads.len() == self.heads && query_dims == self.head_dim && value_dims == self.head_dim {
            return Ok(kept);
        }
        (kept.heads, kept.query_dims, kept.value_dims) = (heads.len(), query_dims, value_dims);
        let index = |rows: Vec<u32>| Tensor::new(rows, self.packed.weight.device());
        let rows = |part: usize, dims: usize| {
            let starts = heads.iter().map(move |head| (part * self.heads + head) * self.head_dim);
            starts.flat_map(move |start| start..start + dims).map(|row| row as u32)
        };
        let packed_rows = rows(0, query_dims).chain(rows(1, query_dims)).chain(rows(2, value_dims));
        let packed_rows = index(packed_rows.collect())?;
        kept.packed.weight = self.packed.weight.index_select(&packed_rows, 0)?;
        kept.packed.bias = self.packed.bias.as_ref().map(|bias| bias.index_select(&packed_rows, 0)).transpose()?;
        kept.projection.weight = self.projection.weight.index_select(&index(rows(0, value_dims).collect())?, 0)?;
        Ok(kept)
    }

    /// The tokens after the block.
    pub fn forward(&self, x: &Tensor, batch: Batch, rotary: Option<&Rotary>) -> Result<Tensor> {
        Ok(self.traced(x, batch, rotary, None)?.0)
    }

    /// The tokens after the attention branch when no head is kept.
    pub fn without_heads(&self, x: &Tensor) -> Result<Tensor> {
        self.projection.bias_onto(x)
    }

    /// The tokens after the MLP branch when no neuron is kept.
    pub fn without_neurons(&self, x: &Tensor) -> Result<Tensor> {
        match &self.mlp {
            Mlp::Plain { down, .. } | Mlp::Gated { down, .. } => down.bias_onto(x),
        }
    }

    /// The whole block with other last layers of its branches.
    pub fn with_ends(self, projection: Linear, down: Linear) -> Self {
        let mlp = match self.mlp {
            Mlp::Plain { up, .. } => Mlp::Plain { up, down },
            Mlp::Gated { gate, up, .. } => Mlp::Gated { gate, up, down },
        };
        Self { projection, mlp, ..self }
    }

    /// The tokens after the attention branch, and their keys, `[images, tokens, heads, query_dims]`. `log_sizes` where
    /// tokens stand for several ([`Attention::forward_of_groups`]).
    pub fn attend(
        &self,
        x: &Tensor,
        batch: Batch,
        rotary: Option<&Rotary>,
        log_sizes: Option<&Tensor>,
    ) -> Result<(Tensor, Tensor)> {
        let packed = self.pack(x, batch, rotary)?;
        let attention = self.attention(batch);
        let context = match log_sizes {
            Some(log_sizes) => attention.forward_of_groups(&packed, log_sizes)?,
            None => attention.forward(&packed)?,
        };
        let width = self.heads * self.query_dims;
        let keys = packed.narrow(1, width, width)?.reshape((batch.images, batch.tokens, self.heads, ()))?;
        Ok((self.projection.forward_onto(x, &context)?, keys))
    }

    /// What the heads found, before the projection.
    pub fn context(&self, x: &Tensor, batch: Batch, rotary: Option<&Rotary>) -> Result<Tensor> {
        self.attention(batch).forward(&self.pack(x, batch, rotary)?)
    }

    /// The neurons, before the down layer.
    pub fn activations(&self, middle: &Tensor) -> Result<Tensor> {
        let normed = self.norm2.forward(middle)?;
        match &self.mlp {
            Mlp::Plain { up, .. } => activate(self.activation, &up.forward(&normed)?),
            Mlp::Gated { gate, up, .. } => {
                activate(self.activation, &gate.forward(&normed)?)?.mul(&up.forward(&normed)?)
            }
        }
    }

    /// The last layer of a branch.
    pub fn end(&self, branch: Branch) -> &Linear {
        match (branch, &self.mlp) {
            (Branch::Attention, _) => &self.projection,
            (Branch::Mlp, Mlp::Plain { down, .. } | Mlp::Gated { down, .. }) => down,
        }
    }

    /// The tokens after the MLP branch.
    pub fn transform(&self, middle: &Tensor) -> Result<Tensor> {
        Ok(self.traced_mlp(middle)?.0)
    }

    /// The tokens after the block and what [`Self::backward`] needs. With `rows`, only those rows
    /// go on after the attention.
    pub fn traced(
        &self,
        x: &Tensor,
        batch: Batch,
        rotary: Option<&Rotary>,
        rows: Option<&Tensor>,
    ) -> Result<(Tensor, Trace)> {
        let packed = self.pack(x, batch, rotary)?;
        let mut context = self.attention(batch).forward(&packed)?;
        let mut residual = x.clone();
        if let Some(rows) = rows {
            context = context.index_select(rows, 0)?;
            residual = residual.index_select(rows, 0)?;
        }
        let middle = self.projection.forward_onto(&residual, &context)?;
        let (out, hidden) = self.traced_mlp(&middle)?;
        Ok((out, Trace { input: x.clone(), packed, rows: rows.cloned(), middle, hidden }))
    }

    /// The gradient at the block's input, from the one at its output, and the gradients at the
    /// layers whose rows are structures. Of the first block the gradient at the input is not
    /// wanted, and with it falls away what leads only there: the layers of queries and keys and the first norm.
    pub fn backward(
        &self,
        trace: &Trace,
        gradient: &Tensor,
        batch: Batch,
        rotary: Option<&Rotary>,
        wants_input: bool,
    ) -> Result<(BlockGradient, Option<Tensor>)> {
        let (neurons, neuron_masks, middle_gradient) = self.mlp_backward(trace, gradient)?;
        let mut context_gradient = self.projection.backward(&middle_gradient, None)?;
        let mut residual_gradient = middle_gradient;
        if let Some(rows) = &trace.rows {
            let spread = |gradient: &Tensor| {
                let shape = (batch.images * batch.tokens, gradient.dim(1)?);
                Tensor::zeros(shape, gradient.dtype(), gradient.device())?.index_add(rows, gradient, 0)
            };
            context_gradient = spread(&context_gradient)?;
            residual_gradient = spread(&residual_gradient)?;
        }
        let attention = self.attention(batch);
        let width = self.heads * self.head_dim;
        let values = trace.packed.narrow(1, 2 * width, width)?;
        let queries = trace.packed.narrow(1, 0, width)?;
        let rotated = attention.backward(&trace.packed, &context_gradient)?;
        let at_queries = rotated.narrow(1, 0, width)?;
        let masks = Masks { batch, heads: self.heads, values, queries, at_queries, neurons: neuron_masks };
        let inputs = self.norm1.forward(&trace.input)?;
        if !wants_input {
            let outputs = rotated.narrow(1, 2 * width, width)?;
            return Ok((BlockGradient { value: LayerGradient { outputs, inputs }, neurons, masks }, None));
        }
        let packed = rotary.map_or_else(|| Ok(rotated.clone()), |rotary| rotary.backward(&attention, &rotated))?;
        let value = LayerGradient { outputs: packed.narrow(1, 2 * width, width)?, inputs };
        let normed_gradient = self.packed.backward(&packed, None)?;
        let input_gradient = self.norm1.backward(&trace.input, &normed_gradient, Some(&residual_gradient))?;
        Ok((BlockGradient { value, neurons, masks }, Some(input_gradient)))
    }

    fn attention(&self, batch: Batch) -> Attention {
        Attention {
            images: batch.images,
            tokens: batch.tokens,
            heads: self.heads,
            query_dims: self.query_dims,
            value_dims: self.value_dims,
            scale: 1.0 / (self.head_dim as f64).sqrt(),
        }
    }

    pub fn pack(&self, x: &Tensor, batch: Batch, rotary: Option<&Rotary>) -> Result<Tensor> {
        let packed = self.packed.forward(&self.norm1.forward(x)?)?;
        rotary.map_or_else(|| Ok(packed.clone()), |rotary| rotary.forward(&self.attention(batch), &packed))
    }

    fn traced_mlp(&self, middle: &Tensor) -> Result<(Tensor, Hidden)> {
        let normed = self.norm2.forward(middle)?;
        match &self.mlp {
            Mlp::Plain { up, down } => {
                let hidden = up.forward(&normed)?;
                let active = activate(self.activation, &hidden)?;
                Ok((down.forward_onto(middle, &active)?, Hidden::Plain { hidden, active }))
            }
            Mlp::Gated { gate, up, down } => {
                let (gate, up) = (gate.forward(&normed)?, up.forward(&normed)?);
                let out = down.forward_onto(middle, &activate(self.activation, &gate)?.mul(&up)?)?;
                Ok((out, Hidden::Gated { gate, up }))
            }
        }
    }

    /// The gradients at the layers into the hidden neurons, what those at their masks are made of, and the one at the
    /// MLP's input.
    fn mlp_backward(&self, trace: &Trace, gradient: &Tensor) -> Result<(Vec<LayerGradient>, [Tensor; 2], Tensor)> {
        let inputs = self.norm2.forward(&trace.middle)?;
        let (layers, masks, normed_gradient) = match (&self.mlp, &trace.hidden) {
            (Mlp::Plain { up, down }, Hidden::Plain { hidden, active }) => {
                let gradient = down.backward(gradient, None)?;
                let outputs = activate_backward(self.activation, hidden, &gradient)?;
                let normed = up.backward(&outputs, None)?;
                (vec![LayerGradient { outputs, inputs }], [active.clone(), gradient], normed)
            }
            (Mlp::Gated { gate, up, down }, Hidden::Gated { gate: gate_hidden, up: up_hidden }) => {
                let hidden = down.backward(gradient, None)?;
                let at_gate = activate_backward(self.activation, gate_hidden, &hidden.mul(up_hidden)?)?;
                let at_up = hidden.mul(&activate(self.activation, gate_hidden)?)?;
                let normed = up.backward(&at_up, Some(&gate.backward(&at_gate, None)?))?;
                let masks = [up_hidden.clone(), at_up.clone()];
                let gate = LayerGradient { outputs: at_gate, inputs: inputs.clone() };
                (vec![gate, LayerGradient { outputs: at_up, inputs }], masks, normed)
            }
            _ => candle_core::bail!("a trace of another block"),
        };
        Ok((layers, masks, self.norm2.backward(&trace.middle, &normed_gradient, Some(gradient))?))
    }
}
