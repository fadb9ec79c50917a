//! OpenSSL makes, reads and checks what we do.

use std::fs;
use std::process::Command;

use headroom_device::bundle::trust::{PublicKey, SignedStatement};
use headroom_tests::{program, say_skipped, succeeds};

use crate::workshop::Workshop;

fn is_missing(test: &str) -> bool {
    let is_there = Command::new("openssl").arg("version").output().is_ok_and(|output| output.status.success());
    if !is_there {
        say_skipped(&format!("{test}: no openssl"));
    }
    !is_there
}

fn openssl(workshop: &Workshop, arguments: &str) -> String {
    let folder = workshop.path("");
    succeeds(Command::new("openssl").current_dir(folder).args(arguments.split(' ')))
}

#[test]
fn keys_of_openssl_sign() {
    if is_missing("keys_of_openssl_sign") {
        return;
    }
    let workshop = Workshop::new();
    let _ = openssl(&workshop, "genpkey -algorithm ed25519 -out theirs");
    let _ = openssl(&workshop, "pkey -in theirs -pubout -out theirs.pub");
    workshop.sign("theirs", 12);
    let _ = succeeds(&mut workshop.device_run(&workshop.policy("", &["theirs"])));
    let mut verify = program("host-flash");
    verify.args(["verify", "--bundle"]).arg(workshop.bundle()).arg("--public-key").arg(workshop.path("theirs.pub"));
    let _ = succeeds(&mut verify);
}

#[test]
fn openssl_reads_our_keys_and_checks_our_signatures() {
    if is_missing("openssl_reads_our_keys_and_checks_our_signatures") {
        return;
    }
    let workshop = Workshop::new();
    workshop.sign("ours", 12);
    let public = fs::read_to_string(workshop.path("ours.pub")).unwrap();
    assert_eq!(openssl(&workshop, "pkey -in ours -pubout"), public);
    let digest = {
        let _ = openssl(&workshop, "pkey -pubin -in ours.pub -outform DER -out ours.der");
        openssl(&workshop, "dgst -sha256 -r ours.der")
    };
    let fingerprint = PublicKey::from_pem(&public).unwrap().fingerprint().to_string();
    assert_eq!(digest.split(' ').next(), Some(fingerprint.as_str()));

    let file = fs::read_to_string(workshop.bundle().join("manifest.sig")).unwrap();
    let signed: String = file.split_inclusive('\n').take(5).collect();
    fs::write(workshop.path("signed"), signed).unwrap();
    let signature = SignedStatement::decode(file.as_bytes()).unwrap().signature;
    fs::write(workshop.path("signature"), signature).unwrap();
    let _ = openssl(&workshop, "pkeyutl -verify -pubin -inkey ours.pub -rawin -in signed -sigfile signature");
}
