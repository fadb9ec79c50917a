//! The command line of `device-run`.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;

use super::DeviceChoice;
use crate::precision::Precision;
use crate::serve::ServeArguments;

/// Runs an elastic Vision Transformer from a bundle, at any of its sizes.
///
/// Results go to stdout as JSON lines, everything else to stderr.
#[derive(Clone, Debug, Parser)]
#[command(name = "device-run", version, args_override_self = true)]
pub struct Arguments {
    /// The bundle's folder, as host-prune wrote it.
    #[arg(long, value_name = "DIR", required_unless_present = "probe")]
    pub bundle: Option<PathBuf>,

    /// Run only bundles that this trust policy admits (the default is /etc/headroom/trust.toml, where it exists).
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,

    /// If the run succeeds, never again accept a bundle of an earlier release on this device.
    #[arg(long, conflicts_with_all = ["serve", "probe"])]
    pub raise_minimum: bool,

    /// An image, or a folder whose images are run (JPEG, PNG, WebP; recursive).
    #[arg(value_name = "IMAGE|DIR", required_unless_present_any = ["synthetic", "sweep", "calibrate", "predict", "probe", "socket", "stdin_rgb"])]
    pub input: Option<PathBuf>,

    /// Run so many synthetic frames instead of images.
    #[arg(long, value_name = "FRAMES", conflicts_with = "input")]
    pub synthetic: Option<u64>,

    /// Run this rung: 0 is the dense model.
    #[arg(long, value_name = "N", conflicts_with = "macs")]
    pub rung: Option<usize>,

    /// Run the best rung within a budget of multiply-accumulates, such as `60%` of dense, or `1.5G`.
    #[arg(long, value_name = "BUDGET")]
    pub macs: Option<MacsBudget>,

    /// Print this many classes with their probabilities (the default is 5, where the model has a classifier).
    #[arg(long, value_name = "K", conflicts_with = "embedding")]
    pub top_k: Option<usize>,

    /// Print the embedding instead of classes.
    #[arg(long)]
    pub embedding: bool,

    /// Run in f32 (the default), or in the int8 of the bundle's `model.int8`.
    #[arg(long, value_name = "PRECISION", conflicts_with = "probe")]
    pub precision: Option<Precision>,

    /// Run on the processor (`cpu`, the default), on an NVIDIA GPU in f16 (`cuda` or `cuda:N`), or on a GPU where one can
    /// run the model (`auto`).
    #[arg(long, value_name = "DEVICE", conflicts_with_all = ["probe", "precision"])]
    pub device: Option<DeviceChoice>,

    /// Threads that share each inference; the results do not depend on it (the default is one for each available core).
    #[arg(long, value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Time every rung on one synthetic frame at a time and print a table.
    #[arg(long, groups = ["report", "timing", "sensing"], conflicts_with_all = ["input", "synthetic", "rung", "macs", "top_k", "embedding"])]
    pub sweep: bool,

    /// Measure latency, and energy where power can be read, of every rung on this machine, and keep them beside the
    /// bundle for the governor: under the power mode, the precision, the number of threads and whatever else they depend
    /// on.
    #[arg(long, groups = ["report", "timing", "sensing"], conflicts_with_all = ["input", "synthetic", "rung", "macs", "top_k", "embedding"])]
    pub calibrate: bool,

    /// Tell what the sub-network of this many multiply-accumulates would cost, between the rungs that were calibrated.
    #[arg(long, value_name = "BUDGET", groups = ["report", "sensing"], conflicts_with_all = ["input", "synthetic", "rung", "macs", "top_k", "embedding"])]
    pub predict: Option<MacsBudget>,

    /// The file of measured profiles (the default is NAME.measured.toml beside the bundle's folder NAME).
    #[arg(long, value_name = "FILE")]
    pub profile: Option<PathBuf>,

    /// While calibrating, how long each rung runs, twice, for its power to be read; half of it to settle.
    #[arg(long, value_name = "SECONDS", default_value = "2", requires = "calibrate", value_parser = seconds)]
    pub power_seconds: Duration,

    /// Timed inferences of each rung in a sweep or a calibration.
    #[arg(long, value_name = "N", default_value_t = 30, requires = "timing", value_parser = clap::value_parser!(u32).range(1..))]
    pub repetitions: u32,

    /// Tell which sensors this machine has, what they say and what each would limit; with --bundle, as its board profile
    /// sees them.
    #[arg(long, groups = ["report", "sensing"], conflicts_with_all = ["input", "synthetic", "rung", "macs", "top_k", "embedding"])]
    pub probe: bool,

    /// Look for sensors in the parent of these folders instead: sys, var and etc.
    #[arg(long, value_name = "DIR", default_value = "/", requires = "sensing")]
    pub root: PathBuf,

    /// Print a sweep as JSON lines, any other report as one JSON value.
    #[arg(long, requires = "report")]
    pub json: bool,

    #[command(flatten)]
    pub serve: ServeArguments,
}

impl Arguments {
    /// The numbers that inferences compute with.
    #[must_use]
    pub fn precision(&self) -> Precision {
        self.precision.unwrap_or_default()
    }

    /// Where inferences run.
    #[must_use]
    pub fn device(&self) -> DeviceChoice {
        self.device.unwrap_or(DeviceChoice::Cpu)
    }

    /// The threads that share each inference.
    #[must_use]
    pub fn threads(&self) -> usize {
        let available = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.threads.unwrap_or_else(available).get()
    }
}

/// A time of 10 ms to ten minutes.
fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.01..=600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("`{text}` is no time: expected 0.01 to 600 seconds"))
}

/// A budget of multiply-accumulates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MacsBudget {
    /// A share of the dense model's, 0 to 1.
    Share(f64),
    /// Multiply-accumulates of one image.
    Absolute(u64),
}

impl MacsBudget {
    /// In multiply-accumulates of one image, rounded down.
    #[must_use]
    pub fn of(self, dense: u64) -> u64 {
        match self {
            Self::Share(share) => (dense as f64 * share) as u64,
            Self::Absolute(macs) => macs,
        }
    }
}

impl FromStr for MacsBudget {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || format!("`{text}` is no budget: expected a share such as 60%, or a count such as 800M or 1.5G");
        let number = |text: &str| {
            text.trim().parse::<f64>().ok().filter(|value| value.is_finite() && *value >= 0.0).ok_or_else(refuse)
        };
        if let Some(percent) = text.strip_suffix('%') {
            return Ok(Self::Share(number(percent)? / 100.0));
        }
        let (digits, scale) = match text.as_bytes().last() {
            Some(b'k') => (&text[..text.len() - 1], 1e3),
            Some(b'M') => (&text[..text.len() - 1], 1e6),
            Some(b'G') => (&text[..text.len() - 1], 1e9),
            Some(b'T') => (&text[..text.len() - 1], 1e12),
            _ => (text, 1.0),
        };
        Ok(Self::Absolute((number(digits)? * scale) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn budgets_are_shares_or_counts() {
        assert_eq!("60%".parse(), Ok(MacsBudget::Share(0.6)));
        assert_eq!("1.5G".parse(), Ok(MacsBudget::Absolute(1_500_000_000)));
        assert_eq!("12".parse(), Ok(MacsBudget::Absolute(12)));
        assert_eq!(MacsBudget::Share(0.5).of(101), 50);
        for wrong in ["", "%", "-5%", "NaN", "inf%", "sixty", "5X", "é"] {
            assert!(wrong.parse::<MacsBudget>().is_err(), "{wrong}");
        }
    }
}
