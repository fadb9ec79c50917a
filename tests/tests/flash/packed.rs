//! Releases that come to the device as a file, and are installed there by the script in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use headroom_device::bundle::manifest::sha256_hex;
use headroom_tests::{Ended, ended, is_refused, program, repository, succeeds};
use serde_json::Value;
use tempfile::TempDir;

use crate::device::{Behaviour, FakeDevice, GOOD, Source};

/// `host-flash pack` into `out`.
fn packing(source: &Source, out: &Path) -> Command {
    let mut command = program("host-flash");
    command.args(["pack", "--target", "jetson-orin", "--steady", "0", "--json"]).arg("--out").arg(out);
    command.arg("--bundle").arg(source.bundle()).arg("--runtime").arg(source.runtime());
    command
}

fn packed(command: &mut Command) -> Value {
    serde_json::from_str(&succeeds(command)).unwrap()
}

/// An archive, unpacked.
fn unpacked(archive: &Path) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let _ = succeeds(Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(folder.path()));
    folder
}

/// A command on the device.
fn on(device: &FakeDevice, mut command: Command) -> Command {
    command.envs(device.environment()).env("HEADROOM_ROOT", device.root());
    command.env("HEADROOM_SYSTEM_ROOT", device.path("system"));
    command
}

fn install(device: &FakeDevice, package: &Path, words: &[&str]) -> Ended {
    let mut command = Command::new("sh");
    command.arg(package.join("install")).args(words);
    ended(&mut on(device, command))
}

/// Packs a source; returns the archive in a folder of its own.
fn archive(source: &Source) -> (TempDir, std::path::PathBuf) {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("release.tar");
    let _ = packed(&mut packing(source, &path));
    (home, path)
}

#[test]
fn a_package_installs_itself_is_judged_and_goes_back() {
    let device = FakeDevice::new();
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    let bad = Source::new("bad", Behaviour { infer: "exit 1", ..GOOD });
    let [(_a, old_file), (_b, new_file), (_c, bad_file)] = [&old, &new, &bad].map(archive);
    let [old_package, new_package, bad_package] = [&old_file, &new_file, &bad_file].map(|file| unpacked(file));

    let done = install(&device, old_package.path(), &[]);
    assert_eq!((done.code, device.active()), (Some(0), old.release().hash), "{}", done.stderr);
    assert!(done.stdout.contains("active"), "{}", done.stdout);
    assert_eq!(install(&device, new_package.path(), &[]).code, Some(0));
    assert_eq!(device.active(), new.release().hash);
    // What is there already is no failure.
    assert_eq!(install(&device, new_package.path(), &[]).code, Some(0));

    let refused = install(&device, bad_package.path(), &[]);
    assert_eq!((refused.code, device.active()), (Some(68), new.release().hash), "{}", refused.stderr);
    assert!(refused.stdout.contains("the health check failed with code 1"), "{}", refused.stdout);

    assert_eq!(install(&device, new_package.path(), &["--rollback"]).code, Some(0));
    assert_eq!(device.active(), old.release().hash);
    assert!(!device.has("lock"), "the lock is free again");
}

#[test]
fn what_does_not_fit_changes_nothing() {
    let device = FakeDevice::new();
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    let [(_a, old_file), (_b, new_file)] = [&old, &new].map(archive);
    let [old_package, package] = [&old_file, &new_file].map(|file| unpacked(file));
    assert_eq!(install(&device, old_package.path(), &[]).code, Some(0));
    let still = |device: &FakeDevice, ended: &Ended, code: i32, text: &str| {
        assert_eq!(ended.code, Some(code), "{}", ended.stderr);
        assert!(ended.stderr.contains(text), "{}", ended.stderr);
        assert_eq!(device.active(), old.release().hash);
        assert!(!device.has("lock"));
    };

    // One changed byte in any file of the release, on a device that has none of them.
    for part in ["bundle/model.safetensors", "bin/device-run", "release.json"] {
        let path = package.path().join("release").join(part);
        let whole = fs::read(&path).unwrap();
        let mut changed = whole.clone();
        changed[3] ^= 1;
        fs::write(&path, changed).unwrap();
        let device = device.copy();
        still(&device, &install(&device, package.path(), &[]), 65, "cannot be copied");
        fs::write(&path, whole).unwrap();
    }
    // A list of other files.
    let list = package.path().join("release/SHA256SUMS");
    let whole = fs::read_to_string(&list).unwrap();
    fs::write(&list, whole.replace("  bundle/", "  nothing/")).unwrap();
    let strange = install(&device, package.path(), &[]);
    assert_ne!(strange.code, Some(0));
    assert_eq!(device.active(), old.release().hash);
    fs::write(&list, whole).unwrap();

    device.is_board("raspberrypi,4-model-b\0brcm,bcm2711\0");
    still(&device, &install(&device, package.path(), &[]), 59, "this is no jetson-orin");
    let mut anywhere = Command::new("sh");
    anywhere.arg(package.path().join("install")).env("HEADROOM_ANY_BOARD", "1");
    assert_eq!(ended(&mut on(&device, anywhere)).code, Some(0));
    assert_eq!(device.active(), new.release().hash);

    device.is_board("nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0");

    // An object of the release has rotted on the device since.
    let object = sha256_hex(&fs::read(old.runtime()).unwrap());
    fs::write(device.root().join("objects").join(object), "rotten").unwrap();
    let mended = install(&device, old_package.path(), &[]);
    assert_eq!((mended.code, device.active()), (Some(0), old.release().hash), "{}", mended.stderr);

    let nowhere = FakeDevice::new();
    fs::remove_dir(nowhere.root()).unwrap();
    let ended = install(&nowhere, package.path(), &[]);
    assert!(ended.code == Some(60) && ended.stderr.contains("was the device prepared?"), "{}", ended.stderr);
}

#[test]
fn mender_installs_and_goes_back_by_its_module() {
    let device = FakeDevice::new();
    let (old, new) = (Source::new("old", GOOD), Source::new("new", GOOD));
    let bad = Source::new("bad", Behaviour { infer: "exit 1", ..GOOD });
    let deploy = |source: &Source| {
        let (_home, archive) = archive(source);
        let files = tempfile::tempdir().unwrap();
        for folder in ["files", "tmp"] {
            fs::create_dir(files.path().join(folder)).unwrap();
        }
        fs::copy(archive, files.path().join("files/release.tar")).unwrap();
        files
    };
    let state = |files: &TempDir, state: &str| {
        let mut module = Command::new(repository().join("device/update/mender-headroom"));
        module.arg(state).arg(files.path());
        ended(&mut on(&device, module))
    };
    let first = deploy(&old);
    assert_eq!(state(&first, "SupportsRollback").stdout, "Yes\n");
    assert_eq!(state(&first, "NeedsArtifactReboot").stdout, "No\n");
    assert_eq!(state(&first, "ArtifactInstall").code, Some(0));
    assert_eq!(state(&first, "Cleanup").code, Some(0));
    assert_eq!(device.active(), old.release().hash);

    // Installed, and then given up by Mender.
    let second = deploy(&new);
    assert_eq!(state(&second, "ArtifactInstall").code, Some(0));
    assert_eq!(device.active(), new.release().hash);
    assert_eq!(state(&second, "ArtifactRollback").code, Some(0));
    assert_eq!(device.active(), old.release().hash);

    // Went back by itself: Mender's rollback must not go back further.
    let third = deploy(&bad);
    assert_ne!(state(&third, "ArtifactInstall").code, Some(0));
    assert_eq!(state(&third, "ArtifactRollback").code, Some(0));
    assert_eq!(device.active(), old.release().hash);
}

#[test]
fn the_same_release_is_the_same_file_and_the_same_image() {
    let source = Source::new("a", GOOD);
    let home = tempfile::tempdir().unwrap();
    let path = |name: &str| home.path().join(name);
    let report = packed(&mut packing(&source, &path("one.tar")));
    let again = packed(&mut packing(&source, &path("two.tar")));
    assert_eq!(fs::read(path("one.tar")).unwrap(), fs::read(path("two.tar")).unwrap());
    assert_eq!((&report["sha256"], &report["release"]), (&again["sha256"], &source.release().hash.into()));
    is_refused(&mut packing(&source, &path("one.tar")), &["is there already", "--out"]);

    let report = packed(packing(&source, &path("image")).args(["--format", "oci"]));
    let json = |bytes: &[u8]| -> Value { serde_json::from_slice(bytes).unwrap() };
    // Every descriptor leads to a blob of its size and hash.
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap().to_owned();
        let content = fs::read(path("image/blobs/sha256").join(&digest)).unwrap();
        assert_eq!((sha256_hex(&content), content.len() as u64), (digest, descriptor["size"].as_u64().unwrap()));
        content
    };
    let read = |name: &str| json(&fs::read(path("image").join(name)).unwrap());
    assert_eq!(read("oci-layout")["imageLayoutVersion"], "1.0.0");
    let index = read("index.json");
    assert_eq!(index["manifests"][0]["digest"], report["manifest"]);
    let manifest = json(&blob(&index["manifests"][0]));
    let config = json(&blob(&manifest["config"]));
    assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
    assert_eq!(blob(&manifest["layers"][0]), fs::read(path("one.tar")).unwrap());
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 3, "nothing else is left");
}

#[test]
fn what_cannot_be_packed_is_refused() {
    let source = Source::new("a", GOOD);
    let home = tempfile::tempdir().unwrap();
    let out = home.path().join("release.tar");
    let refused = |change: &[&str], expected: &[&str]| {
        let mut command = packing(&source, &out);
        is_refused(command.args(change), expected);
        assert!(!out.exists());
    };
    refused(&["--target", "nucleo-h743zi"], &["no operating system", "host-flash image"]);
    refused(&["--target", "jetson-orin-nano"], &["for `jetson-orin`", "--allow-board-mismatch"]);
    refused(&["--runtime", "/dev/null"], &["runtime"]);
    refused(&["--out", "/no/such/folder/release.tar"], &["/no/such/folder"]);
    fs::write(source.bundle().join("model.json"), "other").unwrap();
    refused(&[], &["model.json"]);
}
