//! Bad models and bad requests: each is refused with its error, and nothing panics.

use super::*;
use crate::model::weights::{Tensor, WeightsError};

fn small() -> Choices {
    Choices::vit(2, 4, 12, 2, 3, 20)
}

#[test]
fn a_tensor_of_another_shape_is_named() {
    // A reference to rows of a fused tensor says nothing about the rows beyond.
    let (description, weights) = build(&Choices { fused_qkv: false, ..small() }, 1);
    for (name, tensor) in weights.iter() {
        let mut broken = weights.clone();
        let mut shape = tensor.shape.clone();
        *shape.last_mut().unwrap() += 1;
        let data = vec![0.0; shape.iter().product()];
        broken.insert(name, Tensor { shape: shape.clone(), data });
        let error = ElasticVit::new(&description, &broken).expect_err(name);
        let EngineError::Shape { name: named, .. } = &error else { panic!("{name}: {error}") };
        assert_eq!(named, name);
    }
}

#[test]
fn the_message_says_what_was_expected_and_found() {
    let (description, mut weights) = build(&small(), 1);
    weights.insert("blocks.1.up.weight", Tensor { shape: vec![12, 20], data: vec![0.0; 240] });
    let error = ElasticVit::new(&description, &weights).unwrap_err();
    assert_eq!(error.to_string(), "tensor `blocks.1.up.weight` has shape [12, 20], expected [20, 12]");
}

#[test]
fn a_missing_tensor_is_named() {
    let (mut description, weights) = build(&small(), 1);
    description.blocks[1].norm2.bias.name = "nowhere".into();
    let error = ElasticVit::new(&description, &weights).unwrap_err();
    assert_eq!(error, EngineError::Weights(WeightsError::Missing { name: "nowhere".into() }));
}

#[test]
fn a_description_that_contradicts_itself_is_refused() {
    let (description, weights) = build(&small(), 1);
    let mut no_class = description.clone();
    no_class.embedding.prefix.clear();
    let mut no_patch = description.clone();
    no_patch.image.patch = 0;
    let mut no_pixels = description.clone();
    no_pixels.image.width = 3;
    let mut no_heads = description;
    no_heads.heads = 0;
    for broken in [no_class, no_patch, no_pixels, no_heads] {
        let error = ElasticVit::new(&broken, &weights).unwrap_err();
        assert!(matches!(error, EngineError::Description { .. }), "{error}");
    }
}

#[test]
fn bad_requests_are_refused() {
    let choices = small();
    let (description, weights) = build(&choices, 1);
    let vit = ElasticVit::new(&description, &weights).unwrap();
    let mut workspace = vit.workspace(2);
    let pixels = vec![0.0; 3 * vit.pixels()];
    let kept = Kept::all(&choices);
    let mut run = |pixels: &[f32], batch, kept: &Kept| vit.forward(&mut workspace, pixels, batch, kept).unwrap_err();

    assert_eq!(run(&[], 0, &kept), EngineError::Batch { most: 2, found: 0 });
    assert_eq!(run(&pixels, 3, &kept), EngineError::Batch { most: 2, found: 3 });
    let expected = 2 * vit.pixels();
    assert_eq!(run(&pixels[..7], 2, &kept), EngineError::Pixels { batch: 2, expected, found: 7 });

    let two = &pixels[..expected];
    let neurons = Kept { neurons: vec![20, 21], ..kept.clone() };
    assert_eq!(run(two, 2, &neurons), EngineError::TooMany { block: 1, structure: "neurons", most: 20, found: 21 });
    let most = choices.head_dim;
    let values = Kept { value_dims: vec![most + 1, 0], ..kept.clone() };
    let too_many = EngineError::TooMany { block: 0, structure: "value dimensions", most, found: most + 1 };
    assert_eq!(run(two, 2, &values), too_many);
    let merging = Kept { merged_tokens: vec![2, 99], ..kept.clone() };
    assert!(matches!(run(two, 2, &merging), EngineError::MergedTokens { block: 1, found: 99, .. }));
    let queries = Kept { query_dims: vec![most, 0], ..kept.clone() };
    assert_eq!(run(two, 2, &queries), EngineError::QueryDims { block: 1, fewest: 1, found: 0 });
    let heads = |heads: &[usize]| Kept { heads: vec![heads.to_vec(), vec![]], ..kept.clone() };
    assert_eq!(run(two, 2, &heads(&[0; 4])), EngineError::TooMany { block: 0, structure: "heads", most: 3, found: 4 });
    for (wrong, place, head) in [(vec![1, 0], 1, 0), (vec![2, 2], 1, 2), (vec![3], 0, 3)] {
        assert_eq!(run(two, 2, &heads(&wrong)), EngineError::Head { block: 0, place, head, heads: 3 });
    }

    let (other, weights) = build(&Choices::vit(3, 4, 12, 2, 3, 20), 1);
    let other = ElasticVit::new(&other, &weights).unwrap();
    let error = other.forward(&mut workspace, &pixels[..other.pixels()], 1, &kept).unwrap_err();
    assert_eq!(error, EngineError::Workspace);
}

#[test]
fn threads_share_a_model() {
    fn shared<T: Send + Sync>() {}
    shared::<ElasticVit>();
}
