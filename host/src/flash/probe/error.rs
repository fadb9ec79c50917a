//! Why a microcontroller was not flashed, and what the user can do about it.

use std::error::Error;

use headroom_device::bundle::trust::TrustError;

use super::firmware::FirmwareError;
use super::plan::{Content, PlanError};
use crate::flash_image::ImageError;

/// What a library that is not always built in says.
pub type Source = Box<dyn Error + Send + Sync>;

/// Why a board was not flashed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// Built without the feature `probe`.
    #[error("this host-flash was built without debug probes, and `{target}` takes nothing else")]
    NotBuiltIn { target: String },
    #[error("no debug probe can reach `{target}`: only an emulator has its chip")]
    NoChip { target: String },
    #[error("the chip of `{target}` cannot be programmed")]
    Chip { target: String, source: Source },
    #[error("the trust policy cannot be used")]
    Trust(#[from] TrustError),
    #[error("the bundle cannot go into this board")]
    Image(#[from] ImageError),
    #[error("the firmware is not for this board")]
    Firmware(#[from] FirmwareError),
    #[error("it does not fit the flash")]
    Plan(#[from] PlanError),
    #[error("no debug probe was found; on USB: {}", list(usb))]
    NoProbe { usb: Vec<String> },
    #[error("there is no debug probe `{wanted}`; found: {}", list(found))]
    OtherProbes { wanted: String, found: Vec<String> },
    #[error("there are {} debug probes: {}", found.len(), list(found))]
    SeveralProbes { found: Vec<String> },
    #[error("this user may not use the debug probe {probe}")]
    NotPermitted { probe: String },
    #[error("cannot use the debug probe {probe}")]
    Open { probe: String, source: Source },
    #[error("the debug probe {probe} cannot run at {kilohertz} kHz")]
    Speed { probe: String, kilohertz: u32, source: Source },
    #[error("cannot attach to the {chip} through {probe}")]
    Attach { chip: String, probe: String, source: Source },
    #[error("writing the {content} failed; its region is incomplete")]
    Write { content: Content, source: Source },
    #[error("the flash does not hold the {content} that was written")]
    Verify { content: Content },
    #[error("for the {content}, {erased} sectors were erased where {planned} were planned")]
    OtherSectors { content: Content, planned: usize, erased: usize },
    #[error("cannot restart the chip; all is written")]
    Reset { source: Source },
    #[error("interrupted; written so far: {}", list(written))]
    Interrupted { written: Vec<Content> },
}

fn list(items: &[impl ToString]) -> String {
    if items.is_empty() {
        return "nothing".to_owned();
    }
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Where Linux keeps probes from plain users, and what to do.
const UDEV: &str = "on Linux, the rules of https://probe.rs/docs/getting-started/probe-setup/ let you use it: put \
                    69-probe-rs.rules into /etc/udev/rules.d, run `sudo udevadm control --reload` and `sudo udevadm \
                    trigger`, and plug it in again (over SSH, your user must be in the group plugdev, too)";

impl ProbeError {
    /// What the user can do about it.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotBuiltIn { target } => Some(format!(
                "build with `cargo build --release -p headroom-host --features probe`, or use `host-flash image --target \
                 {target}` and the program probe-rs, as its output says"
            )),
            Self::NoChip { target } => Some(format!(
                "`host-flash image --target {target} --bundle DIR --out FILE` makes the image; boards/{target}/README.md \
                 tells how to run it in QEMU"
            )),
            Self::Chip { target, .. } => Some(format!(
                "`deployment.chip` in boards/{target}/board.toml must be a name that `probe-rs chip list` knows"
            )),
            Self::Trust(error) => error.hint(),
            Self::Image(error) => error.hint(),
            Self::Firmware(_) | Self::Plan(PlanError::Nothing { .. } | PlanError::Twice { .. }) => {
                Some("boards/README.md tells how the firmware of a board is built".into())
            }
            Self::Plan(PlanError::Misaligned { .. }) => {
                Some("the regions in the board's profile must be whole sectors of the chip".into())
            }
            Self::Plan(_) => Some(
                "the firmware must be linked for `microcontroller.firmware_flash` of the board's profile and nothing \
                 else"
                    .into(),
            ),
            Self::NoProbe { .. } => Some(format!("plug it in with a cable that carries data; {UDEV}")),
            Self::NotPermitted { .. } => Some(UDEV.into()),
            Self::OtherProbes { .. } | Self::SeveralProbes { .. } => {
                Some("say which with `--probe VID:PID[:SERIAL]`, as listed".into())
            }
            Self::Open { .. } => Some("another program may be using it: a debugger, an IDE, another host-flash".into()),
            Self::Speed { .. } => Some("leave --speed away, or ask for less".into()),
            Self::Attach { .. } => Some(
                "check power and wires; try `--speed 1000`, then `--connect-under-reset`, which a sleeping firmware may \
                 need"
                    .into(),
            ),
            Self::Write { .. } | Self::Verify { .. } => {
                Some("run the same command again; if it fails again, with a lower --speed".into())
            }
            Self::OtherSectors { .. } => Some("this is a fault of host-flash; please report it".into()),
            Self::Reset { .. } => Some("press the reset button of the board".into()),
            Self::Interrupted { .. } => Some("run the same command again; it begins anew".into()),
        }
    }
}
