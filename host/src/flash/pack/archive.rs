//! A release with its installer as a tar archive.

use std::collections::BTreeMap;
use std::io::{self, Read};

use tar::{Builder, EntryType, Header};

use super::STEPS;
use crate::flash::release::Release;

/// The start of 2020 in UTC: the time of all files, whoever packs them and when.
const TIME: u64 = 1_577_836_800;

/// The archive.
///
/// # Errors
/// If a file of the release cannot be read any more, or has changed.
pub fn of(release: &Release, install: &str) -> io::Result<Vec<u8>> {
    let mut archive = Builder::new(Vec::new());
    let mut files = BTreeMap::from([("install".to_owned(), (0o755, install.as_bytes().to_vec()))]);
    for step in STEPS {
        files.insert(format!("steps/{}.sh", step.name()), (0o644, step.text().into_bytes()));
    }
    files.insert("release/SHA256SUMS".to_owned(), (0o644, release.sums.clone().into_bytes()));
    for folder in ["release", "release/bin", "release/bundle", "steps"] {
        files.insert(format!("{folder}/"), (0o755, Vec::new()));
    }
    for (sha256, path) in release.sums.lines().filter_map(|line| line.split_once("  ")) {
        let object = release.objects.iter().find(|object| object.sha256 == sha256);
        let object = object.ok_or_else(|| io::Error::other(format!("the release has no `{path}`")))?;
        let mut content = Vec::new();
        object.open(0)?.read_to_end(&mut content)?;
        if headroom_device::bundle::manifest::sha256_hex(&content) != sha256 {
            return Err(io::Error::other(format!("`{path}` has changed while it was packed")));
        }
        let mode = if path.starts_with("bin/") { 0o755 } else { 0o644 };
        files.insert(format!("release/{path}"), (mode, content));
    }
    for (path, (mode, content)) in files {
        let mut header = Header::new_ustar();
        header.set_entry_type(if path.ends_with('/') { EntryType::Directory } else { EntryType::Regular });
        header.set_mode(mode);
        header.set_mtime(TIME);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(content.len() as u64);
        archive.append_data(&mut header, &path, content.as_slice())?;
    }
    archive.into_inner()
}
