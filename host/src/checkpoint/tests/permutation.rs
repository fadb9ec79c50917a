use headroom_device::model::Weights;
use proptest::prelude::*;

use super::tiny::{BLOCKS, CONFIG, HEADS, NEURONS, TinyVit};
use crate::checkpoint::{BlockOrder, Checkpoint, OpenOptions, Permutation, PermutationError};

fn open(bytes: Vec<u8>) -> Checkpoint {
    Checkpoint::from_bytes(bytes, Some(CONFIG), &OpenOptions::default()).unwrap()
}

fn written(checkpoint: &Checkpoint, permutation: &Permutation) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let out = folder.path().join("model.safetensors");
    let hash = checkpoint.write_permuted(permutation, &Weights::default(), &out).unwrap();
    let bytes = std::fs::read(&out).unwrap();
    assert_eq!(hash, <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(&bytes)));
    assert_eq!(folder.path().read_dir().unwrap().count(), 1, "a temporary file was left behind");
    bytes
}

fn order(count: usize) -> impl Strategy<Value = Vec<usize>> {
    Just((0..count).collect::<Vec<_>>()).prop_shuffle()
}

fn permutations() -> impl Strategy<Value = Permutation> {
    let block = (order(HEADS), order(NEURONS)).prop_map(|(heads, neurons)| BlockOrder { heads, neurons });
    prop::collection::vec(block, BLOCKS).prop_map(|blocks| Permutation { blocks })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_inverse_gives_the_same_bytes_back(permutation in permutations()) {
        let original = TinyVit::new().bytes();
        let permuted = open(written(&open(original.clone()), &permutation));
        prop_assert_eq!(written(&permuted, &permutation.inverse()), original);
    }

    #[test]
    fn weights_in_memory_are_permuted_as_the_file_is(permutation in permutations()) {
        let checkpoint = open(TinyVit::new().bytes());
        let in_memory = permutation.apply(&checkpoint.description, &checkpoint.weights().unwrap()).unwrap();
        prop_assert_eq!(open(written(&checkpoint, &permutation)).weights().unwrap(), in_memory);
    }
}

#[test]
fn heads_and_neurons_move_on_both_sides() {
    let checkpoint = open(TinyVit::new().bytes());
    let mut permutation = Permutation::identity(&checkpoint.description);
    permutation.blocks[1] = BlockOrder { heads: vec![2, 0, 1, 3], neurons: vec![5, 0, 1, 2, 3, 4] };
    let before = checkpoint.weights().unwrap();
    let after = permutation.apply(&checkpoint.description, &before).unwrap();
    let row = |weights: &headroom_device::model::Weights, name: &str, row: usize| {
        let tensor = weights.get(name).unwrap();
        let width = tensor.data.len() / tensor.shape[0];
        tensor.data[row * width..(row + 1) * width].to_vec()
    };
    let changed: Vec<&str> =
        before.iter().filter(|(name, tensor)| after.get(name) != Some(tensor)).map(|(name, _)| name).collect();
    assert_eq!(
        changed,
        [
            "blocks.1.attn.proj.weight",
            "blocks.1.attn.qkv.bias",
            "blocks.1.attn.qkv.weight",
            "blocks.1.mlp.fc1.bias",
            "blocks.1.mlp.fc1.weight",
            "blocks.1.mlp.fc2.weight",
        ]
    );
    // Head 2 is rows 4 and 5 of query, of key (from row 8) and of value (from row 16).
    for part in [0, 8, 16] {
        for dimension in 0..2 {
            for name in ["blocks.1.attn.qkv.weight", "blocks.1.attn.qkv.bias"] {
                assert_eq!(row(&after, name, part + dimension), row(&before, name, part + 4 + dimension));
            }
        }
    }
    let (old, new) = (row(&before, "blocks.1.attn.proj.weight", 3), row(&after, "blocks.1.attn.proj.weight", 3));
    assert_eq!(new, [old[4], old[5], old[0], old[1], old[2], old[3], old[6], old[7]]);
    assert_eq!(row(&after, "blocks.1.mlp.fc1.weight", 0), row(&before, "blocks.1.mlp.fc1.weight", 5));
    let (old, new) = (row(&before, "blocks.1.mlp.fc2.weight", 0), row(&after, "blocks.1.mlp.fc2.weight", 0));
    assert_eq!(new, [old[5], old[0], old[1], old[2], old[3], old[4]]);
}

#[test]
fn what_is_no_permutation_is_refused_and_nothing_is_written() {
    let checkpoint = open(TinyVit::new().bytes());
    let identity = Permutation::identity(&checkpoint.description);
    let mut twice = identity.clone();
    twice.blocks[1].heads[0] = 1;
    let mut beyond = identity.clone();
    beyond.blocks[0].neurons[0] = NEURONS;
    let mut short = identity.clone();
    short.blocks[0].neurons.pop();
    let mut fewer = identity;
    fewer.blocks.pop();
    let expected = [
        (twice, PermutationError::Order { block: 1, structures: "heads", expected: HEADS }),
        (beyond, PermutationError::Order { block: 0, structures: "neurons", expected: NEURONS }),
        (short, PermutationError::Order { block: 0, structures: "neurons", expected: NEURONS }),
        (fewer, PermutationError::Blocks { expected: BLOCKS, found: 1 }),
    ];
    let folder = tempfile::tempdir().unwrap();
    for (permutation, error) in expected {
        assert_eq!(permutation.apply(&checkpoint.description, &checkpoint.weights().unwrap()), Err(error));
        assert!(
            checkpoint
                .write_permuted(&permutation, &Weights::default(), &folder.path().join("out.safetensors"))
                .is_err()
        );
    }
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn an_unwritable_destination_is_an_error_that_names_it() {
    let checkpoint = open(TinyVit::new().bytes());
    let out = std::path::Path::new("/proc/headroom/model.safetensors");
    let error = checkpoint
        .write_permuted(&Permutation::identity(&checkpoint.description), &Weights::default(), out)
        .unwrap_err();
    assert!(error.to_string().contains("/proc/headroom/model.safetensors"), "{error}");
}
