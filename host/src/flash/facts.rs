//! What a device says of itself.

use super::runtime_file::LibcVersion;
use super::transport::Output;

/// Whether the root folder can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Ready,
    Missing,
    Unwritable,
}

/// The answer of the script `probe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The device tree's names of the board, from the most to the least special.
    pub compatible: Vec<String>,
    /// The device tree's name for people.
    pub model: Option<String>,
    /// As `uname -m` names it.
    pub machine: String,
    /// The version of NVIDIA's system.
    pub l4t: Option<String>,
    /// glibc's version; `None` where the C library is another one or says nothing.
    pub libc: Option<LibcVersion>,
    /// The version of the CUDA toolkit.
    pub cuda: Option<String>,
    /// Those of the libraries asked for that were found.
    pub libraries: Vec<String>,
    /// Seconds since 1970.
    pub clock: Option<i64>,
    /// Tools that are not there.
    pub missing_tools: Vec<String>,
    pub root: Root,
    /// Bytes that can be written.
    pub free: Option<u64>,
    /// Whether systemd knows the unit.
    pub unit_is_known: bool,
    /// Whether this user may restart the unit.
    pub may_restart: bool,
}

impl Facts {
    /// Reads the answer.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |word| output.value(word).map(str::to_owned);
        let texts = |word| output.values(word).map(str::to_owned).collect();
        Self {
            compatible: output.value("compatible").unwrap_or_default().split_whitespace().map(str::to_owned).collect(),
            model: text("model"),
            machine: text("machine").unwrap_or_default(),
            l4t: text("l4t"),
            libc: output.value("libc").and_then(LibcVersion::find),
            cuda: text("cuda"),
            libraries: texts("library"),
            clock: output.value("clock").and_then(|value| value.parse().ok()),
            missing_tools: texts("missing"),
            root: match output.value("root") {
                Some("ready") => Root::Ready,
                Some("missing") => Root::Missing,
                _ => Root::Unwritable,
            },
            free: output.value("free").and_then(|value| value.parse::<u64>().ok()).map(|kib| kib.saturating_mul(1024)),
            unit_is_known: output.value("unit") == Some("loaded"),
            may_restart: output.value("restart") == Some("allowed"),
        }
    }
}
