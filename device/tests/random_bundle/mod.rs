//! Bundles of small random models, as files.
#![allow(dead_code, reason = "each test and bench that includes this file uses a part of it")]

use std::path::Path;

use headroom_device::bundle::manifest::{
    BOARD_FILE, DESCRIPTION_FILE, INTEGER_MODEL_FILE, MANIFEST_FILE, MANIFEST_HASH_FILE, MANIFEST_VERSION,
    STRUCTURE_MAP_FILE, WEIGHTS_FILE, hash_file_content, sha256_hex,
};
use headroom_device::bundle::{Bundle, Manifest, Part};
use headroom_device::integer::IntegerSource;
use headroom_device::model::weights::Weights;
use headroom_device::model::{Corrections, Description};
use headroom_shared::integer_model::BlockCounts;
use headroom_shared::structure_map::encoded_bound;
use headroom_shared::{
    Energy, Ladder, MlpKind, ModelShape, Rung, Step, StepKind, StructureMap, SubNetwork, TimeSpan, cost,
};
use safetensors::tensor::{Dtype, TensorView, serialize};

use super::random_model::{Choices, build};

/// A model that runs in microseconds.
pub fn tiny() -> Choices {
    Choices { classes: 3, ..Choices::vit(2, 4, 16, 2, 2, 64) }
}

/// Writes a bundle with `rungs` rungs (at least 2), whose predicted latencies are whole milliseconds and fall to 1 ms.
pub fn write(folder: &Path, choices: &Choices, seed: u64, rungs: usize) {
    write_parts(folder, choices, seed, rungs, None);
}

/// The same with all of the model in int8 too.
pub fn write_with_integer_model(folder: &Path, choices: &Choices, seed: u64, rungs: usize) {
    write_parts(folder, choices, seed, rungs, Some(choices.neurons));
}

/// The same with only so many neurons of each block in int8, as for a board with little flash.
pub fn write_with_integer_neurons(folder: &Path, choices: &Choices, seed: u64, rungs: usize, neurons: usize) {
    write_parts(folder, choices, seed, rungs, Some(neurons));
}

fn write_parts(folder: &Path, choices: &Choices, seed: u64, rungs: usize, int8_neurons: Option<usize>) {
    let (description, f32_weights) = build(choices, seed);
    let weights = safetensors(&f32_weights);
    let map = structure_map(choices, description.tokens(), &weights, rungs);
    let integer_model = int8_neurons.map(|neurons| integer_model(&description, &f32_weights, &weights, neurons));
    let mut parts = vec![
        (BOARD_FILE, include_bytes!("../../../boards/jetson-orin-nano/board.toml").to_vec()),
        (DESCRIPTION_FILE, serde_json::to_vec(&description).unwrap()),
        (STRUCTURE_MAP_FILE, map),
        (WEIGHTS_FILE, weights),
    ];
    parts.extend(integer_model.map(|file| (INTEGER_MODEL_FILE, file)));
    std::fs::create_dir_all(folder).unwrap();
    let part = |(name, bytes): &(&str, Vec<u8>)| {
        std::fs::write(folder.join(name), bytes).unwrap();
        Part { name: (*name).into(), size: bytes.len() as u64, sha256: sha256_hex(bytes) }
    };
    let manifest = Manifest {
        version: MANIFEST_VERSION,
        created_by: "a test".into(),
        target: "jetson-orin-nano".into(),
        model: "random".into(),
        seed,
        search: "none".into(),
        parts: parts.iter().map(part).collect(),
    };
    let manifest = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(folder.join(MANIFEST_HASH_FILE), hash_file_content(&manifest)).unwrap();
    std::fs::write(folder.join(MANIFEST_FILE), manifest).unwrap();
}

/// The same, opened.
pub fn open(choices: &Choices, seed: u64, rungs: usize) -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), choices, seed, rungs);
    Bundle::open(folder.path()).unwrap()
}

/// The same with a complete integer model.
pub fn open_with_integer_model(choices: &Choices, seed: u64, rungs: usize) -> Bundle {
    let folder = tempfile::tempdir().unwrap();
    write_with_integer_model(folder.path(), choices, seed, rungs);
    Bundle::open(folder.path()).unwrap()
}

fn integer_model(description: &Description, weights: &Weights, file: &[u8], neurons: usize) -> Vec<u8> {
    let all = IntegerSource::all_counts(description);
    let counts: Vec<BlockCounts> = all.into_iter().map(|block| BlockCounts { neurons, ..block }).collect();
    let source = IntegerSource {
        description,
        weights,
        weights_sha256: sha256(file),
        corrections: &Corrections::default(),
        counts: &counts,
        original_ends: true,
    };
    source.convert().unwrap().write().unwrap()
}

fn sha256(file: &[u8]) -> [u8; 32] {
    let hex = sha256_hex(file);
    std::array::from_fn(|byte| u8::from_str_radix(&hex[2 * byte..2 * byte + 2], 16).unwrap())
}

fn safetensors(weights: &Weights) -> Vec<u8> {
    let bytes: Vec<(&str, Vec<usize>, Vec<u8>)> = weights
        .iter()
        .map(|(name, tensor)| {
            (name, tensor.shape.clone(), tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect())
        })
        .collect();
    let views =
        bytes.iter().map(|(name, shape, bytes)| (*name, TensorView::new(Dtype::F32, shape.clone(), bytes).unwrap()));
    serialize(views, None).unwrap()
}

/// Neurons of all blocks go in turn, as far as every rung needs.
fn structure_map(choices: &Choices, tokens: usize, weights: &[u8], rungs: usize) -> Vec<u8> {
    let shape = ModelShape {
        blocks: choices.depth as u8,
        heads: choices.heads as u8,
        head_dim: choices.head_dim as u16,
        neurons: choices.neurons as u16,
        embed_dim: choices.embed_dim as u16,
        tokens: tokens as u16,
        mlp: MlpKind::Plain,
        bytes_per_weight: 4,
        outside_macs: 0,
        outside_weight_bytes: 0,
        floor_heads: 0,
        floor_neurons: 0,
    };
    let quanta = choices.neurons.div_ceil(8);
    let steps: Vec<u8> = (0..quanta * choices.depth)
        .map(|step| Step::new(step % choices.depth, StepKind::Neurons).unwrap().to_byte())
        .collect();
    let schedule = vec![0; choices.depth];
    let rungs: Vec<Rung<'_>> = (0..rungs)
        .map(|index| {
            let taken = index * steps.len() / (rungs - 1);
            let kept = SubNetwork::after(&shape, &steps[..taken]).unwrap();
            Rung {
                steps: taken as u32,
                macs: cost::macs(&shape, &kept),
                weight_bytes: cost::weight_bytes(&shape, &kept),
                fidelity: 1.0 - index as f32 / 64.0,
                predicted_latency: TimeSpan::from_nanoseconds(1_000_000 * (rungs - index) as u64),
                predicted_energy: Energy::from_microjoules(10_000 * (rungs - index) as u64),
                measured_latency: None,
                measured_energy: None,
                token_schedule: &schedule,
            }
        })
        .collect();
    let map = StructureMap::new(shape, sha256(weights), &steps, Ladder::from_rungs(&rungs).unwrap()).unwrap();
    let mut buffer = vec![0; encoded_bound(steps.len())];
    let length = map.write(&mut buffer).unwrap();
    buffer.truncate(length);
    buffer
}

/// Replaces a part, as someone who can write the manifest would.
pub fn replace_part(folder: &Path, name: &str, bytes: &[u8]) {
    let mut manifest: Manifest = serde_json::from_slice(&std::fs::read(folder.join(MANIFEST_FILE)).unwrap()).unwrap();
    let part = manifest.parts.iter_mut().find(|part| part.name == name).unwrap();
    (part.size, part.sha256) = (bytes.len() as u64, sha256_hex(bytes));
    std::fs::write(folder.join(name), bytes).unwrap();
    let manifest = serde_json::to_vec(&manifest).unwrap();
    std::fs::write(folder.join(MANIFEST_HASH_FILE), hash_file_content(&manifest)).unwrap();
    std::fs::write(folder.join(MANIFEST_FILE), manifest).unwrap();
}
