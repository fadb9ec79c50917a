//! Secret keys are kept, and public keys are changed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use headroom_tests::{ended, is_refused, program, succeeds};

use crate::workshop::Workshop;

#[test]
fn keys_are_changed_without_a_day_on_which_nothing_runs() {
    let workshop = Workshop::new();
    let runs = |policy: &Path| ended(&mut workshop.device_run(policy)).code == Some(0);
    workshop.sign("old", 11);
    assert!(runs(&workshop.policy("", &["old"])));
    // The new key is added; the old release still runs.
    let both = workshop.policy("", &["old", "new"]);
    assert!(runs(&both));
    // Releases are signed with the new key.
    workshop.sign("new", 12);
    assert!(runs(&both));
    // The old key is removed.
    let only_new = workshop.policy("", &["new"]);
    assert!(runs(&only_new));
    workshop.sign("old", 13);
    is_refused(&mut workshop.device_run(&only_new), &["does not list"]);
}

#[test]
fn an_old_key_can_be_limited_to_what_it_has_signed() {
    let workshop = Workshop::new();
    let policy = workshop.policy("", &["new", "old"]);
    // The last entry is the old key's.
    let text = fs::read_to_string(&policy).unwrap() + "releases = { to = 11 }\n";
    crate::workshop::write_policy(&policy, &text);
    workshop.sign("old", 11);
    let _ = succeeds(&mut workshop.device_run(&policy));
    workshop.sign("old", 12);
    is_refused(&mut workshop.device_run(&policy), &["release 12", "key `old`", "releases 0 to 11"]);
    workshop.sign("new", 12);
    let _ = succeeds(&mut workshop.device_run(&policy));
}

#[test]
fn secret_keys_are_refused_where_others_can_read_them() {
    let workshop = Workshop::new();
    workshop.key("ours");
    let path = workshop.path("ours");
    let mode = |path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(path.clone()), mode(workshop.path("ours.pub"))), (0o600, 0o644));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    is_refused(workshop.sign_command(12).arg("--key").arg(&path), &["640", "chmod 600"]);
    assert!(!workshop.bundle().join("manifest.sig").exists());
    is_refused(&mut workshop.sign_command(12), &["no secret key", "HEADROOM_SIGNING_KEY", "keygen"]);
    is_refused(program("host-flash").args(["keygen", "--out"]).arg(&path), &["there already", "never replaced"]);
}

#[test]
fn a_secret_key_in_the_environment_signs_and_is_not_printed() {
    let workshop = Workshop::new();
    workshop.key("ours");
    let pem = fs::read_to_string(workshop.path("ours")).unwrap();
    let policy = workshop.policy("", &["ours"]);
    let signed = ended(workshop.sign_command(12).env("HEADROOM_SIGNING_KEY", &pem));
    assert_eq!(signed.code, Some(0), "{}", signed.stderr);
    let _ = succeeds(&mut workshop.device_run(&policy));
    let secret = pem.lines().nth(1).unwrap();
    let broken = format!("{secret}{secret}");
    let refused = ended(workshop.sign_command(12).env("HEADROOM_SIGNING_KEY", &broken));
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("HEADROOM_SIGNING_KEY holds no ed25519 secret key"), "{}", refused.stderr);
    let help = ended(program("host-flash").args(["sign", "--help"]).env("HEADROOM_SIGNING_KEY", &pem));
    for text in [signed.stdout, signed.stderr, refused.stdout, refused.stderr, help.stdout] {
        assert!(!text.contains(secret));
    }
}

#[test]
fn what_no_device_could_open_is_not_signed() {
    let workshop = Workshop::new();
    workshop.key("ours");
    fs::write(workshop.bundle().join("board.toml"), "name = 1").unwrap();
    is_refused(workshop.sign_command(12).arg("--key").arg(workshop.path("ours")), &["board.toml"]);
    assert!(!workshop.bundle().join("manifest.sig").exists());
}
