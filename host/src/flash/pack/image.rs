//! An archive as the one layer of an image in the OCI image layout.
//!
//! Source: the OCI image specification 1.1 (`image-layout.md`, `manifest.md`, `config.md`).

use std::fs;
use std::io;
use std::path::Path;

use headroom_device::bundle::manifest::sha256_hex;
use serde_json::{Value, json};

use crate::bundle::{parent_of, readable_by_others, sync_folder, write_synced};
use crate::flash::release::Release;

/// Writes the layout as the folder `path`, beside it first; returns the digest of the image's manifest.
///
/// # Errors
/// If it cannot be written; nothing is then left.
pub fn write(path: &Path, archive: &[u8], release: &Release) -> io::Result<String> {
    let parent = parent_of(path);
    let folder = tempfile::Builder::new().prefix(".oci.partial-").tempdir_in(&parent)?;
    let layout = Layout { folder: folder.path() };
    fs::create_dir_all(folder.path().join("blobs/sha256"))?;
    let layer = layout.add("application/vnd.oci.image.layer.v1.tar", archive)?;
    let architecture = match release.requirements.architecture {
        Some("aarch64") => "arm64",
        Some("x86_64") => "amd64",
        other => other.unwrap_or("unknown"),
    };
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {
            "Entrypoint": ["/release/bin/device-run"],
            "Cmd": ["--serve", "--bundle", "/release/bundle"],
        },
        "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
    });
    let config = layout.add("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config,
        "layers": [layer],
        "annotations": {
            "org.opencontainers.image.title": format!("{} for {}", release.description.model, release.description.target),
            "org.opencontainers.image.version": release.hash,
        },
    });
    let mut manifest = layout.add("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
    let digest = manifest["digest"].as_str().unwrap_or_default().to_owned();
    manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
    manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
    let index = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [manifest],
    });
    write_synced(&folder.path().join("index.json"), index.to_string().as_bytes())?;
    let version = json!({ "imageLayoutVersion": "1.0.0" });
    write_synced(&folder.path().join("oci-layout"), version.to_string().as_bytes())?;
    for part in ["blobs/sha256", "blobs", "."] {
        sync_folder(&folder.path().join(part))?;
    }
    readable_by_others(folder.path())?;
    fs::rename(folder.path(), path)?;
    // It is not there under its first name any more.
    let _ = folder.keep();
    sync_folder(&parent)?;
    Ok(digest)
}

struct Layout<'a> {
    folder: &'a Path,
}

impl Layout<'_> {
    /// Writes a blob; returns its descriptor.
    fn add(&self, media_type: &str, content: &[u8]) -> io::Result<Value> {
        let sha256 = sha256_hex(content);
        write_synced(&self.folder.join("blobs/sha256").join(&sha256), content)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{sha256}"), "size": content.len() }))
    }
}
