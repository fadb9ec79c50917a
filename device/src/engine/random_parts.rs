//! Random parts of random models, for the tests of every engine.

use proptest::prelude::*;

use super::random_model::{HeadChoice, PoolingChoice};
use crate::model::description::Activation;

pub(crate) fn activation() -> impl Strategy<Value = Activation> {
    prop_oneof![Just(Activation::Gelu), Just(Activation::GeluTanh), Just(Activation::QuickGelu), Just(Activation::Silu)]
}

/// Every pooling but attention.
pub(crate) fn pooling_without_attention() -> impl Strategy<Value = PoolingChoice> {
    prop_oneof![
        Just(PoolingChoice::Class),
        Just(PoolingChoice::ClassThenNorm),
        Just(PoolingChoice::ClassDenseTanh),
        Just(PoolingChoice::MeanClassDistillation),
        Just(PoolingChoice::MeanPatches),
        Just(PoolingChoice::MeanPatchesThenNorm),
    ]
}

pub(crate) fn head() -> impl Strategy<Value = HeadChoice> {
    prop_oneof![
        Just(HeadChoice::None),
        Just(HeadChoice::Linear),
        Just(HeadChoice::ClassAndPatchMean),
        Just(HeadChoice::AverageOfTwo),
    ]
}
