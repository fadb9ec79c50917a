//! ONNX Runtime and PyTorch in a process of their own, asked one line at a time.
#![allow(dead_code, reason = "each bench that includes this file uses a part of it")]

use std::error::Error;
use std::io::{BufRead, BufReader, Lines, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use headroom_device::model::Weights;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

pub type Failure = Box<dyn Error>;

/// What is timed: a rung of the model, a batch and a number of threads.
pub type Cell = (usize, usize, usize);

pub struct Rivals {
    process: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Rivals {
    /// Starts them; `None`, with a visible line, where they cannot be had.
    pub fn start() -> Result<Option<Self>, Failure> {
        let python = std::env::var_os("HEADROOM_PYTHON").unwrap_or_else(|| "python3".into());
        let started = Command::new(&python)
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/onnx_runtime_forward.py"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut process = match started {
            Ok(process) => process,
            Err(error) => {
                println!("SKIPPED: {} does not start: {error} (set HEADROOM_PYTHON)", python.display());
                return Ok(None);
            }
        };
        let requests = process.stdin.take().ok_or("the rivals have no input")?;
        let mut answers = BufReader::new(process.stdout.take().ok_or("the rivals have no output")?).lines();
        let Some(versions) = answers.next() else {
            println!("SKIPPED: the rivals did not start (set HEADROOM_PYTHON to a Python that has them)");
            return Ok(None);
        };
        let versions: Value = serde_json::from_str(&versions?)?;
        println!("ONNX Runtime {}, PyTorch {}", versions["versions"][0], versions["versions"][1]);
        Ok(Some(Self { process, requests, answers }))
    }

    fn ask(&mut self, request: &Value) -> Result<Value, Failure> {
        writeln!(self.requests, "{request}")?;
        Ok(serde_json::from_str(&self.answers.next().ok_or("the rivals have ended")??)?)
    }

    /// Prepares all cells of a model.
    pub fn load(&mut self, request: Value) -> Result<Value, Failure> {
        self.ask(&json!({ "load": request }))
    }

    /// The image embeddings of both for a file of pixels, by name of the rival.
    pub fn outputs(&mut self, cell: Cell, pixels: &Path) -> Result<Vec<(String, Vec<f32>)>, Failure> {
        let answer = self.ask(&json!({ "check": cell, "pixels": pixels }))?;
        Ok(serde_json::from_value::<std::collections::BTreeMap<_, _>>(answer)?.into_iter().collect())
    }

    /// The seconds of some passes.
    pub fn time(&mut self, engine: &str, cell: Cell, times: usize) -> Result<Vec<f64>, Failure> {
        let answer = self.ask(&json!({ "time": cell, "engine": engine, "times": times }))?;
        Ok(serde_json::from_value(answer["seconds"].clone())?)
    }

    pub fn stop(self) -> Result<(), Failure> {
        let Self { mut process, requests, .. } = self;
        drop(requests);
        process.wait()?;
        Ok(())
    }
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Where trained models are.
pub fn models() -> PathBuf {
    let models = std::env::var_os("HEADROOM_MODELS").map_or_else(|| "../shared/models".into(), PathBuf::from);
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(models)
}

/// Writes f32 weights for the rivals to read.
pub fn write(weights: &Weights, path: &Path) -> Result<(), Failure> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = weights
        .iter()
        .map(|(name, tensor)| {
            let data = tensor.data.iter().flat_map(|value| value.to_le_bytes()).collect();
            (name.to_owned(), tensor.shape.clone(), data)
        })
        .collect();
    let mut views = Vec::with_capacity(bytes.len());
    for (name, shape, data) in &bytes {
        views.push((name, TensorView::new(safetensors::Dtype::F32, shape.clone(), data)?));
    }
    Ok(safetensors::serialize_to_file(views, None, path)?)
}
