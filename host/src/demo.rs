//! The demo model: a small, really trained Vision Transformer inside the
//! program, so that the first run needs no download. `host/demo/README.md` is
//! its card.

/// The name of the demo model, for messages and default folder names.
pub const NAME: &str = "vit_cifar10_xs";

/// Its weights: a safetensors file.
pub const WEIGHTS: &[u8] = include_bytes!("../demo/model.safetensors");

/// Its config, as a hub would ship it.
pub const CONFIG: &str = include_str!("../demo/config.json");
