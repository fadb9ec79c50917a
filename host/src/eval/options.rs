//! The command line of `host-eval`.

use std::path::PathBuf;

use clap::Parser;
use headroom_device::run::Precision;

use super::EvalError;
use crate::executor::{DeviceChoice, GpuPrecision};

/// Tells how good the rungs of bundles are.
///
/// Fidelity to the dense model of embeddings and of patch tokens; with a bank of
/// labelled images k-NN and linear-probe accuracy; the accuracy of the model's
/// own head where its labels are the folder's. The result goes to stdout,
/// progress to stderr.
#[derive(Clone, Debug, Parser)]
#[command(name = "host-eval", version, args_override_self = true)]
pub struct Options {
    /// Bundles to judge side by side.
    #[arg(required = true, value_name = "BUNDLE")]
    pub bundles: Vec<PathBuf>,

    /// Images to judge by, a sub-folder for each class.
    #[arg(long, value_name = "DIR")]
    pub query: PathBuf,

    /// Other images, a sub-folder for each class, that k-NN and linear probe learn the classes from.
    #[arg(long, value_name = "DIR")]
    pub bank: Option<PathBuf>,

    /// The rungs to judge, such as `0,6,12` [default: all].
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub rungs: Option<Vec<usize>>,

    /// Judge the rungs in f32, or in the int8 of the bundle's `model.int8`: those that it holds.
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    pub precision: Precision,

    /// Where rungs in f32 run: auto, cpu, cuda, cuda:N, several GPUs as cuda:0,1, or cuda:all.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// In what GPUs compute. Sums, softmax and norms are in f32 always.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = GpuPrecision::default())]
    pub gpu_precision: GpuPrecision,

    /// Neighbours that vote.
    #[arg(long, value_name = "K", default_value_t = 20, value_parser = at_least_one)]
    pub neighbours: usize,

    /// A neighbour's vote is exp(cosine / temperature).
    #[arg(long, value_name = "T", default_value_t = 0.07, value_parser = positive)]
    pub temperature: f64,

    /// Leave the linear probe away.
    #[arg(long)]
    pub no_probe: bool,

    /// Draw accuracy against MACs (without --bank: fidelity) to this SVG file.
    #[arg(long, value_name = "FILE")]
    pub svg: Option<PathBuf>,

    /// Write the embeddings of every rung to this folder, a safetensors file for each bundle.
    #[arg(long, value_name = "DIR")]
    pub features: Option<PathBuf>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,

    /// Say nothing on stderr but errors.
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// The rungs to judge of a ladder with `count` ones, rising.
    ///
    /// # Errors
    /// If one is not on the ladder.
    pub fn rungs_of(&self, count: usize) -> Result<Vec<usize>, EvalError> {
        let Some(rungs) = &self.rungs else { return Ok((0..count).collect()) };
        if let Some(&found) = rungs.iter().find(|rung| **rung >= count) {
            return Err(EvalError::NoSuchRung { found, last: count - 1 });
        }
        let mut rungs = rungs.clone();
        rungs.sort_unstable();
        rungs.dedup();
        Ok(rungs)
    }
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&number| number > 0).ok_or_else(|| "expected a whole number above zero".to_owned())
}

fn positive(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number > 0.0)
        .ok_or_else(|| "expected a number above zero".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn rungs_are_checked_against_the_ladder() {
        let options = |rungs: &str| Options::parse_from(["host-eval", "b", "--query", "q", "--rungs", rungs]);
        assert_eq!(options("5,0,5").rungs_of(6).unwrap(), [0, 5]);
        let error = options("6").rungs_of(6).unwrap_err().to_string();
        assert_eq!(error, "there is no rung 6: the ladder has rungs 0 to 5");
    }

    #[test]
    fn nonsense_is_refused() {
        for wrong in [["--neighbours", "0"], ["--temperature", "0"], ["--temperature", "nan"], ["--rungs", "a"]] {
            let line = ["host-eval", "b", "--query", "q"].into_iter().chain(wrong);
            assert!(Options::try_parse_from(line).is_err(), "{wrong:?}");
        }
    }
}
