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
//! | `model.int8` | weights and corrections in eight-bit integers; optional ([`headroom_shared::integer_model`]) |
//! | `model.json` | the model's [`Description`](crate::model::Description) |
//! | `board.toml` | the board's profile |
//! | `config.json` | the original checkpoint's config, for other tools |
//! | `ladder.svg` | fidelity against MACs as a picture |
//! | `manifest.sig` | who vouches for the manifest; optional, and not one of the parts ([`trust`]) |
//!
//! [`Bundle::open`] checks every hash before it parses anything, and parses the
//! very bytes that it hashed. Files that the manifest does not list are not read.
//! [`Bundle::open_with`] also asks a device's trust policy, before it parses the manifest.

mod error;
pub mod manifest;
mod open;
mod read;
pub mod trust;

pub use error::BundleError;
pub use manifest::{Manifest, Part};
pub use open::{Bundle, bundle_hash, read_manifest};
