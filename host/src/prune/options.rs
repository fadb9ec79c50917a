//! The command line of `host-prune`.

use std::path::PathBuf;

use clap::Parser;
use headroom_device::run::Precision;

use super::{AttentionUnits, Method, TokenMerging};
use crate::compensation::{Damping, Mode};
use crate::executor::{DeviceChoice, GpuPrecision};
use crate::importance::FisherForm;
use crate::ranking::{Floors, RankBy, Sparsities};

/// Makes a pretrained Vision Transformer elastic, for a board.
///
/// Ranks every attention head and MLP neuron once, without labels and without
/// retraining, and writes a bundle that device-run serves at any size. The
/// result goes to stdout, progress to stderr.
#[derive(Clone, Debug, Parser)]
#[command(name = "host-prune", version, args_override_self = true)]
pub struct Options {
    /// The board to prune for; an unknown name lists the known ones.
    #[arg(long, value_name = "BOARD", required_unless_present = "describe")]
    pub target: Option<String>,

    /// Only tell what a checkpoint is, what of it can be pruned and what it costs [default: that of --model].
    #[arg(long, value_name = "MODEL", num_args = 0..=1, conflicts_with_all = ["out", "force", "resume", "images"])]
    pub describe: Option<Option<PathBuf>>,

    /// The checkpoint: a folder as the hubs ship it, or a .safetensors file [default: the built-in demo model].
    #[arg(long, value_name = "PATH")]
    pub model: Option<PathBuf>,

    /// A folder of calibration images, without labels (JPEG, PNG, WebP; recursive) [default: procedural images].
    #[arg(long, value_name = "DIR")]
    pub images: Option<PathBuf>,

    /// The folder to write the bundle to [default: bundles/MODEL-BOARD].
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Replace the bundle that is in that folder.
    #[arg(long)]
    pub force: bool,

    /// Go on with an interrupted job of the same inputs.
    #[arg(long)]
    pub resume: bool,

    /// The seed of all random choices: the same seed gives the same bundle.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,

    /// Where the model runs: auto, cpu, cuda, cuda:N, several GPUs as cuda:0,1, or cuda:all. On a GPU search, ladder and
    /// token schedules are judged there too; on the CPU with the engine that the device runs.
    #[arg(long, default_value = "auto")]
    pub device: DeviceChoice,

    /// In what GPUs compute importance, search and ladder. Sums, softmax and norms are in f32 always, and so are head
    /// basis and compensation, which are fitted on small differences.
    #[arg(long, value_enum, value_name = "TYPE", default_value_t = GpuPrecision::default())]
    pub gpu_precision: GpuPrecision,

    /// Images that go through the model together: on the CPU in importance with --method headroom, on a GPU in search and
    /// ladder too [default: what suits the CPU; on a GPU as many as it has room for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub batch: Option<u32>,

    /// Calibration images to use at most.
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    pub images_limit: u32,

    /// How structures are ranked [default: headroom; with --fisher snapvit].
    #[arg(long, value_enum)]
    pub method: Option<Method>,

    /// What a structure's score is weighed against, with --method headroom.
    #[arg(long, value_enum, default_value_t = RankBy::default())]
    pub rank_by: RankBy,

    /// What is removed from attention: whole heads, or dimensions inside heads too, which keeps more but rounds the
    /// dense rung anew [default: dimensions; heads with the other methods than headroom].
    #[arg(long, value_enum)]
    pub attention_units: Option<AttentionUnits>,

    /// Published SnapViT scores (.pt) to rank by, instead of importance and search.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["method", "fisher"])]
    pub scores: Option<PathBuf>,

    /// Function evaluations of the evolutionary search; 0 ranks by the scores alone [default: 50 with --method snapvit, else 0].
    #[arg(long, value_name = "N")]
    pub evaluations: Option<u32>,

    /// The (MLP, heads) sparsities that the search scores, rising, such as `0.25/0.1,0.45/0.3`; with --method headroom
    /// each names the MACs that it would leave.
    #[arg(long, value_name = "LIST", default_value_t = Sparsities::default())]
    pub sparsities: Sparsities,

    /// Share of each block's neurons that is never removed.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub min_neurons: f64,

    /// Share of each block's heads that is never removed.
    #[arg(long, value_name = "SHARE", default_value_t = 0.2)]
    pub min_heads: f64,

    /// How gradients become importance, with --method snapvit: squared per image, or accumulated first as the published
    /// code does [default: accumulated].
    #[arg(long, value_enum)]
    pub fisher: Option<FisherForm>,

    /// What makes up for removed structures [default: sequential; none with the other methods than headroom].
    #[arg(long, value_enum)]
    pub compensate: Option<Mode>,

    /// What compensation's ridge toward the original weights is measured in.
    #[arg(long, value_enum, default_value_t = Damping::default())]
    pub damping: Damping,

    /// In what the device computes: int8 adds rounded weights to the bundle and measures every rung with the integer
    /// engine [default: f32; int8 for a microcontroller, which computes in nothing else].
    #[arg(long, value_enum)]
    pub precision: Option<Precision>,

    /// Whether rungs merge similar tokens: off, on together with fewer structures, or only that.
    #[arg(long, value_enum, default_value_t = TokenMerging::default())]
    pub tokens: TokenMerging,

    /// Rungs of the ladder.
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u8).range(1..=headroom_shared::MAX_RUNGS as i64))]
    pub rungs: u8,

    /// Rungs at these shares of the dense model's MACs instead, such as `80%,60%,50%`; the dense rung is always there.
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = parse_share, conflicts_with = "rungs")]
    pub rung_macs: Vec<f64>,

    /// Attention heads of a block, where the checkpoint does not say.
    #[arg(long, value_name = "N")]
    pub heads: Option<usize>,

    /// Input size in pixels, such as `224` or `224x288` [default: the checkpoint's].
    #[arg(long, value_name = "SIZE", value_parser = parse_image_size)]
    pub image_size: Option<(usize, usize)>,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,

    /// Say nothing on stderr but errors.
    #[arg(long)]
    pub quiet: bool,
}

impl Options {
    /// What `host-prune --target BOARD` means.
    ///
    /// # Panics
    /// Never: everything else has a default, which a test shows.
    #[must_use]
    pub fn for_board(board: &str) -> Self {
        let line = ["host-prune".into(), format!("--target={board}")];
        Self::try_parse_from(line).expect("every other option has a default")
    }

    /// `--fisher` belongs to one method only, and chooses it.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method.unwrap_or(if self.fisher.is_some() { Method::Snapvit } else { Method::Headroom })
    }

    /// The published budget for the published method. Published scores have a search behind them already, and the
    /// scores of the default method compare without one.
    #[must_use]
    pub fn evaluations(&self) -> u32 {
        let searches = self.scores.is_none() && self.method() == Method::Snapvit;
        self.evaluations.unwrap_or(if searches { 50 } else { 0 })
    }

    /// Only the default method scores dimensions.
    #[must_use]
    pub fn attention_units(&self) -> AttentionUnits {
        let scored = self.scores.is_none() && self.method() == Method::Headroom;
        self.attention_units.unwrap_or(if scored { AttentionUnits::Dimensions } else { AttentionUnits::Heads })
    }

    /// The published method has no compensation that survives a switch, and baselines are compared as they are.
    #[must_use]
    pub fn compensate(&self) -> Mode {
        let compensates = self.scores.is_some() || self.method() == Method::Headroom;
        self.compensate.unwrap_or(if compensates { Mode::Sequential } else { Mode::None })
    }

    /// What is never removed.
    #[must_use]
    pub fn floors(&self) -> Floors {
        Floors { neurons: self.min_neurons, heads: self.min_heads }
    }
}

/// Height and width.
fn parse_share(text: &str) -> Result<f64, String> {
    let percent = text.trim().trim_end_matches('%').trim_end().parse::<f64>();
    percent
        .ok()
        .filter(|percent| *percent > 0.0 && *percent <= 100.0)
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a share such as `60%`, above zero and at most 100".to_owned())
}

fn parse_image_size(text: &str) -> Result<(usize, usize), String> {
    let side = |text: &str| {
        let side = text.parse::<usize>().ok().filter(|side| (1..=65_536).contains(side));
        side.ok_or_else(|| format!("`{text}` is no size: expected pixels, such as 224 or 224x288 (height x width)"))
    };
    match text.split_once('x') {
        Some((height, width)) => Ok((side(height)?, side(width)?)),
        None => side(text).map(|side| (side, side)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Options::command().debug_assert();
    }

    #[test]
    fn a_board_is_all_that_must_be_said() {
        for board in ["jetson-orin", "", "--out", "a b"] {
            assert_eq!(Options::for_board(board).target.as_deref(), Some(board));
        }
    }

    #[test]
    fn shares_are_percentages() {
        assert_eq!(parse_share("60%"), Ok(0.6));
        assert_eq!(parse_share("100"), Ok(1.0));
        for wrong in ["", "0", "-1%", "101%", "nan", "x"] {
            assert!(parse_share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn image_sizes_are_one_or_two_sides() {
        assert_eq!(parse_image_size("224"), Ok((224, 224)));
        assert_eq!(parse_image_size("48x24"), Ok((48, 24)));
        for wrong in ["", "0", "x", "224x", "-1", "1e3", "99999999999999999999"] {
            assert!(parse_image_size(wrong).is_err(), "{wrong}");
        }
    }
}
