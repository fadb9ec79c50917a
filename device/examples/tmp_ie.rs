use headroom_device::integer::*;
use headroom_device::model::{Corrections, Weights};
use headroom_shared::IntegerModel;
use headroom_shared::integer_model::BlockCounts;
#[path = "../benches/plain_vit/mod.rs"]
#[allow(dead_code)]
mod plain_vit;
#[path = "../tests/random_model/mod.rs"]
mod random_model;
use random_model::noise;
fn main() {
    let model =
        plain_vit::PlainVit { size: 32, patch: 4, embed_dim: 128, depth: 6, heads: 4, head_dim: 32, neurons: 512 };
    let weights =
        Weights::from_safetensors(&std::fs::read("/work/shared/models/vit_cifar10_xs.safetensors").unwrap()).unwrap();
    let d = model.description();
    let counts = vec![BlockCounts { heads: 4, query_dims: 32, value_dims: 32, neurons: 512 }; 6];
    let c = Corrections::default();
    let s = IntegerSource {
        description: &d,
        weights: &weights,
        weights_sha256: [0; 32],
        corrections: &c,
        counts: &counts,
        original_ends: true,
    };
    let file = s.convert().unwrap().write().unwrap();
    std::fs::write("/tmp/h/iefw/model.int8", &file).unwrap();
    let frame: Vec<u8> = noise(5, 3072).map(|v| ((v + 1.0) * 127.9) as u8).collect();
    std::fs::write("/tmp/h/iefw/frame.bin", &frame).unwrap();
    let m = IntegerModel::read(&file).unwrap();
    println!("arena {}", arena_bytes(&ArenaSizes::of_model(&m, FEW_TOKENS)));
    let mut vit = PackedIntegerVit::new(m);
    for share in [1.0, 0.5] {
        let mut out = vec![0.0; 128];
        vit.infer(&frame, &model.rung(share), IntegerOutput { embedding: Some(&mut out), ..Default::default() })
            .unwrap();
        let h = out.iter().fold(0u32, |h, v| h.rotate_left(5) ^ v.to_bits());
        println!("share {share} rung {:?} hash {h:08x} macs {}", model.rung(share), model.macs(&model.rung(share)));
    }
}
