//! Each refusal, with its message; and that it comes before the bundle is parsed.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use headroom_device::bundle::trust::{DEFAULT_POLICY_FILE, Distrust, Trust, TrustError};
use headroom_device::bundle::{Bundle, BundleError};
use headroom_tests::{ended, is_refused, program, say_skipped, succeeds};

use crate::workshop::{BOARD, Workshop, write_policy};

#[test]
fn a_signed_bundle_runs_and_is_verified() {
    let workshop = Workshop::new();
    workshop.sign("ours", 12);
    let policy = workshop.policy("", &["ours"]);
    let ended = ended(&mut workshop.device_run(&policy));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    assert!(ended.stdout.contains("\"input\":\"synthetic:0\""), "{}", ended.stdout);

    for by in [["--trust", "trust.toml"], ["--public-key", "ours.pub"]] {
        let mut verify = program("host-flash");
        verify.args(["verify", "--json", "--bundle"]).arg(workshop.bundle()).arg(by[0]).arg(workshop.path(by[1]));
        let report: serde_json::Value = serde_json::from_str(&succeeds(&mut verify)).unwrap();
        assert_eq!(
            (&report["board"], &report["release"], &report["signed"]),
            (&BOARD.into(), &12.into(), &true.into())
        );
        assert_eq!(report["key"], workshop.key("ours").public_key().fingerprint().to_string());
    }
}

#[test]
fn each_refusal_says_why_and_what_to_do() {
    let workshop = Workshop::new();
    let policy = workshop.policy(&format!("minimum_release = {{ {BOARD} = 10 }}"), &["ours"]);
    let refused = |expected: &[&str]| {
        is_refused(&mut workshop.device_run(&policy), expected);
        let mut verify = program("host-flash");
        verify.args(["verify", "--bundle"]).arg(workshop.bundle()).arg("--trust").arg(&policy);
        is_refused(&mut verify, expected);
    };
    refused(&["not signed", "host-flash sign"]);
    workshop.sign("foreign", 12);
    refused(&["not trusted", "does not list", "hint:"]);
    workshop.sign("ours", 9);
    refused(&["release 9", "none before 10", "newer release"]);
    workshop.sign_anything("ours", "jetson-orin-nano", 12);
    refused(&["for the board `jetson-orin-nano`", "this is a `jetson-orin`", "for this board"]);

    workshop.sign("ours", 12);
    let _ = succeeds(&mut workshop.device_run(&policy));
    let signature = workshop.bundle().join("manifest.sig");
    let text = fs::read_to_string(&signature).unwrap();
    fs::write(&signature, text.replace("release 12", "release 13")).unwrap();
    refused(&["not one of the key `ours`", "copy the bundle again"]);
    fs::write(&signature, text.replace("\nsignature ", "\nSignature ")).unwrap();
    refused(&["`manifest.sig` is refused", "expected the line `signature`"]);
    fs::write(&signature, &text).unwrap();

    let board = workshop.bundle().join("board.toml");
    let profile = fs::read_to_string(&board).unwrap();
    fs::write(&board, profile.replace("AGX Orin 64GB", "AGX Orin 32GB")).unwrap();
    refused(&["`board.toml` was changed"]);
    is_refused(&mut workshop.device_run(&policy), &["copy the bundle again"]);
}

#[test]
fn a_signature_for_one_board_on_a_bundle_for_another_is_refused() {
    let workshop = Workshop::new();
    let policy = workshop.policy("", &["ours"]);
    let manifest = fs::read_to_string(workshop.bundle().join("manifest.json")).unwrap();
    workshop.replace_manifest(manifest.replace(BOARD, "jetson-orin-nano").as_bytes());
    workshop.sign_anything("ours", BOARD, 12);
    is_refused(&mut workshop.device_run(&policy), &["signed for the board `jetson-orin`", "jetson-orin-nano"]);
}

/// The folder holds bytes that are no manifest, and no parts: whoever parses them before the signature holds says so.
#[test]
fn nothing_is_parsed_before_the_signature_holds() {
    let workshop = Workshop::new();
    let policy = workshop.policy(&format!("minimum_release = {{ {BOARD} = 10 }}"), &["ours"]);
    for entry in fs::read_dir(workshop.bundle()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    workshop.replace_manifest(b"\xff\0 no manifest");
    let trust = Trust::load(&policy).unwrap();
    let open = || match Bundle::open_with(&workshop.bundle(), Some(&trust)) {
        Ok(_) => panic!("this is no bundle"),
        Err(error) => error,
    };
    let distrust = || match open() {
        BundleError::Trust(TrustError::Distrusted { source }) => source,
        other => panic!("{other:?}"),
    };
    assert!(matches!(open(), BundleError::Trust(TrustError::Unsigned)));
    workshop.sign_anything("foreign", BOARD, 12);
    assert!(matches!(distrust(), Distrust::UnknownKey { .. }));
    workshop.sign_anything("ours", "jetson-orin-nano", 12);
    assert!(matches!(distrust(), Distrust::OtherBoard { .. }));
    workshop.sign_anything("ours", BOARD, 9);
    assert!(matches!(distrust(), Distrust::BelowMinimum { .. }));
    trust.raise_minimum(&statement(&workshop, 20)).unwrap();
    workshop.sign_anything("ours", BOARD, 12);
    assert!(matches!(open(), BundleError::Trust(TrustError::RolledBack { release: 12, minimum: 20 })));
    workshop.sign_anything("ours", BOARD, 20);
    assert!(matches!(open(), BundleError::Manifest { .. }));
    workshop.replace_manifest(b"\xff\0 another");
    assert!(matches!(distrust(), Distrust::ManifestChanged { .. }));
}

fn statement(workshop: &Workshop, release: u32) -> headroom_device::bundle::trust::Statement {
    let key = workshop.key("ours").public_key().fingerprint();
    headroom_device::bundle::trust::Statement::new(BOARD, release, [0; 32], key).unwrap()
}

#[test]
fn a_policy_that_requires_nothing_warns_and_still_refuses_wrong_signatures() {
    let workshop = Workshop::new();
    let policy = workshop.policy("require = false", &["ours"]);
    let unsigned = ended(&mut workshop.device_run(&policy));
    assert_eq!(unsigned.code, Some(0));
    assert_eq!(unsigned.stderr.matches("warning").count(), 1, "{}", unsigned.stderr);
    workshop.sign("foreign", 12);
    is_refused(&mut workshop.device_run(&policy), &["does not list"]);
}

#[test]
fn without_a_policy_a_device_warns_once() {
    if Path::new(DEFAULT_POLICY_FILE).exists() {
        say_skipped("without_a_policy_a_device_warns_once: this machine has a policy");
        return;
    }
    let workshop = Workshop::new();
    let mut command = program("device-run");
    command.arg("--bundle").arg(workshop.bundle()).args(["--synthetic", "3"]);
    let ended = ended(&mut command);
    assert_eq!(ended.code, Some(0));
    assert_eq!(ended.stderr.matches("warning").count(), 1, "{}", ended.stderr);
    assert!(ended.stderr.contains(DEFAULT_POLICY_FILE), "{}", ended.stderr);
}

#[test]
fn a_policy_that_cannot_be_relied_on_is_refused() {
    let workshop = Workshop::new();
    workshop.sign("ours", 12);
    let policy = workshop.policy("", &["ours"]);
    let good = fs::read_to_string(&policy).unwrap();
    is_refused(&mut workshop.device_run(&workshop.path("nowhere.toml")), &["nowhere.toml", "--trust"]);
    for mode in [0o664, 0o646] {
        fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
        is_refused(&mut workshop.device_run(&policy), &[&format!("{mode:o}"), "chmod go-w"]);
    }
    for (from, to, expected) in [
        ("version = 1", "version = 2", "version 2"),
        ("board =", "bord =", "bord"),
        ("BEGIN PUBLIC", "BEGIN PRIVATE", "the key `ours`"),
        ("[[key]]", "[[kee]]", "kee"),
    ] {
        write_policy(&policy, &good.replace(from, to));
        is_refused(&mut workshop.device_run(&policy), &["trust.toml", expected]);
    }
    fs::write(workshop.path("minimum-release.toml"), "damaged").unwrap();
    write_policy(&policy, &good);
    is_refused(&mut workshop.device_run(&policy), &["minimum-release.toml", "damaged", "restore"]);
}
