use std::path::PathBuf;

use super::*;

fn shared(variable: &str, default: &str) -> PathBuf {
    std::env::var_os(variable)
        .map_or_else(|| PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(default), PathBuf::from)
}

#[test]
fn quick() {
    let folder = shared("HEADROOM_FIXTURES", "fixtures");
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            match Checkpoint::open(&path) {
                Ok(c) => { c.weights().unwrap(); println!("{} ok {:?} {:?}", path.display(), c.description.family, c.notes) },
                Err(e) => println!("{}: {e}", path.display()),
            }
        }
    }
    for name in ["vit_cifar10_s", "vit_cifar10_xs"] {
        let c = Checkpoint::open(&shared("HEADROOM_MODELS", "models").join(format!("{name}.safetensors"))).unwrap();
        println!("{name} {:?} {:?}", c.notes, c.description.image);
    }
}
