//! The dense forward of `vit_cifar10_s` on all cores, against the same forward
//! in PyTorch with as many threads, interleaved in one run.
//!
//! `cargo bench -p headroom-host --bench against_pytorch`; needs PyTorch: set
//! `HEADROOM_PYTHON` to a Python that has it (default `python3`), and the model
//! in `HEADROOM_MODELS` (default `../shared/models`).

use std::time::Instant;

use headroom_device::engine::ElasticVit;
use headroom_host::checkpoint::Checkpoint;
use headroom_host::embedder::CpuEmbedder;
use headroom_host::shape::model_shape;
use headroom_shared::SubNetwork;
use rival::Rival;

mod rival;

const IMAGES: usize = 512;
const ROUNDS: usize = 9;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let Some(mut rival) = Rival::start(IMAGES, "0/0")? else { return Ok(()) };
    let threads = rayon::current_num_threads();
    let checkpoint = Checkpoint::open(&rival::model())?;
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
        let pytorch = rival.run()?;
        let start = Instant::now();
        embedder.embed(&dense)?;
        let headroom = start.elapsed().as_secs_f64();
        ours.push(IMAGES as f64 / headroom);
        theirs.push(IMAGES as f64 / pytorch);
        ratios.push(headroom / pytorch);
    }
    rival.stop()?;
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!("{IMAGES} images, {threads} threads, medians of {ROUNDS} interleaved rounds");
    println!("headroom {:.0} images/s, PyTorch {:.0} images/s", median(ours), median(theirs));
    println!("time ratio headroom / PyTorch {:.2}", median(ratios));
    Ok(())
}
