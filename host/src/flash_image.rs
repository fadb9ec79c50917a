//! Makes the image for the flash of a board without an operating system: `host-flash image`.

use std::io;
use std::path::PathBuf;

use clap::Args;
use headroom_device::bundle::{Bundle, BundleError};
use headroom_device::whole_file;
use headroom_shared::FlashImageError;
use headroom_shared::board::{DeploymentMethod, MemoryRegion};
use serde::Serialize;

use crate::boards::{self, UnknownBoard};
use crate::prune::with_prefix;

/// The version of what is printed as JSON. A field is only ever added within a version.
pub const IMAGE_VERSION: u32 = 1;

/// The command line of `host-flash image`.
#[derive(Clone, Debug, Args)]
pub struct ImageArguments {
    /// The board, such as qemu-mps2-an500.
    #[arg(long, value_name = "BOARD")]
    pub target: String,

    /// The bundle.
    #[arg(long, value_name = "DIR")]
    pub bundle: PathBuf,

    /// The image.
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The image that was written.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// [`IMAGE_VERSION`].
    pub version: u32,
    pub target: String,
    /// The SHA-256 of the bundle's manifest.
    pub bundle: String,
    pub image: PathBuf,
    pub bytes: u64,
    /// Where it goes.
    pub address: u32,
    /// The room that there is.
    pub region_bytes: u32,
    /// The chip as probe-rs calls it, where a probe brings the image there.
    pub chip: Option<String>,
}

impl ImageReport {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let bytes = |bytes: u64| with_prefix(bytes as f64, "B");
        let head = format!(
            "bundle   {}\nimage    {}, {} of {} at {:#010x}",
            self.bundle,
            self.image.display(),
            bytes(self.bytes),
            bytes(self.region_bytes.into()),
            self.address
        );
        let Some(chip) = &self.chip else { return head };
        format!(
            "{head}\nflash    probe-rs download --chip {chip} --binary-format bin --base-address {:#010x} --verify {}",
            self.address,
            self.image.display()
        )
    }
}

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    #[error("there is no such board")]
    Board(#[from] UnknownBoard),
    #[error("`{target}` runs an operating system and takes bundles, not images")]
    NoMicrocontroller { target: String },
    #[error("cannot open the bundle `{}`", path.display())]
    Bundle { path: PathBuf, source: BundleError },
    #[error("the bundle was made for `{found}`, not for `{target}`")]
    OtherBoard { target: String, found: String },
    #[error("the bundle has no integer model, and the board computes in nothing else")]
    NoIntegerModel,
    #[error("the bundle cannot be an image")]
    Image(#[from] FlashImageError),
    #[error("the image has {needed} bytes, the flash that `{target}` has for it {}", region.bytes)]
    TooLarge { target: String, needed: u64, region: MemoryRegion },
    #[error("cannot write `{}`", path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl ImageError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Bundle { source, .. } => source.hint(),
            Self::NoMicrocontroller { target } => Some(format!("`host-flash --target {target} --to HOST` installs it")),
            Self::OtherBoard { target, .. } | Self::TooLarge { target, .. } => {
                Some(format!("make one with `host-prune --target {target}`"))
            }
            Self::NoIntegerModel => Some("make a bundle with `host-prune --precision int8`".to_owned()),
            _ => None,
        }
    }
}

/// Makes and writes the image of a bundle.
///
/// # Errors
/// If board, bundle and room do not fit together, or the image cannot be written.
pub fn write(arguments: &ImageArguments) -> Result<ImageReport, ImageError> {
    let target = arguments.target.clone();
    let board = boards::find(&target)?.profile;
    let (Some(memory_map), DeploymentMethod::ProbeRs(probe)) = (&board.microcontroller, &board.deployment.method)
    else {
        return Err(ImageError::NoMicrocontroller { target });
    };
    let path = &arguments.bundle;
    let bundle = Bundle::open(path).map_err(|source| ImageError::Bundle { path: path.clone(), source })?;
    if bundle.manifest().target != target {
        return Err(ImageError::OtherBoard { target, found: bundle.manifest().target.clone() });
    }
    let image = bundle.flash_image(&board)?.ok_or(ImageError::NoIntegerModel)?;
    let (needed, region) = (image.len() as u64, memory_map.bundle_flash.value);
    if needed > region.bytes.into() {
        return Err(ImageError::TooLarge { target, needed, region });
    }
    let path = arguments.out.clone();
    whole_file::write(&path, &image).map_err(|source| ImageError::Write { path: path.clone(), source })?;
    Ok(ImageReport {
        version: IMAGE_VERSION,
        target,
        bundle: bundle.hash().to_owned(),
        image: path,
        bytes: needed,
        address: region.address,
        region_bytes: region.bytes,
        chip: probe.chip.as_ref().map(ToString::to_string),
    })
}
