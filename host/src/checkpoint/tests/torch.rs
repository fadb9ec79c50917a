//! PyTorch files, written here as `torch.save` writes them.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::tiny::{CONFIG, TinyVit};
use crate::checkpoint::{Checkpoint, CheckpointError};

/// A pickle of protocol 2 under construction.
struct Pickler(Vec<u8>);

impl Pickler {
    fn new() -> Self {
        Self(vec![0x80, 2])
    }

    fn text(&mut self, text: &str) {
        self.0.push(b'X');
        self.0.extend((text.len() as u32).to_le_bytes());
        self.0.extend(text.as_bytes());
    }

    fn integer(&mut self, value: usize) {
        self.0.push(b'J');
        self.0.extend((value as i32).to_le_bytes());
    }

    fn global(&mut self, module: &str, name: &str) {
        self.0.extend(format!("c{module}\n{name}\n").bytes());
    }

    fn integers(&mut self, values: &[usize]) {
        self.0.push(b'(');
        for &value in values {
            self.integer(value);
        }
        self.0.push(b't');
    }

    fn tensor(&mut self, key: usize, shape: &[usize], strides: &[usize]) {
        self.global("torch._utils", "_rebuild_tensor_v2");
        self.0.extend(b"((");
        self.text("storage");
        self.global("torch", "FloatStorage");
        self.text(&key.to_string());
        self.text("cpu");
        self.integer(8);
        self.0.extend(b"tQ");
        self.integer(0);
        self.integers(shape);
        self.integers(strides);
        self.0.push(0x89);
        self.global("collections", "OrderedDict");
        self.0.extend(b")RtR");
    }

    /// All tensors, in an OrderedDict.
    fn state_dict(&mut self, vit: &TinyVit) {
        self.global("collections", "OrderedDict");
        self.0.extend(b")R(");
        for (key, (name, shape, _)) in vit.tensors.iter().enumerate() {
            self.text(name);
            self.tensor(key, shape, &strides(shape));
        }
        self.0.push(b'u');
    }
}

fn strides(shape: &[usize]) -> Vec<usize> {
    (0..shape.len()).map(|dimension| shape[dimension + 1..].iter().product()).collect()
}

fn write(path: &Path, pickle: &[u8], vit: &TinyVit, method: CompressionMethod) {
    let mut archive = ZipWriter::new(File::create(path).unwrap());
    let options = SimpleFileOptions::default().compression_method(method);
    let mut entry = |name: &str, content: &[u8]| {
        archive.start_file(format!("archive/{name}"), options).unwrap();
        archive.write_all(content).unwrap();
    };
    entry("data.pkl", pickle);
    entry("byteorder", b"little");
    for (key, (_, _, values)) in vit.tensors.iter().enumerate() {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        entry(&format!("data/{key}"), &bytes);
    }
    archive.finish().unwrap();
}

/// Opens a folder with this pickle and the tiny model's storages.
fn open(name: &str, pickle: &[u8]) -> Result<Checkpoint, CheckpointError> {
    let folder = tempfile::tempdir().unwrap();
    write(&folder.path().join(name), pickle, &TinyVit::new(), CompressionMethod::Stored);
    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    Checkpoint::open(folder.path())
}

fn refused(pickle: &[u8], parts: &[&str]) {
    let message = open("model.pth", pickle).expect_err("it must be refused").to_string();
    for part in parts {
        assert!(message.contains(part), "expected `{part}` in: {message}");
    }
}

#[test]
fn weights_are_those_of_the_safetensors_file() {
    let vit = TinyVit::new();
    let expected =
        Checkpoint::from_bytes(vit.bytes(), Some(CONFIG), &crate::checkpoint::OpenOptions::default()).unwrap();

    let mut bare = Pickler::new();
    bare.state_dict(&vit);
    bare.0.push(b'.');
    // As DeiT's files: the weights under `model`, beside a training program's own object, which is not built.
    let mut wrapped = Pickler::new();
    wrapped.0.extend(b"}(");
    wrapped.text("args");
    wrapped.global("argparse", "Namespace");
    wrapped.0.extend(b")\x81}b");
    wrapped.text("model");
    wrapped.state_dict(&vit);
    wrapped.0.extend(b"u.");

    for (name, pickle) in [("pytorch_model.bin", &bare.0), ("model.pth", &wrapped.0)] {
        let checkpoint = open(name, pickle).unwrap();
        assert_eq!(checkpoint.description, expected.description);
        assert_eq!(checkpoint.weights().unwrap(), expected.weights().unwrap());
    }
}

#[test]
fn code_is_named_and_never_run() {
    let mut pickle = Pickler::new();
    pickle.0.extend(b"}");
    pickle.text("norm.weight");
    pickle.global("os", "system");
    pickle.text("touch /tmp/headroom-was-here");
    pickle.0.extend(b"\x85Rs");
    pickle.text("norm.bias");
    pickle.tensor(0, &[8], &[1]);
    pickle.0.extend(b"s.");
    refused(&pickle.0, &["norm.weight", "os system", "nothing is executed"]);
    assert!(!Path::new("/tmp/headroom-was-here").exists());
}

#[test]
fn what_is_no_plain_tensor_is_refused() {
    let one = |shape: &[usize], strides: &[usize], key: usize| {
        let mut pickle = Pickler::new();
        pickle.0.push(b'}');
        pickle.text("norm.weight");
        pickle.tensor(key, shape, strides);
        pickle.0.extend(b"s.");
        pickle.0
    };
    refused(&one(&[2, 4], &[1, 2], 0), &["norm.weight", "transposed"]);
    refused(&one(&[1 << 20], &[1], 0), &["norm.weight", "larger than its storage"]);
    let huge = 1 << 30;
    refused(&one(&[huge, huge, huge], &[0, huge, 1], 0), &["norm.weight"]);
    refused(&one(&[8], &[1], 999), &["norm.weight", "storage `999`", "missing"]);
    let mut empty = Pickler::new();
    empty.0.push(b'}');
    empty.text("epoch");
    empty.integer(3);
    empty.0.extend(b"s.");
    refused(&empty.0, &["no dictionary of tensors", "epoch"]);
    refused(&[0x80, 2, b'i'], &["0x69"]);
}

#[test]
fn no_truncated_or_flipped_pickle_panics() {
    let mut pickle = Pickler::new();
    pickle.state_dict(&TinyVit::new());
    pickle.0.push(b'.');
    for length in 0..pickle.0.len() {
        assert!(super::super::torch_file::pickle::Pickle::read(&pickle.0[..length]).is_err());
    }
    for byte in 0..pickle.0.len() {
        for bit in 0..8 {
            let mut flipped = pickle.0.clone();
            flipped[byte] ^= 1 << bit;
            drop(super::super::torch_file::pickle::Pickle::read(&flipped));
        }
    }
}

/// The tiny model as PyTorch before 1.6 wrote it.
fn legacy_file(vit: &TinyVit) -> Vec<u8> {
    let mut file = b"\x80\x02\x8a\x0al\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.".to_vec();
    let mut machine = Pickler::new();
    machine.0.push(b'}');
    machine.text("little_endian");
    machine.0.extend(b"\x88s.");
    file.extend(machine.0);
    let mut object = Pickler::new();
    object.state_dict(vit);
    object.0.push(b'.');
    file.extend(object.0);
    let mut keys = Pickler::new();
    keys.0.extend(b"](");
    (0..vit.tensors.len()).for_each(|key| keys.text(&key.to_string()));
    keys.0.extend(b"e.");
    file.extend(keys.0);
    for (_, _, values) in &vit.tensors {
        file.extend((values.len() as u64).to_le_bytes());
        file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    }
    file
}

#[test]
fn files_of_old_pytorch_are_read_too() {
    let vit = TinyVit::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.pth");
    std::fs::write(folder.path().join("config.json"), CONFIG).unwrap();
    let file = legacy_file(&vit);
    std::fs::write(&path, &file).unwrap();
    let expected =
        Checkpoint::from_bytes(vit.bytes(), Some(CONFIG), &crate::checkpoint::OpenOptions::default()).unwrap();
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(checkpoint.weights().unwrap(), expected.weights().unwrap());

    for length in [15, 20, file.len() / 2, file.len() - 1] {
        std::fs::write(&path, &file[..length]).unwrap();
        let message = Checkpoint::open(&path).unwrap_err().to_string();
        assert!(message.contains("model.pth") && message.contains("not a readable weight file"), "{message}");
    }
}
