//! The forward pass, up to its [end](super::ending).

use headroom_shared::KeptStructures;
use headroom_shared::integer_model::{
    BlockCounts, BlockEnds, HeadKind, IntegerBlock, IntegerLinear, IntegerModel, PoolingKind,
};

use super::arena::{Buffers, HeadBuffers, RowBuffers};
use super::attention::{Attend, Layout, QuantiseQueries, QuantiseValues, pairs};
use super::ending::LastBuffers;
use super::engine::IntegerOutput;
use super::error::IntegerEngineError;
use super::functions::Activate;
use super::kept;
use super::kernel::Kernel;
use super::merge::{AddKeys, MatchTokens, Merge, TokenGroups};
use super::norm::{NormaliseAndQuantise, NormaliseRows};
use super::product::{self, Product};
use super::quantise::{QuantiseRows, QuantisedRows, Step, quantised_stride};
use super::rotary::Turn;

/// With which instructions a pass is computed, and where the weights of products are.
pub(super) trait Execution {
    fn run(&self, kernel: impl Kernel);
    fn product(&self, product: Product<'_>);
    /// Brings rows of keys into the layout that [`attend`](Self::attend) reads. `rows` may be overwritten.
    fn keys(&self, rows: &mut [i16], out: &mut [i16], _dims: usize, _tokens: usize) {
        out[..rows.len()].copy_from_slice(rows);
    }
    /// The layout of values that [`attend`](Self::attend) reads.
    fn layout(&self) -> Layout {
        Layout::Rows
    }
    fn attend(&self, attend: Attend<'_>) {
        self.run(attend);
    }
}

/// Weights in the file, and plain Rust.
pub(super) struct InPlace;

impl Execution for InPlace {
    fn run(&self, kernel: impl Kernel) {
        kernel.run();
    }

    fn product(&self, product: Product<'_>) {
        product::in_place(product);
    }
}

/// Refuses what does not fit the model.
pub(super) fn check(
    model: &IntegerModel<'_>,
    frame: &[u8],
    kept: &impl KeptStructures,
    output: &IntegerOutput<'_>,
) -> Result<(), IntegerEngineError> {
    let sizes = model.sizes();
    let expected = sizes.frame_bytes();
    if frame.len() != expected {
        return Err(IntegerEngineError::Frame { expected, found: frame.len() });
    }
    for (output, expected, room) in [
        ("embedding", sizes.embed_dim, &output.embedding),
        ("logits", sizes.classes, &output.logits),
        ("tokens", sizes.tokens() * sizes.embed_dim, &output.tokens),
    ] {
        if let Some(found) = room.as_ref().map(|room| room.len()).filter(|found| *found != expected) {
            return Err(IntegerEngineError::Output { output, expected, found });
        }
    }
    kept::check(model, kept)
}

/// Runs a frame that was [checked](check), on the calling thread.
pub(super) fn run(
    execution: &impl Execution,
    model: &IntegerModel<'_>,
    buffers: Buffers<'_>,
    together: usize,
    frame: &[u8],
    kept: &impl KeptStructures,
    output: IntegerOutput<'_>,
) {
    let pass = Pass { execution, model };
    let (sizes, read) = (model.sizes(), tokens_read(model, &output));
    let width = sizes.embed_dim;
    let Buffers { stream, mut rows, mut head, attended, mut groups } = buffers;
    pass.start(stream);
    groups.start();
    for (part, out) in stream[sizes.prefix_tokens * width..].chunks_mut(together * width).enumerate() {
        pass.embed(frame, part * together, out, &mut rows);
    }
    pass.embedding_norm(stream, rows.row);
    let mut tokens = sizes.tokens();
    for index in 0..sizes.blocks {
        let step = BlockStep::new(model, kept, index, read, tokens);
        pass.norm(&step.block, &stream[..tokens * width], rows.quantised, rows.steps, rows.row);
        let columns = step.attended();
        let mut keys = (step.merged > 0).then(|| &mut rows.hidden[..step.keys()]);
        if let Some(keys) = &mut keys {
            keys.fill(0.0);
        }
        for head_index in 0..step.kept.heads {
            let log_sizes = groups.log_sizes(tokens);
            let normed = Normed { quantised: rows.quantised, steps: rows.steps, log_sizes };
            let out = &mut attended[head_index * step.stored.value_dims..];
            pass.head(&step, head_index, normed, rows.widened, &mut head, keys.as_deref_mut(), out, columns);
        }
        for (part, out) in stream[..step.wanted * width].chunks_mut(together * width).enumerate() {
            let first = part * together;
            let attended = &mut attended[first * columns..][..out.len() / width * columns];
            pass.end_attention(&step, attended, out, &mut rows);
        }
        if step.merged > 0 {
            pass.merge(&step, rows.hidden, head.rows, &mut groups, stream);
        }
        tokens = step.left();
        for out in stream[..step.wanted.min(tokens) * width].chunks_mut(together * width) {
            pass.mlp(&step, out, &mut rows);
        }
    }
    let mut buffers = LastBuffers { rows, head, attended, groups };
    pass.finish(read.min(tokens), stream, &mut buffers, output);
}

/// The first tokens, as many, that the outputs need.
pub(super) fn tokens_read(model: &IntegerModel<'_>, output: &IntegerOutput<'_>) -> usize {
    let sizes = model.sizes();
    if output.tokens.is_some() {
        return sizes.tokens();
    }
    let of_pooling = match sizes.pooling {
        PoolingKind::Class | PoolingKind::ClassThenNorm | PoolingKind::ClassDenseTanh => 1,
        PoolingKind::MeanClassDistillation => 2,
        PoolingKind::MeanPatches | PoolingKind::MeanPatchesThenNorm | PoolingKind::Attention(_) => sizes.tokens(),
    };
    let of_head = match sizes.head {
        None | Some(HeadKind::Linear) => 0,
        Some(HeadKind::ClassAndPatchMean) => sizes.tokens(),
        Some(HeadKind::AverageOfTwo) => 2,
    };
    of_pooling.max(of_head)
}

/// One block, and what is kept of it.
pub(super) struct BlockStep<'a> {
    pub block: IntegerBlock<'a>,
    ends: BlockEnds<'a>,
    pub stored: BlockCounts,
    pub kept: BlockCounts,
    /// Those that reach it.
    pub tokens: usize,
    /// The first of them, as many, that are needed after its attention.
    pub wanted: usize,
    /// Those that it merges into others.
    pub merged: usize,
}

impl<'a> BlockStep<'a> {
    /// Block `index`, which so many `tokens` reach; `read` are needed after the last.
    pub fn new(model: &IntegerModel<'a>, kept: &impl KeptStructures, index: usize, read: usize, tokens: usize) -> Self {
        let block = model.block(index);
        let wanted = if index + 1 == model.sizes().blocks { read.min(tokens) } else { tokens };
        let ends = match (kept.correction(), block.ends) {
            (None, Some(ends)) => ends,
            (correction, _) => model.corrected_ends(correction.unwrap_or_default(), index),
        };
        Self {
            block,
            ends,
            stored: model.counts(index),
            kept: BlockCounts::of(kept, index, model.sizes().head_dim),
            tokens,
            wanted,
            // Where only the first tokens are wanted, they are prefix tokens, which are never merged.
            merged: if wanted < tokens { 0 } else { kept.merged_tokens(index) },
        }
    }

    /// Tokens that are left after it.
    pub fn left(&self) -> usize {
        self.tokens - self.merged
    }

    /// Values of the keys of a head.
    pub fn keys(&self) -> usize {
        self.tokens * self.kept.query_dims
    }

    /// Values that the heads give for a token. Removed dimensions keep their places.
    pub fn attended(&self) -> usize {
        self.kept.heads * self.stored.value_dims
    }
}

/// A head of a block, or of attention pooling.
pub(super) struct HeadStep<'a> {
    /// A layer, and which of its outputs is the first of the head.
    pub key: (IntegerLinear<'a>, usize),
    pub value: (IntegerLinear<'a>, usize),
    /// Those that are attended to.
    pub tokens: usize,
    /// Of the dense model: scores are divided by its square root.
    pub dims: usize,
    /// Those that are kept.
    pub query_dims: usize,
    pub value_dims: usize,
}

/// All tokens before the heads, normalised and quantised.
#[derive(Clone, Copy)]
pub(super) struct Normed<'b> {
    pub quantised: &'b [u8],
    pub steps: &'b [Step],
    /// The logarithms of the tokens' sizes, once some were merged.
    pub log_sizes: Option<&'b [f32]>,
}

/// The parts of a pass, in order: who calls them says which tokens and which heads.
#[derive(Clone, Copy)]
pub(super) struct Pass<'p, 'm, E> {
    pub execution: &'p E,
    pub model: &'p IntegerModel<'m>,
}

impl<E: Execution> Pass<'_, '_, E> {
    /// Fills the stream with what does not depend on the frame.
    pub fn start(&self, stream: &mut [f32]) {
        for (value, start) in stream.iter_mut().zip(self.model.tokens().iter()) {
            *value = start;
        }
    }

    /// Adds the embeddings of the patches from `first` on to their rows of the stream.
    pub fn embed(&self, frame: &[u8], first: usize, out: &mut [f32], buffers: &mut RowBuffers<'_>) {
        let sizes = self.model.sizes();
        let (width, columns, stride) = (sizes.embed_dim, sizes.patch_values(), quantised_stride(sizes.patch_values()));
        let RowBuffers { quantised, steps, widened, .. } = buffers;
        let count = out.len() / width;
        let steps = &mut steps[..count];
        // The bytes of a patch are exact numbers: one step is 1 and their zero is 0.
        steps.fill(Step { scale: 1.0, zero: 0 });
        for (place, bytes) in quantised.chunks_exact_mut(stride).take(count).enumerate() {
            gather_patch(self.model, frame, first + place, bytes);
        }
        let rows = QuantisedRows { values: quantised, stride, steps, columns };
        self.add_to_stream(self.model.patch(), rows, out, widened);
    }

    /// Adds what a layer makes of `rows` to rows of the stream.
    fn add_to_stream(&self, layer: IntegerLinear<'_>, rows: QuantisedRows<'_>, out: &mut [f32], widened: &mut [i16]) {
        let width = self.model.sizes().embed_dim;
        self.execution.product(Product { layer, first: 0, count: width, rows, out, stride: width, add: true, widened });
    }

    /// The norm that some models have after the embedding, of all tokens.
    pub fn embedding_norm(&self, stream: &mut [f32], row: &mut [f32]) {
        if let Some(norm) = self.model.embedding_norm() {
            let row = &mut row[..self.model.sizes().embed_dim];
            self.execution.run(NormaliseRows { norm: &norm, rows: stream, row });
        }
    }

    /// Brings rows of the stream into the form that heads read.
    pub fn norm(
        &self,
        block: &IntegerBlock<'_>,
        rows: &[f32],
        quantised: &mut [u8],
        steps: &mut [Step],
        row: &mut [f32],
    ) {
        let width = self.model.sizes().embed_dim;
        self.execution.run(NormaliseAndQuantise {
            norm: &block.norm1,
            rows,
            normed: &mut row[..width],
            quantised,
            stride: quantised_stride(width),
            steps,
        });
    }

    /// One head for all wanted tokens, whose outputs are `stride` values apart. Its keys are added to `keys_of_heads`, where
    /// tokens are to be merged.
    #[allow(clippy::too_many_arguments, reason = "buffers that one thread or several own")]
    pub fn head(
        &self,
        step: &BlockStep<'_>,
        head: usize,
        normed: Normed<'_>,
        widened: &mut [i16],
        buffers: &mut HeadBuffers<'_>,
        keys_of_heads: Option<&mut [f32]>,
        out: &mut [f32],
        stride: usize,
    ) {
        let BlockStep { block, stored, kept, wanted, tokens, .. } = step;
        let (query_dims, value_dims) = (kept.query_dims, kept.value_dims);
        let layers = HeadStep {
            key: (block.key, head * stored.query_dims),
            value: (block.value, head * stored.value_dims),
            tokens: *tokens,
            dims: self.model.sizes().head_dim,
            query_dims,
            value_dims,
        };
        let value_scale = self.keys_and_values(&layers, normed, widened, buffers, |keys| {
            self.turn(keys, query_dims);
            if let Some(sums) = keys_of_heads {
                self.execution.run(AddKeys { sums, keys });
            }
        });
        let queries = &mut buffers.rows[..wanted * query_dims];
        self.project((block.query, head * stored.query_dims), query_dims, *wanted, normed, queries, widened);
        self.turn(queries, query_dims);
        if value_dims < stored.value_dims {
            // Removed dimensions keep their columns, and are 0.
            (0..*wanted).for_each(|token| out[token * stride..][value_dims..stored.value_dims].fill(0.0));
        }
        self.attend(&layers, *wanted, value_scale, normed.log_sizes, buffers, out, stride);
    }

    /// Outputs of a layer, from the first of a head on, for the first tokens.
    fn project(
        &self,
        (layer, first): (IntegerLinear<'_>, usize),
        dims: usize,
        tokens: usize,
        normed: Normed<'_>,
        out: &mut [f32],
        widened: &mut [i16],
    ) {
        let columns = self.model.sizes().embed_dim;
        let steps = &normed.steps[..tokens];
        let rows = QuantisedRows { values: normed.quantised, stride: quantised_stride(columns), steps, columns };
        self.execution.product(Product { layer, first, count: dims, rows, out, stride: dims, add: false, widened });
    }

    /// Rounded keys and values of a head; `on_keys` gets the keys before. Returns what 1 is worth in the values.
    pub fn keys_and_values(
        &self,
        head: &HeadStep<'_>,
        normed: Normed<'_>,
        widened: &mut [i16],
        buffers: &mut HeadBuffers<'_>,
        on_keys: impl FnOnce(&mut [f32]),
    ) -> f32 {
        let HeadStep { tokens, query_dims, value_dims, .. } = *head;
        let HeadBuffers { rows, queries, keys, values, key_scales, .. } = buffers;
        let keys_f32 = &mut rows[..tokens * query_dims];
        self.project(head.key, query_dims, tokens, normed, keys_f32, widened);
        on_keys(keys_f32);
        self.execution.run(QuantiseQueries { values: keys_f32, dims: query_dims, out: queries, scales: key_scales });
        self.execution.keys(&mut queries[..tokens * pairs(query_dims)], keys, query_dims, tokens);
        let values_f32 = &mut rows[..tokens * value_dims];
        self.project(head.value, value_dims, tokens, normed, values_f32, widened);
        let (mut scale, layout) = (0.0, self.execution.layout());
        let (dims, out) = (value_dims, &mut **values);
        self.execution.run(QuantiseValues { values: values_f32, dims, tokens, layout, out, scale: &mut scale });
        scale
    }

    /// Attention of the first `wanted` queries, which are in the rows of the buffers, to [`Self::keys_and_values`].
    #[allow(clippy::too_many_arguments, reason = "buffers that one thread or several own")]
    pub fn attend(
        &self,
        head: &HeadStep<'_>,
        wanted: usize,
        value_scale: f32,
        log_sizes: Option<&[f32]>,
        buffers: &mut HeadBuffers<'_>,
        out: &mut [f32],
        stride: usize,
    ) {
        let HeadStep { tokens, dims, query_dims, value_dims, .. } = *head;
        let HeadBuffers { rows, queries, keys, values, query_scales, key_scales, scores, attention } = buffers;
        let values_f32 = &rows[..wanted * query_dims];
        self.execution.run(QuantiseQueries {
            values: values_f32,
            dims: query_dims,
            out: queries,
            scales: query_scales,
        });
        self.execution.attend(Attend {
            queries,
            query_scales: &query_scales[..wanted],
            keys,
            key_scales: &key_scales[..tokens],
            values,
            value_scale,
            root: libm::sqrtf(dims as f32),
            tokens,
            log_sizes,
            query_dims,
            value_dims,
            scores,
            attention,
            out,
            stride,
        });
    }

    /// Turns queries or keys of a head's first tokens by their positions, if the model has rotary ones.
    fn turn(&self, rows: &mut [f32], dims: usize) {
        if let Some(table) = self.model.rotary() {
            let patches = self.model.sizes().prefix_tokens * dims;
            self.execution.run(Turn { rows: rows.get_mut(patches..).unwrap_or_default(), dims, table });
        }
    }

    /// The projection of what the heads gave some tokens.
    pub fn end_attention(&self, step: &BlockStep<'_>, attended: &[f32], out: &mut [f32], buffers: &mut RowBuffers<'_>) {
        let width = self.model.sizes().embed_dim;
        let count = out.len() / width;
        let columns = step.attended();
        let RowBuffers { quantised, steps, widened, .. } = buffers;
        let (stride, steps) = (quantised_stride(columns), &mut steps[..count]);
        self.execution.run(QuantiseRows { values: attended, columns, quantised, steps });
        let rows = QuantisedRows { values: quantised, stride, steps, columns };
        self.add_to_stream(step.ends.projection, rows, out, widened);
    }

    /// Merges tokens of the stream by their `keys`, which were added up over the heads, `[tokens, query_dims]`.
    pub fn merge(
        &self,
        step: &BlockStep<'_>,
        keys: &mut [f32],
        spread: &mut [f32],
        groups: &mut TokenGroups<'_>,
        stream: &mut [f32],
    ) {
        let sizes = self.model.sizes();
        let (prefix, dims) = (sizes.prefix_tokens, step.kept.query_dims);
        let keys = &mut keys[prefix * dims..step.keys()];
        let matches = &mut groups.matches;
        self.execution.run(MatchTokens { keys, dims, spread, likeness: matches.likeness, odd: matches.odd });
        let merge = Merge { prefix, tokens: step.tokens, merged: step.merged, width: sizes.embed_dim };
        groups.merge(merge, stream);
    }

    /// The MLP branch of a block, for some tokens.
    pub fn mlp(&self, step: &BlockStep<'_>, out: &mut [f32], buffers: &mut RowBuffers<'_>) {
        let sizes = self.model.sizes();
        let width = sizes.embed_dim;
        let count = out.len() / width;
        let BlockStep { block, kept, .. } = step;
        let neurons = kept.neurons;
        let RowBuffers { quantised, steps, widened, hidden, row } = buffers;
        let steps = &mut steps[..count];
        let stride = quantised_stride(width);
        self.execution.run(NormaliseAndQuantise {
            norm: &block.norm2,
            rows: out,
            normed: &mut row[..width],
            quantised,
            stride,
            steps,
        });
        let mut project = |layer: IntegerLinear<'_>, out: &mut [f32]| {
            self.execution.product(Product {
                layer,
                first: 0,
                count: neurons,
                rows: QuantisedRows { values: quantised, stride, steps, columns: width },
                out,
                stride: neurons,
                add: false,
                widened,
            });
        };
        let (hidden, ups) = hidden.split_at_mut(count * neurons);
        let ups = if let Some(gate) = block.gate {
            project(gate, hidden);
            let ups = &mut ups[..count * neurons];
            project(block.up, ups);
            Some(&*ups)
        } else {
            project(block.up, hidden);
            None
        };
        self.execution.run(Activate { activation: sizes.activation, values: hidden, ups });
        let stride = quantised_stride(neurons);
        self.execution.run(QuantiseRows { values: hidden, columns: neurons, quantised, steps });
        let rows = QuantisedRows { values: quantised, stride, steps, columns: neurons };
        self.add_to_stream(step.ends.down, rows, out, widened);
    }
}

/// Brings the bytes of a patch into one row, and zeros after them.
fn gather_patch(model: &IntegerModel<'_>, frame: &[u8], patch: usize, out: &mut [u8]) {
    let sizes = model.sizes();
    let columns = sizes.image_width / sizes.patch;
    let line = 3 * sizes.patch;
    let start = 3 * (patch / columns * sizes.patch * sizes.image_width + patch % columns * sizes.patch);
    let (lines, rest) = out.split_at_mut(sizes.patch_values());
    for (y, out) in lines.chunks_exact_mut(line).enumerate() {
        out.copy_from_slice(&frame[start + 3 * y * sizes.image_width..][..line]);
    }
    rest.fill(0);
}
