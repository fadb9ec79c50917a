//! What came of it, for people and as JSON.

use comfy_table::Table;
use comfy_table::presets::UTF8_BORDERS_ONLY;
use headroom_device::error_text::causes;
use serde::Serialize;

use super::error::FlashError;
use super::status::Status;
use crate::prune::with_prefix;

/// The version of the JSON that `host-flash --json` prints.
pub const FLASH_VERSION: u32 = 1;

/// What came of one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The release is active and healthy.
    Activated { release: String, before: Option<String>, sent_bytes: u64 },
    /// The release was active already.
    Unchanged { release: String },
    /// `--dry-run`: what would be done.
    Planned { release: String, before: Option<String>, missing_bytes: u64, missing_files: usize },
    /// `--status` and `--list`.
    Status(Status),
    /// It failed.
    Failed(Failure),
}

/// An error, its causes and a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    pub error: String,
    pub causes: Vec<String>,
    pub hint: Option<String>,
}

impl Failure {
    /// Says what an error says.
    #[must_use]
    pub fn of(error: &FlashError) -> Self {
        Self { error: error.to_string(), causes: causes(error), hint: error.hint() }
    }
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostReport {
    /// As it stands after `--to`.
    pub host: String,
    #[serde(flatten)]
    pub outcome: Outcome,
    /// What is odd and did not hinder.
    pub warnings: Vec<String>,
    pub milliseconds: u64,
}

/// All devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlashReport {
    /// [`FLASH_VERSION`].
    pub version: u32,
    pub target: String,
    pub hosts: Vec<HostReport>,
}

/// As much of a hash as people need.
#[must_use]
pub fn short(hash: &str) -> &str {
    hash.get(..12).unwrap_or(hash)
}

impl FlashReport {
    /// Whether every device did what was asked.
    #[must_use]
    pub fn is_success(&self) -> bool {
        !self.hosts.iter().any(|host| matches!(host.outcome, Outcome::Failed(_)))
    }

    /// A table with a line for each device; with `list`, a table of releases for each.
    #[must_use]
    pub fn text(&self, list: bool) -> String {
        let mut parts = vec![self.table()];
        for host in &self.hosts {
            if let (true, Outcome::Status(status)) = (list, &host.outcome) {
                parts.push(releases(&host.host, status));
            }
        }
        parts.join("\n")
    }

    /// What is odd and what failed, with causes and hints, a line each; not part of the result.
    #[must_use]
    pub fn messages(&self) -> Vec<String> {
        let mut messages = Vec::new();
        for host in &self.hosts {
            messages.extend(host.warnings.iter().map(|warning| format!("warning: {}: {warning}", host.host)));
            if let Outcome::Failed(failure) = &host.outcome {
                messages.push(format!("error: {}: {}", host.host, failure.error));
                messages.extend(failure.causes.iter().map(|cause| format!("  cause: {cause}")));
                messages.extend(failure.hint.iter().map(|hint| format!("hint: {hint}")));
            }
        }
        messages
    }

    fn table(&self) -> String {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        table.set_header(["device", "outcome", "release", "before", "detail"]);
        for host in &self.hosts {
            let hash = |hash: &Option<String>| hash.as_deref().map_or("-", short).to_owned();
            let (outcome, release, before, detail) = match &host.outcome {
                Outcome::Activated { release, before, sent_bytes } => {
                    let sent = if *sent_bytes == 0 { String::new() } else { format!("{} sent", bytes(*sent_bytes)) };
                    ("activated", short(release).to_owned(), hash(before), sent)
                }
                Outcome::Unchanged { release } => {
                    ("unchanged", short(release).to_owned(), String::new(), String::new())
                }
                Outcome::Planned { release, before, missing_bytes, missing_files } => (
                    "planned",
                    short(release).to_owned(),
                    hash(before),
                    format!("would send {missing_files} files, {}", bytes(*missing_bytes)),
                ),
                Outcome::Status(status) => (
                    if status.unproven { "unproven" } else { status.unit.as_str() },
                    hash(&status.active),
                    hash(&status.previous),
                    status.locked_by.as_ref().map_or_else(String::new, |owner| format!("locked by {owner}")),
                ),
                Outcome::Failed(failure) => ("failed", String::new(), String::new(), failure.error.clone()),
            };
            table.add_row([host.host.as_str(), outcome, &release, &before, &detail]);
        }
        table.to_string()
    }
}

fn releases(host: &str, status: &Status) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_BORDERS_ONLY);
    table.set_header(["release", "state", "model", "target", "bundle", "runtime"]);
    for release in &status.releases {
        let state = match Some(&release.hash) {
            hash if hash == status.active.as_ref() => "active",
            hash if hash == status.previous.as_ref() => "previous",
            _ => "",
        };
        let description = release.description.as_ref();
        let text = |of: fn(&super::release::Description) -> &str| description.map_or("?", of);
        table.add_row([
            short(&release.hash),
            state,
            text(|description| &description.model),
            text(|description| &description.target),
            text(|description| short(&description.bundle)),
            text(|description| short(&description.runtime)),
        ]);
    }
    format!("{host}\n{table}")
}

fn bytes(count: u64) -> String {
    with_prefix(count as f64, "B")
}
