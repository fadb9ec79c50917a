//! Coefficients of the exponential and of the error function, highest power first: minimax fits (Lawson's iteration)
//! made for this crate, which both engines evaluate, each with its own operations.

/// ln(2) in two parts: the first has few bits, so that its multiples are exact.
pub(crate) const LN_2_HIGH: f32 = 0.693_359_4;
pub(crate) const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `(e^r - 1 - r) / r^2` on `|r| <= ln(2) / 2`, relative error 3.1e-9.
pub(crate) const EXP_TAIL: [f32; 5] = [1.381_461_2e-3, 8.368_71e-3, 4.166_838_7e-2, 1.666_652_1e-1, 4.999_999_3e-1];

/// `erf(x / sqrt(2)) / 2` is `x N(x^2) / D(x^2)` on `|x|` up to this, error 8.3e-9; beyond, it is 0.5 to 2e-8.
pub(crate) const ERF_EDGE: f32 = 5.5;
/// N.
pub(crate) const ERF_NUMERATOR: [f32; 6] =
    [2.285_051_7e-8, 6.327_418_8e-6, 1.666_483_2e-4, 4.664_066_5e-3, 3.364_960_5e-2, 3.989_422_6e-1];
/// D.
pub(crate) const ERF_DENOMINATOR: [f32; 6] =
    [1.198_610_1e-6, 7.289_572e-5, 1.872_249e-3, 2.852_765_3e-2, 2.510_132_2e-1, 1.0];
