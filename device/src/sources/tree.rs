//! Looking at the kernel's tree of files, which happens at the start and seldom after it.

use std::path::{Path, PathBuf};

use headroom_shared::BoardProfile;
use headroom_shared::board::{Capability, SensorLocation};

use super::attribute::Attribute;

/// The most entries of one folder that are looked at.
const MAX_ENTRIES: usize = 512;

/// The most bytes of a file that a look reads: a page, which is the most that sysfs has.
const MAX_BYTES: usize = 4096;

/// Where to look, and what the board is said to have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tree<'a> {
    pub(super) root: &'a Path,
    pub(super) profile: Option<&'a BoardProfile>,
}

/// A device of the hardware monitoring subsystem.
#[derive(Debug)]
pub(super) struct Hwmon {
    pub(super) folder: PathBuf,
    pub(super) name: String,
}

impl Tree<'_> {
    /// What lies in a folder, in the order of the numbers in the names; nothing where there is no such folder.
    pub(super) fn entries(&self, folder: &str) -> Vec<PathBuf> {
        entries(&self.root.join(folder))
    }

    /// All hwmon devices. The numbers in their folders mean nothing.
    pub(super) fn hwmon(&self) -> Vec<Hwmon> {
        let folders = self.entries("sys/class/hwmon").into_iter();
        let named = folders.filter_map(|folder| {
            let name = text(&folder.join("name")).or_else(|| text(&folder.join("device/name")))?;
            Some(Hwmon { folder, name })
        });
        named.collect()
    }

    /// Where the profile says that sensors of this capability are; nothing without a profile.
    pub(super) fn expected(&self, capability: Capability) -> impl Iterator<Item = &SensorLocation> {
        let sensors = self.profile.map_or(&[][..], |profile| &profile.sensors);
        sensors.iter().filter(move |sensor| sensor.capability == capability).map(|sensor| &sensor.find)
    }
}

/// See [`Tree::entries`].
pub(super) fn entries(folder: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = found.take(MAX_ENTRIES).filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort_by_cached_key(|path| {
        let name = file_name(path);
        let digits: String = name.chars().skip_while(|letter| !letter.is_ascii_digit()).collect();
        let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
        let stem = name.find(|letter: char| letter.is_ascii_digit()).map_or(name.len(), |at| at);
        (name[..stem].to_owned(), digits.parse::<u64>().ok(), name)
    });
    paths
}

/// The last part of a path.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// A text file that is not empty, without white space around it.
pub(super) fn text(path: &Path) -> Option<String> {
    text_within(path, &mut [0; MAX_BYTES + 1])
}

/// Like [`text`], of a file that the buffer is longer than.
pub(super) fn text_within(path: &Path, buffer: &mut [u8]) -> Option<String> {
    let text = Attribute::open(path.to_path_buf()).text(buffer).ok()?.to_owned();
    (!text.is_empty()).then_some(text)
}

/// A file with a whole number.
pub(super) fn number(path: &Path) -> Option<i64> {
    text(path)?.parse().ok()
}
