//! What is installed on a device.

use serde::Serialize;

use super::device::owner_of;
use super::release::Description;
use super::transport::Output;

/// A release on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Installed {
    pub hash: String,
    /// `None` if `release.json` is of another version.
    pub description: Option<Description>,
}

/// The answer of the script `status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Status {
    /// The release that the unit starts.
    pub active: Option<String>,
    /// The release that was active and healthy before.
    pub previous: Option<String>,
    /// Whether an activation was cut off before the active release had proved
    /// healthy, or goes on at this moment.
    pub unproven: bool,
    /// What an unproven release would be rolled back to.
    pub fallback: Option<String>,
    /// Who is at work on the device.
    pub locked_by: Option<String>,
    /// As `systemctl is-active` names it.
    pub unit: String,
    /// How the last activation ended.
    pub last_activation: Option<String>,
    pub releases: Vec<Installed>,
}

impl Status {
    /// Reads the answer.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        let text = |word| output.value(word).map(str::to_owned);
        let pending = text("pending");
        Self {
            active: text("current"),
            previous: text("previous"),
            unproven: pending.is_some(),
            fallback: pending.filter(|hash| hash != "none"),
            locked_by: output.value("locked").map(owner_of),
            unit: text("unit").unwrap_or_else(|| "unknown".to_owned()),
            last_activation: text("outcome"),
            releases: output
                .values("release")
                .filter_map(|line| line.split_once(' '))
                .map(|(hash, json)| Installed { hash: hash.to_owned(), description: serde_json::from_str(json).ok() })
                .collect(),
        }
    }

    /// The release that `--rollback` activates.
    #[must_use]
    pub fn way_back(&self) -> Option<&str> {
        if self.unproven { self.fallback.as_deref() } else { self.previous.as_deref() }
    }
}
