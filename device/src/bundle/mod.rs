//! Bundles: what the host ships to a device.
//!
//! A bundle is a folder:
//!
//! | file | content |
//! |---|---|
//! | `manifest.json` | every part with its size and SHA-256 ([`Manifest`]) |
//! | `manifest.sha256` | the SHA-256 of `manifest.json`; `sha256sum -c` reads it |
//! | `structure.map` | shape, ranking and ladder ([`headroom_shared::StructureMap`]) |
//! | `model.safetensors` | the permuted weights under their original names |
//! | `corrections.safetensors` | at some rungs, what makes up for removed structures; optional ([`Corrections`](crate::model::Corrections)) |
//! | `model.json` | the model's [`Description`](crate::model::Description) |
//! | `board.toml` | the board's profile |
//! | `config.json` | the original checkpoint's config, for other tools |
//! | `ladder.svg` | fidelity against MACs as a picture |
//!
//! [`Bundle::open`] checks every hash before it parses anything, and parses the
//! very bytes that it hashed. Files that the manifest does not list are not read.

mod error;
pub mod manifest;
mod open;

pub use error::BundleError;
pub use manifest::{Manifest, Part};
pub use open::{Bundle, bundle_hash};
