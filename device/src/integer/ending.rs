//! The end of a pass: final norm, pooling and head.

use headroom_shared::integer_model::{
    AttentionPooling, HeadKind, HeadLayers, IntegerLinear, PoolingKind, PoolingLayer,
};

use super::arena::{HeadBuffers, RowBuffers};
use super::engine::IntegerOutput;
use super::forward::{Execution, HeadStep, Normed, Pass};
use super::functions::{Activate, tanh};
use super::merge::TokenGroups;
use super::norm::{NormaliseRows, normalise};
use super::product::Product;
use super::quantise::{QuantiseRows, QuantisedRows, Step, quantise_row, quantised_stride};

/// What the end of a pass needs.
pub(super) struct LastBuffers<'a> {
    pub rows: RowBuffers<'a>,
    pub head: HeadBuffers<'a>,
    pub attended: &'a mut [f32],
    pub groups: TokenGroups<'a>,
}

impl<E: Execution> Pass<'_, '_, E> {
    /// Final norm, pooling and head, of the first tokens of the stream, as many as are `read`.
    pub fn finish(&self, read: usize, stream: &mut [f32], buffers: &mut LastBuffers<'_>, output: IntegerOutput<'_>) {
        let sizes = self.model.sizes();
        let width = sizes.embed_dim;
        let stream = &mut stream[..read * width];
        if let Some(norm) = self.model.final_norm() {
            let row = &mut buffers.rows.row[..width];
            self.execution.run(NormaliseRows { norm: &norm, rows: stream, row });
        }
        if let Some(tokens) = output.tokens {
            for (out, place) in tokens.chunks_exact_mut(width).zip(&*buffers.groups.places) {
                out.copy_from_slice(&stream[usize::from(*place) * width..][..width]);
            }
        }
        if let Some(logits) = output.logits {
            let class = self.model.head();
            match class {
                HeadLayers::None => {}
                HeadLayers::One(layer) if sizes.head == Some(HeadKind::ClassAndPatchMean) => {
                    let (class, patches) = buffers.rows.row.split_at_mut(width);
                    class.copy_from_slice(&stream[..width]);
                    mean(stream, &buffers.groups.places[sizes.prefix_tokens..], patches);
                    self.one_row(layer, 2 * width, &mut buffers.rows, logits, false);
                }
                HeadLayers::One(layer) => {
                    self.pool(read, stream, buffers);
                    self.one_row(layer, width, &mut buffers.rows, logits, false);
                }
                HeadLayers::Two(class, distillation) => {
                    for (token, layer) in [class, distillation].into_iter().enumerate() {
                        buffers.rows.row[..width].copy_from_slice(&stream[token * width..][..width]);
                        self.one_row(layer, width, &mut buffers.rows, logits, token > 0);
                    }
                    logits.iter_mut().for_each(|sum| *sum *= 0.5);
                }
            }
        }
        if let Some(embedding) = output.embedding {
            self.pool(read, stream, buffers);
            embedding.copy_from_slice(&buffers.rows.row[..width]);
        }
    }

    /// Brings the image embedding into the row, from so many `tokens`.
    fn pool(&self, tokens: usize, stream: &[f32], buffers: &mut LastBuffers<'_>) {
        let sizes = self.model.sizes();
        let width = sizes.embed_dim;
        let places = &*buffers.groups.places;
        let pooled = &mut buffers.rows.row[..width];
        match sizes.pooling {
            PoolingKind::Class | PoolingKind::ClassThenNorm | PoolingKind::ClassDenseTanh => {
                pooled.copy_from_slice(&stream[..width]);
            }
            PoolingKind::MeanClassDistillation => mean(stream, &places[..2], pooled),
            PoolingKind::MeanPatches | PoolingKind::MeanPatchesThenNorm => {
                mean(stream, &places[sizes.prefix_tokens..], pooled);
            }
            PoolingKind::Attention(attention) => self.pool_by_attention(attention, tokens, stream, buffers),
        }
        match self.model.pooling() {
            PoolingLayer::None | PoolingLayer::Attention(_) => {}
            PoolingLayer::Norm(norm) => {
                let (pooled, other) = buffers.rows.row.split_at_mut(width);
                normalise(&norm, pooled, other);
                pooled.copy_from_slice(other);
            }
            PoolingLayer::Dense(layer) => {
                self.one_row(layer, width, &mut buffers.rows, &mut buffers.attended[..width], false);
                let values = buffers.rows.row.iter_mut().zip(&*buffers.attended);
                values.for_each(|(value, dense)| *value = tanh(*dense));
            }
        }
    }

    /// Attention pooling, of the learned query to all tokens that are left: a merged one counts as it does to others.
    fn pool_by_attention(&self, sizes: AttentionPooling, tokens: usize, stream: &[f32], buffers: &mut LastBuffers<'_>) {
        let PoolingLayer::Attention(layers) = self.model.pooling() else { return };
        let width = self.model.sizes().embed_dim;
        let dims = width / sizes.heads;
        let LastBuffers { rows, head: head_buffers, attended, groups } = buffers;
        let RowBuffers { quantised, steps, widened, .. } = rows;
        self.execution.run(QuantiseRows { values: stream, columns: width, quantised, steps: &mut steps[..tokens] });
        let normed = Normed { quantised, steps, log_sizes: groups.log_sizes(tokens) };
        for head in 0..sizes.heads {
            let first = head * dims;
            let step = HeadStep {
                key: (layers.key, first),
                value: (layers.value, first),
                tokens,
                dims,
                query_dims: dims,
                value_dims: dims,
            };
            let value_scale = self.keys_and_values(&step, normed, widened, head_buffers, |_| {});
            let query = head_buffers.rows.iter_mut().zip(layers.query.part(first, dims).iter());
            query.for_each(|(value, query)| *value = query);
            self.attend(&step, 1, value_scale, normed.log_sizes, head_buffers, &mut attended[first..], dims);
        }
        rows.row[..width].copy_from_slice(&attended[..width]);
        self.one_row(layers.out, width, rows, &mut attended[..width], false);
        normalise(&layers.norm, &attended[..width], &mut rows.row[..width]);
        let RowBuffers { quantised, steps, widened, hidden, row } = rows;
        let hidden = &mut hidden[..sizes.neurons];
        self.layer_of_row(layers.up, &row[..width], hidden, false, quantised, steps, widened);
        self.execution.run(Activate { activation: sizes.activation, values: hidden, ups: None });
        self.layer_of_row(layers.down, hidden, &mut attended[..width], true, quantised, steps, widened);
        row[..width].copy_from_slice(&attended[..width]);
    }

    /// What a layer makes of the row's first values.
    fn one_row(
        &self,
        layer: IntegerLinear<'_>,
        columns: usize,
        buffers: &mut RowBuffers<'_>,
        out: &mut [f32],
        add: bool,
    ) {
        let RowBuffers { row, quantised, steps, widened, .. } = buffers;
        self.layer_of_row(layer, &row[..columns], out, add, quantised, steps, widened);
    }

    #[allow(clippy::too_many_arguments, reason = "parts of the row buffers, of which others are read")]
    fn layer_of_row(
        &self,
        layer: IntegerLinear<'_>,
        values: &[f32],
        out: &mut [f32],
        add: bool,
        quantised: &mut [u8],
        steps: &mut [Step],
        widened: &mut [i16],
    ) {
        let (columns, stride, count) = (values.len(), quantised_stride(values.len()), layer.rows());
        steps[0] = quantise_row(values, &mut quantised[..stride]);
        let rows = QuantisedRows { values: quantised, stride, steps: &steps[..1], columns };
        self.execution.product(Product { layer, first: 0, count, rows, out, stride: count, add, widened });
    }
}

/// The mean of the rows at `places`, as wide as `out`: a merged token weighs as much as it has sources.
fn mean(rows: &[f32], places: &[u16], out: &mut [f32]) {
    out.fill(0.0);
    for place in places {
        let row = &rows[usize::from(*place) * out.len()..];
        out.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
    }
    out.iter_mut().for_each(|sum| *sum /= places.len() as f32);
}
