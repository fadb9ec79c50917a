//! Where things go on a board, and how.

use serde::{Deserialize, Deserializer, de};

use super::{Line, Name};
use crate::origin::Sourced;

/// Where things go on the board, and how. In the file it is one table, whose
/// other keys follow from `method`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deployment {
    /// Rust's name of the target.
    pub target_triple: Name,
    pub method: DeploymentMethod,
}

/// How releases reach the board.
#[expect(clippy::large_enum_variant, reason = "there is no heap to box in, and one of these in a program")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeploymentMethod {
    /// Over SSH, to a Linux system with systemd.
    Ssh(Ssh),
    /// Through a debug probe, into the flash of a microcontroller.
    ProbeRs(ProbeRs),
}

/// Folders on a Linux system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ssh {
    /// Folder that holds the releases and the link to the active one.
    pub root: Line,
    /// Folder of the programs; leads into the active release.
    pub programs: Line,
    /// Folder that holds one folder per bundle; `current` in it leads into the active release.
    pub bundles: Line,
}

/// What a debug probe needs to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRs {
    /// `None` where only an emulator has the chip.
    pub chip: Option<Chip>,
}

/// A chip that a debug probe programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chip {
    /// As probe-rs calls it.
    pub name: Name,
    /// How long its flash takes to erase one sector.
    pub sector_erase_milliseconds: Sourced<u32>,
    /// How fast erased flash takes bytes.
    pub program_bytes_per_second: Sourced<u32>,
    /// How fast bytes come through the probe, either way.
    pub transfer_bytes_per_second: Sourced<u32>,
}

impl Deployment {
    /// The folders of a Linux system, where the board runs one.
    #[must_use]
    pub fn ssh(&self) -> Option<&Ssh> {
        match &self.method {
            DeploymentMethod::Ssh(ssh) => Some(ssh),
            DeploymentMethod::ProbeRs(_) => None,
        }
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum MethodName {
    Ssh,
    ProbeRs,
}

/// The table as it stands in the file. Serde's own tagged enums need a heap.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    method: MethodName,
    target_triple: Name,
    root: Option<Line>,
    programs: Option<Line>,
    bundles: Option<Line>,
    chip: Option<Name>,
    sector_erase_milliseconds: Option<Sourced<u32>>,
    program_bytes_per_second: Option<Sourced<u32>>,
    transfer_bytes_per_second: Option<Sourced<u32>>,
}

impl Table {
    fn has_rates(&self) -> bool {
        let rates = [self.sector_erase_milliseconds, self.program_bytes_per_second, self.transfer_bytes_per_second];
        rates.iter().any(Option::is_some)
    }

    fn chip(self) -> Result<Option<Chip>, &'static str> {
        let Some(name) = self.chip else { return Ok(None) };
        Ok(Some(Chip {
            name,
            sector_erase_milliseconds: self.sector_erase_milliseconds.ok_or("sector_erase_milliseconds")?,
            program_bytes_per_second: self.program_bytes_per_second.ok_or("program_bytes_per_second")?,
            transfer_bytes_per_second: self.transfer_bytes_per_second.ok_or("transfer_bytes_per_second")?,
        }))
    }
}

impl<'de> Deserialize<'de> for Deployment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let table = Table::deserialize(deserializer)?;
        let target_triple = table.target_triple.clone();
        let method = match table.method {
            MethodName::Ssh => {
                if table.chip.is_some() || table.has_rates() {
                    return Err(de::Error::custom("`chip` and its rates are no keys of method \"ssh\""));
                }
                DeploymentMethod::Ssh(Ssh {
                    root: table.root.ok_or_else(|| de::Error::missing_field("root"))?,
                    programs: table.programs.ok_or_else(|| de::Error::missing_field("programs"))?,
                    bundles: table.bundles.ok_or_else(|| de::Error::missing_field("bundles"))?,
                })
            }
            MethodName::ProbeRs => {
                if table.root.is_some() || table.programs.is_some() || table.bundles.is_some() {
                    return Err(de::Error::custom("folders are no keys of method \"probe-rs\""));
                }
                if table.chip.is_none() && table.has_rates() {
                    return Err(de::Error::missing_field("chip"));
                }
                DeploymentMethod::ProbeRs(ProbeRs { chip: table.chip().map_err(de::Error::missing_field)? })
            }
        };
        Ok(Self { target_triple, method })
    }
}
