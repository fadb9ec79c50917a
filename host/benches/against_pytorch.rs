//! The dense forward of `vit_cifar10_s` on all cores, against the same forward
//! in PyTorch with as many threads, interleaved in one run.
//!
//! `cargo bench -p headroom-host --bench against_pytorch`; needs PyTorch: set
//! `HEADROOM_PYTHON` to a Python that has it (default `python3`), and the model
//! in `HEADROOM_MODELS` (default `../shared/models`).

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use headroom_device::engine::ElasticVit;
use headroom_host::checkpoint::Checkpoint;
use headroom_host::embedder::CpuEmbedder;
use headroom_host::shape::model_shape;
use headroom_shared::SubNetwork;

const IMAGES: usize = 512;
const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let models = std::env::var_os("HEADROOM_MODELS").map_or_else(|| "../shared/models".into(), PathBuf::from);
    let model = repository.join(models).join("vit_cifar10_s.safetensors");
    if !model.is_file() {
        println!("SKIPPED against_pytorch: no {}", model.display());
        return Ok(());
    }
    let threads = rayon::current_num_threads();
    let python = std::env::var_os("HEADROOM_PYTHON").unwrap_or_else(|| "python3".into());
    let mut rival = Command::new(python)
        .arg(repository.join("host/benches/pytorch_forward.py"))
        .args([model.as_os_str(), model.with_extension("config.json").as_os_str()])
        .args([IMAGES.to_string(), threads.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut ask = rival.stdin.take().ok_or("the rival has no input")?;
    let mut answers = BufReader::new(rival.stdout.take().ok_or("the rival has no output")?).lines();
    let Some(ready) = answers.next() else {
        println!("SKIPPED against_pytorch: PyTorch did not start (set HEADROOM_PYTHON)");
        return Ok(());
    };
    println!("{}", ready?);

    let checkpoint = Checkpoint::open(&model)?;
    let description = &checkpoint.description;
    let weights = checkpoint.weights()?;
    let shape = model_shape(&checkpoint)?;
    let vit = ElasticVit::new(description, &weights)?;
    let pixels_per_image = 3 * description.image.height * description.image.width;
    // Values that repeat no pattern of the model's.
    let pixels: Vec<f32> =
        (0..IMAGES * pixels_per_image).map(|i| ((i as f32) * 0.618_034).fract() * 2.0 - 1.0).collect();
    let embedder = CpuEmbedder::new(&vit, &pixels, pixels_per_image, description.embed_dim);
    let dense = SubNetwork::dense(&shape);
    embedder.embed(&dense)?;

    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        writeln!(ask)?;
        let pytorch: f64 = answers.next().ok_or("the rival has ended")??.parse()?;
        let start = Instant::now();
        embedder.embed(&dense)?;
        let headroom = start.elapsed().as_secs_f64();
        ours.push(IMAGES as f64 / headroom);
        theirs.push(IMAGES as f64 / pytorch);
        ratios.push(headroom / pytorch);
    }
    drop(ask);
    rival.wait()?;
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("{IMAGES} images, {threads} threads, medians of {ROUNDS} interleaved rounds");
    println!("headroom {:.0} images/s, PyTorch {:.0} images/s", median(ours), median(theirs));
    println!("time ratio headroom / PyTorch {:.2}", median(ratios));
    Ok(())
}
