//! A device with a trust policy, to which host-flash brings a bundle that the policy refuses.

use std::fs;
use std::path::Path;

use headroom_device::bundle::trust::SIGNATURE_FILE;
use headroom_host::flash::device::Device;
use headroom_host::flash::{FlashError, Outcome};
use headroom_host::progress::Silent;
use headroom_tests::{program, succeeds};

use crate::device::{Behaviour, FakeDevice, GOOD, Source, board, job, write_program};
use crate::local_shell::LocalShell;
use crate::random_bundle;

/// A bundle that runs, and a runtime that runs it under the policy.
fn source(name: &str, seed: u64, policy: &Path) -> Source {
    let source = Source::new(name, GOOD);
    fs::remove_dir_all(source.bundle()).unwrap();
    random_bundle::write(&source.bundle(), &random_bundle::tiny(), seed, 4);
    let real = program("device-run").get_program().to_str().unwrap().to_owned();
    let Behaviour { version, serve, .. } = GOOD;
    let infer = format!("exec {real:?} \"$@\" --synthetic 1 --trust {policy:?}");
    let cases = format!("--version) {version} ;;\n--serve) {serve} ;;\n--bundle) {infer} ;;");
    write_program(&source.runtime(), &format!("#!/bin/sh\ncase $1 in\n{cases}\nesac\n"));
    source
}

fn install(device: &FakeDevice, source: &Source) -> Result<Outcome, FlashError> {
    let (board, root, system) = (board(), device.root_text(), device.system_text());
    let mut job = job(&board, &root, &system);
    // The random bundles are for the smaller board.
    job.wish.allow_board_mismatch = true;
    let shell = LocalShell::new(device);
    job.install(&Device::new(&shell, &root), &source.release(), false, &Silent, &mut Vec::new())
}

#[test]
fn the_signature_travels_and_an_unsigned_release_is_rolled_back() {
    let device = FakeDevice::new();
    let (key, policy) = (device.path("key"), device.path("trust.toml"));
    let _ = succeeds(program("host-flash").args(["keygen", "--out"]).arg(&key));
    let public = fs::read_to_string(device.path("key.pub")).unwrap();
    let key_entry = format!("[[key]]\nname = \"ours\"\npublic_key = \"\"\"\n{public}\"\"\"\n");
    let state = device.path("state/minimum-release.toml");
    let text = format!("version = 1\nboard = \"jetson-orin-nano\"\nminimum_release_file = {state:?}\n{key_entry}");
    fs::write(&policy, text).unwrap();
    fs::set_permissions(&policy, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();

    let signed = source("signed", 1, &policy);
    let mut sign = program("host-flash");
    sign.args(["sign", "--release", "1", "--key"]).arg(&key).arg("--bundle").arg(signed.bundle());
    let _ = succeeds(&mut sign);
    install(&device, &signed).unwrap();
    let active = signed.release().hash;
    assert_eq!(device.active(), active);
    let sent = device.root().join("releases").join(&active).join("bundle").join(SIGNATURE_FILE);
    assert_eq!(fs::read(sent).unwrap(), fs::read(signed.bundle().join(SIGNATURE_FILE)).unwrap());

    let error = install(&device, &source("unsigned", 2, &policy)).unwrap_err();
    assert!(matches!(&error, FlashError::RolledBack { .. }), "{error}");
    assert!(error.hint().unwrap().contains("host-flash sign"), "{:?}", error.hint());
    assert_eq!(device.active(), active);
}
