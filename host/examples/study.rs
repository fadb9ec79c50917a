//! The study behind the defaults: every ranking method and every mode of
//! compensation on two really trained models, judged by several witnesses on
//! images that nothing was calibrated on.
//!
//! ```sh
//! cargo run --release --example study
//! ```
//! It needs `../shared/models` and `../shared/data` (or `HEADROOM_MODELS` and
//! `HEADROOM_DATA`), takes more than an hour on two cores, and rewrites its tables,
//! `host/examples/study.md`, after every row. Labels are used to judge, never to
//! calibrate; the query images are used for nothing else.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use clap::Parser;
use headroom_device::whole_file;
use headroom_host::progress::Silent;
use headroom_host::{eval, prune};

/// MACs that the published (MLP, heads) sparsities leave of these models.
const SHARES: [&str; 6] = ["90.6%", "80.6%", "70.6%", "60.6%", "50.6%", "40.6%"];

const MODELS: [&str; 2] = ["vit_cifar10_s", "vit_cifar10_xs"];

#[derive(Parser)]
struct Arguments {
    /// Seeds of every row that depends on one.
    #[arg(long, default_value_t = 3)]
    seeds: u64,

    /// Only rows whose name contains one of these.
    #[arg(long)]
    only: Vec<String>,

    /// Only this model.
    #[arg(long)]
    model: Option<String>,

    /// The tables.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/study.md"))]
    out: PathBuf,
}

/// One row of the tables.
struct Row {
    name: String,
    options: Vec<String>,
    /// Whether the seed changes anything.
    seeded: bool,
}

/// The witnesses, a table each.
const WITNESSES: [&str; 4] =
    ["Fidelity of the embedding", "Fidelity of patch tokens", "k-NN top-1, %", "Top-1 of the model's head, %"];

/// Values of a witness at every share, one list for each seed.
type Values = Vec<[f64; SHARES.len() + 1]>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let (models, data) = (folder("HEADROOM_MODELS", "models"), folder("HEADROOM_DATA", "data"));
    let images = data.join("cifar10");
    if !images.is_dir() || !models.is_dir() {
        return Err(format!("the study needs `{}` and `{}`", models.display(), images.display()).into());
    }
    let mut document = String::from(INTRODUCTION);
    for model in MODELS.into_iter().filter(|model| arguments.model.as_ref().is_none_or(|only| only == model)) {
        let mut tables: BTreeMap<usize, Vec<(String, Values)>> = BTreeMap::new();
        let before = document.len();
        for row in rows(&images) {
            if !arguments.only.is_empty() && !arguments.only.iter().any(|only| row.name.contains(only)) {
                continue;
            }
            let seeds = if row.seeded { arguments.seeds } else { 1 };
            let mut values = [const { Values::new() }; WITNESSES.len()];
            for seed in 0..seeds {
                let found = judged(&models.join(format!("{model}.safetensors")), &images, &row, seed)?;
                values.iter_mut().zip(found).for_each(|(values, found)| values.push(found));
            }
            eprintln!("{model}: {}: fidelity {:?}", row.name, values[0]);
            for (witness, values) in values.into_iter().enumerate() {
                tables.entry(witness).or_default().push((row.name.clone(), values));
            }
            document.truncate(before);
            write!(document, "\n## {model}\n")?;
            for (witness, rows) in &tables {
                write_table(&mut document, WITNESSES[*witness], rows, *witness >= 2)?;
            }
            whole_file::write(&arguments.out, document.as_bytes())?;
        }
    }
    Ok(())
}

const INTRODUCTION: &str = "# Study: ranking methods and compensation

Made by `cargo run --release --example study`; what it runs is in `host/examples/study.rs`. Columns are shares of the
dense model's MACs: those that the published (MLP, heads) sparsities .15/0, .25/.1, .35/.2, .45/.3, .55/.4 and .65/.5
leave. All methods are judged at equal MACs, each with one set of weights for all columns but `per-rung`. Means over
three seeds, with the largest distance from the mean where it is not zero; `magnitude` and `lamp` do not depend on the
seed. Where nothing else is said, `headroom` ranks dimensions inside heads too, and 128 images calibrate.
1000 test images judge (standard error of an accuracy 1.4 points), 2000 training images are the k-NN bank (k = 20),
and up to 456 other training images, without labels, or procedural ones calibrate.
";

fn folder(variable: &str, name: &str) -> PathBuf {
    let default = || Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared")).join(name);
    std::env::var_os(variable).map_or_else(default, PathBuf::from)
}

fn rows(images: &Path) -> Vec<Row> {
    let calibration = images.join("calibration").display().to_string();
    let row = |name: &str, options: &str, limit: usize, real: bool, seeded: bool| {
        let mut options: Vec<String> = options.split(' ').map(str::to_owned).collect();
        options.extend(["--images-limit".to_owned(), limit.to_string()]);
        if real {
            options.extend(["--images".to_owned(), calibration.clone()]);
        }
        Row { name: name.to_owned(), options, seeded }
    };
    let mut rows = Vec::new();
    for method in ["random", "magnitude", "lamp", "snip-magnitude", "snapvit", "headroom"] {
        let seeded = !["magnitude", "lamp"].contains(&method);
        let options = format!("--method {method} --compensate none");
        rows.push(row(&format!("{method}, not compensated"), &options, 128, true, seeded));
    }
    let whole_heads = "--attention-units heads --compensate";
    rows.push(row("headroom, whole heads, not compensated", &format!("{whole_heads} none"), 128, true, true));
    rows.push(row("headroom, whole heads, sequential", &format!("{whole_heads} sequential"), 128, true, true));
    rows.push(row("snapvit, sequential", "--method snapvit --compensate sequential", 128, true, true));
    for mode in ["mean", "shared", "sequential", "per-rung"] {
        rows.push(row(&format!("headroom, {mode}"), &format!("--compensate {mode}"), 128, true, true));
    }
    for count in [64, 256, 456] {
        rows.push(row(&format!("headroom, sequential, {count} images"), "--compensate sequential", count, true, true));
    }
    for count in [64, 128, 256, 512] {
        let name = format!("headroom, sequential, {count} procedural images");
        rows.push(row(&name, "--compensate sequential", count, false, true));
    }
    rows
}

/// Prunes and judges: each witness at the dense rung and at every share.
fn judged(
    model: &Path,
    images: &Path,
    row: &Row,
    seed: u64,
) -> Result<[[f64; SHARES.len() + 1]; WITNESSES.len()], Box<dyn Error>> {
    let home = tempfile::tempdir()?;
    let out = home.path().join("bundle");
    let mut line = vec!["host-prune".to_owned(), "--target".to_owned(), "jetson-orin".to_owned()];
    let fixed = [("--model", model.display().to_string()), ("--out", out.display().to_string())];
    line.extend(fixed.into_iter().flat_map(|(name, value)| [name.to_owned(), value]));
    line.extend(["--seed".to_owned(), seed.to_string(), "--rung-macs".to_owned(), SHARES.join(",")]);
    line.extend(row.options.iter().cloned());
    let never = AtomicBool::new(false);
    prune::run(&prune::Options::parse_from(line), &Silent, &never)?;

    let mut line = vec!["host-eval".to_owned(), out.display().to_string(), "--no-probe".to_owned()];
    for folder in ["query", "bank"] {
        line.extend([format!("--{folder}"), images.join(folder).display().to_string()]);
    }
    let report = eval::run(&eval::Options::parse_from(line), &Silent, &never)?;
    let rungs = &report.bundles[0].rungs;
    if rungs.len() != SHARES.len() + 1 {
        return Err(format!("{}: {} rungs instead of {}", row.name, rungs.len(), SHARES.len() + 1).into());
    }
    let accuracy = |accuracy: Option<eval::accuracy::Accuracy>| accuracy.map_or(f64::NAN, |found| found.value * 100.0);
    let at = |of: &dyn Fn(&eval::RungReport) -> f64| std::array::from_fn(|place| of(&rungs[place]));
    Ok([
        at(&|rung| rung.fidelity.value),
        at(&|rung| rung.patch_fidelity.value),
        at(&|rung| accuracy(rung.nearest_neighbours)),
        at(&|rung| accuracy(rung.head)),
    ])
}

fn write_table(
    document: &mut String,
    witness: &str,
    rows: &[(String, Values)],
    percent: bool,
) -> Result<(), std::fmt::Error> {
    write!(
        document,
        "\n### {witness}\n\n| | dense | {} |\n|---|{}\n",
        SHARES.join(" | "),
        "---|".repeat(SHARES.len() + 1)
    )?;
    for (name, values) in rows {
        write!(document, "| {name} |")?;
        for place in 0..=SHARES.len() {
            let mean = values.iter().map(|seed| seed[place]).sum::<f64>() / values.len() as f64;
            let apart = values.iter().map(|seed| (seed[place] - mean).abs()).fold(0.0, f64::max);
            let digits = if percent { 1 } else { 4 };
            let half = 0.5 * 0.1_f64.powi(digits);
            let digits = digits as usize;
            if apart < half {
                write!(document, " {mean:.digits$} |")?;
            } else {
                write!(document, " {mean:.digits$} ±{apart:.digits$} |")?;
            }
        }
        writeln!(document)?;
    }
    Ok(())
}
