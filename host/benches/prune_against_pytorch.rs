//! The whole default job on `vit_cifar10_s`, from images to bundle, against what
//! SnapViT's search alone takes in PyTorch: 50 evaluations of the four published
//! sparsities with as many images and threads, its weights cut before. In turns,
//! one run of ours, then a third of the rival's.
//!
//! `cargo bench -p headroom-host --bench prune_against_pytorch`; needs PyTorch as
//! `against_pytorch` does, and real images in `HEADROOM_DATA`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use clap::Parser;
use headroom_host::progress::Silent;
use headroom_host::prune;
use rival::Rival;

mod rival;

const IMAGES: usize = 128;
const EVALUATIONS: usize = 50;
const ROUNDS: usize = 3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let data = std::env::var_os("HEADROOM_DATA").map_or_else(|| "../shared/data".into(), PathBuf::from);
    let images = rival::repository().join(data).join("cifar10/calibration");
    if !images.is_dir() {
        println!("SKIPPED prune_against_pytorch: no {}", images.display());
        return Ok(());
    }
    let Some(mut rival) = Rival::start(IMAGES, "0.15/0,0.35/0.2,0.55/0.4,0.65/0.5")? else { return Ok(()) };
    let home = tempfile::tempdir()?;
    let (mut ours, mut theirs, mut work) = (Vec::new(), 0.0, (0, 0));
    for round in 0..ROUNDS {
        let out = home.path().join(round.to_string());
        let line = ["host-prune".into(), "--target".into(), "jetson-orin".into(), "--model".into()];
        let paths = [rival::model(), "--images".into(), images.clone(), "--out".into(), out];
        let options = prune::Options::parse_from(line.into_iter().chain(paths.map(PathBuf::into_os_string)));
        let start = Instant::now();
        let report = prune::run(&options, &Silent, &AtomicBool::new(false))?.report;
        ours.push(start.elapsed().as_secs_f64());
        let sum = |of: fn(&prune::StageReport) -> u64| report.stages.iter().map(of).sum::<u64>();
        work = (sum(|stage| stage.image_forwards), sum(|stage| stage.image_backwards));
        for _ in EVALUATIONS * round / ROUNDS..EVALUATIONS * (round + 1) / ROUNDS {
            theirs += rival.run()?;
        }
    }
    rival.stop()?;
    ours.sort_by(f64::total_cmp);
    let ours = ours[ROUNDS / 2];
    println!("{IMAGES} images; headroom: {} forwards and {} backwards in all", work.0, work.1);
    println!("SnapViT's search: {} forwards", EVALUATIONS * 4 * IMAGES);
    println!("headroom, whole job: {ours:.1} s; PyTorch, the search alone: {theirs:.1} s; ratio {:.2}", ours / theirs);
    Ok(())
}
