//! The demo model: a small, really trained Vision Transformer inside the
//! program, so that the first run needs no download. `host/demo/README.md` is
//! its card.

use std::io;
use std::path::Path;

/// The name of the demo model, for messages and default folder names.
pub const NAME: &str = "vit_cifar10_xs";

const WEIGHTS: &[u8] = include_bytes!("../demo/model.safetensors");
const CONFIG: &[u8] = include_bytes!("../demo/config.json");

/// Writes the demo model's checkpoint, as a hub would ship it, into `folder`.
///
/// # Errors
/// If the files cannot be written.
pub fn write_checkpoint(folder: &Path) -> io::Result<()> {
    std::fs::write(folder.join("model.safetensors"), WEIGHTS)?;
    std::fs::write(folder.join("config.json"), CONFIG)
}
