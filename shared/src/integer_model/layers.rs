//! Layers of an integer model as they lie in the file.

/// A table of f32, little-endian, at any address.
#[derive(Clone, Copy, Debug)]
pub struct FloatTable<'a> {
    pub(super) values: &'a [[u8; 4]],
}

impl<'a> FloatTable<'a> {
    /// The number of values.
    #[must_use]
    pub fn len(&self) -> usize {
        self.values.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The value at `index`.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    #[inline]
    pub fn get(&self, index: usize) -> f32 {
        f32::from_le_bytes(self.values[index])
    }

    /// `count` values from `first` on.
    ///
    /// # Panics
    /// If there are not so many.
    #[must_use]
    pub fn part(&self, first: usize, count: usize) -> Self {
        Self { values: &self.values[first..first + count] }
    }

    /// The bytes of each value.
    #[must_use]
    #[inline]
    pub fn bytes(&self) -> &'a [[u8; 4]] {
        self.values
    }

    /// All values.
    #[inline]
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.values.iter().map(|bytes| f32::from_le_bytes(*bytes))
    }
}

/// `y = x W^T + b`, where row `r` of `W` is its int8 numbers times `scales[r]`.
#[derive(Clone, Copy, Debug)]
pub struct IntegerLinear<'a> {
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) weights: &'a [u8],
    pub(super) scales: FloatTable<'a>,
    pub(super) biases: FloatTable<'a>,
}

/// Rows are padded with zeros to a multiple of so many bytes.
pub const ROW_ALIGNMENT: usize = 16;

/// Bytes from one row to the next.
#[must_use]
pub const fn row_stride(columns: usize) -> usize {
    columns.next_multiple_of(ROW_ALIGNMENT)
}

impl<'a> IntegerLinear<'a> {
    /// A layer of rows of `columns` weights, each padded with zeros to [`row_stride`]; `None` unless every row has a
    /// scale and a bias (f32, little-endian).
    #[must_use]
    pub fn new(columns: usize, weights: &'a [u8], scales: &'a [[u8; 4]], biases: &'a [[u8; 4]]) -> Option<Self> {
        let rows = scales.len();
        let (scales, biases) = (FloatTable { values: scales }, FloatTable { values: biases });
        let fits = columns > 0 && biases.len() == rows && weights.len() == rows * row_stride(columns);
        fits.then_some(Self { rows, columns, weights, scales, biases })
    }

    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Inputs.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The int8 numbers of all rows, each padded to [`row_stride`] bytes.
    #[must_use]
    pub fn weights(&self) -> &'a [u8] {
        self.weights
    }

    /// The int8 numbers of a row, padded with zeros to [`row_stride`].
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    #[inline]
    pub fn row(&self, row: usize) -> &'a [u8] {
        let stride = row_stride(self.columns);
        &self.weights[row * stride..(row + 1) * stride]
    }

    /// What 1 is worth, for each row.
    #[must_use]
    pub fn scales(&self) -> FloatTable<'a> {
        self.scales
    }

    /// For each row.
    #[must_use]
    pub fn biases(&self) -> FloatTable<'a> {
        self.biases
    }

    /// The same layer with other biases, one for each row: those of a corrected rung.
    ///
    /// # Panics
    /// If there are not as many as rows.
    #[must_use]
    pub fn with_biases(self, biases: FloatTable<'a>) -> Self {
        assert_eq!(biases.len(), self.rows, "a bias for each row");
        Self { biases, ..self }
    }
}

/// LayerNorm over the token width.
#[derive(Clone, Copy, Debug)]
pub struct IntegerNorm<'a> {
    /// Added to the variance.
    pub eps: f32,
    pub weight: FloatTable<'a>,
    pub bias: FloatTable<'a>,
}

/// The layers of a block. Layer scales are folded into projection and down.
#[derive(Clone, Copy, Debug)]
pub struct IntegerBlock<'a> {
    pub norm1: IntegerNorm<'a>,
    /// `heads * query_dims` rows, head by head.
    pub query: IntegerLinear<'a>,
    /// `heads * query_dims` rows, head by head.
    pub key: IntegerLinear<'a>,
    /// `heads * value_dims` rows, head by head.
    pub value: IntegerLinear<'a>,
    pub norm2: IntegerNorm<'a>,
    /// Only of a gated MLP.
    pub gate: Option<IntegerLinear<'a>>,
    pub up: IntegerLinear<'a>,
    /// Where the original ends are stored.
    pub ends: Option<BlockEnds<'a>>,
}

/// The two layers that write to the residual stream; corrections have others.
#[derive(Clone, Copy, Debug)]
pub struct BlockEnds<'a> {
    /// `heads * value_dims` columns, head by head.
    pub projection: IntegerLinear<'a>,
    /// `neurons` columns.
    pub down: IntegerLinear<'a>,
}

/// The part between the tokens and the embedding, where it has weights.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one of a model, and no heap to box it in")]
pub enum PoolingLayer<'a> {
    None,
    Norm(IntegerNorm<'a>),
    Dense(IntegerLinear<'a>),
    Attention(PoolingAttention<'a>),
}

/// The layers of a pooling by attention, all as wide as a token but for the neurons.
#[derive(Clone, Copy, Debug)]
pub struct PoolingAttention<'a> {
    /// What the learned query is for every frame, head by head.
    pub query: FloatTable<'a>,
    pub key: IntegerLinear<'a>,
    pub value: IntegerLinear<'a>,
    pub out: IntegerLinear<'a>,
    pub norm: IntegerNorm<'a>,
    pub up: IntegerLinear<'a>,
    pub down: IntegerLinear<'a>,
}

/// The classifiers.
#[derive(Clone, Copy, Debug)]
pub enum HeadLayers<'a> {
    None,
    One(IntegerLinear<'a>),
    /// Of token 0 and of token 1.
    Two(IntegerLinear<'a>, IntegerLinear<'a>),
}
