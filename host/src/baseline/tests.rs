//! Baselines against their definitions.

use candle_core::{DType, Device};
use headroom_device::model::description::Mlp;

use super::*;
use crate::executor::testing::tiny;

#[test]
fn magnitude_is_the_norm_of_all_weights_of_a_structure() {
    for gated in [false, true] {
        let (description, weights) = tiny(7, gated);
        let model = CandleVit::load(&description, &weights, &Device::Cpu, DType::F32).unwrap();
        let found = magnitude(&model).unwrap();
        for (index, block) in description.blocks.iter().enumerate() {
            let values = |name: &str| &weights.get(name).unwrap().data;
            let square = |value: f32| f64::from(value).powi(2);
            let row = |name: &str, row: usize| -> f64 { values(name)[row * 8..][..8].iter().map(|&v| square(v)).sum() };
            let scale = block.layer_scale1.as_ref().map(|scale| values(&scale.name));
            for head in 0..2 {
                let mut sum = 0.0;
                for dim in head * 4..head * 4 + 4 {
                    sum += row(&block.query.weight.name, dim);
                    sum += row(&block.key.weight.name, dim);
                    sum += row(&block.value.weight.name, dim);
                    let column = values(&block.projection.weight.name).iter().skip(dim).step_by(8);
                    let scaled = column.enumerate().map(|(out, value)| square(value * scale.map_or(1.0, |s| s[out])));
                    sum += scaled.sum::<f64>();
                }
                assert!((found.heads[index][head] - sum.sqrt()).abs() < 1e-5);
            }
            let (into, down) = match &block.mlp {
                Mlp::Plain { up, down } => (vec![up], down),
                Mlp::Gated { gate, up, down } => (vec![gate, up], down),
            };
            for neuron in 0..6 {
                let column = values(&down.weight.name).iter().skip(neuron).step_by(6);
                let mut sum = column.map(|&value| square(value)).sum::<f64>();
                sum += into.iter().map(|layer| row(&layer.weight.name, neuron)).sum::<f64>();
                assert!((found.neurons[index][neuron] - sum.sqrt()).abs() < 1e-5);
            }
        }
    }
}

#[test]
fn lamp_divides_by_what_is_not_smaller() {
    let close = |found: Vec<f64>, expected: &[f64]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
    };
    close(lamp_of(vec![1.0, 4.0, 3.0]), &[1.0 / 8.0, 1.0, 3.0 / 7.0]);
    close(lamp_of(vec![0.0, 2.0]), &[0.0, 1.0]);
    close(lamp_of(vec![0.0]), &[0.0]);
}

#[test]
fn random_scores_depend_on_the_seed_alone() {
    let (description, weights) = tiny(7, false);
    let model = CandleVit::load(&description, &weights, &Device::Cpu, DType::F32).unwrap();
    assert_eq!(random(&model, 3), random(&model, 3));
    assert_ne!(random(&model, 3), random(&model, 4));
    assert_eq!((random(&model, 3).heads.len(), random(&model, 3).neurons[1].len()), (2, 6));
}
