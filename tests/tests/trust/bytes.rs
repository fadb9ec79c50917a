//! The signature covers every byte that is loaded, and what is loaded is what was checked.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use headroom_device::bundle::trust::Trust;
use headroom_device::bundle::{Bundle, Manifest};

use crate::workshop::{BOARD, Workshop};

/// How many bytes of each part are changed, one at a time, spread evenly.
const PLACES: usize = 24;

fn manifest(workshop: &Workshop) -> Manifest {
    serde_json::from_slice(&fs::read(workshop.bundle().join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn any_changed_byte_of_any_file_is_refused() {
    let workshop = Workshop::new();
    workshop.sign("ours", 12);
    let trust = Trust::load(&workshop.policy("", &["ours"])).unwrap();
    let is_opened = || Bundle::open_with(&workshop.bundle(), Some(&trust)).is_ok();
    assert!(is_opened());
    let mut files: Vec<String> = manifest(&workshop).parts.into_iter().map(|part| part.name).collect();
    files.extend(["manifest.json", "manifest.sha256", "manifest.sig"].map(String::from));
    let all = fs::read_dir(workshop.bundle()).unwrap().count();
    assert_eq!(files.len(), all, "a file of the bundle is neither listed nor part of the signature");
    for name in &files {
        let path = workshop.bundle().join(name);
        let right = fs::read(&path).unwrap();
        // All bytes of what is checked first: the parts are not even read then.
        let places: Vec<usize> = if name.starts_with("manifest.") {
            (0..right.len()).collect()
        } else {
            (0..=PLACES).map(|place| place * (right.len() - 1) / PLACES).collect()
        };
        for place in places {
            let mut wrong = right.clone();
            wrong[place] ^= 1 << (place % 8);
            fs::write(&path, &wrong).unwrap();
            assert!(!is_opened(), "byte {place} of `{name}` was changed");
        }
        for wrong in [&right[..right.len() - 1], &[&right[..], &[0]].concat(), &[]] {
            fs::write(&path, wrong).unwrap();
            assert!(!is_opened(), "`{name}` has another length");
        }
        fs::remove_file(&path).unwrap();
        assert!(!is_opened(), "`{name}` was removed");
        fs::write(&path, &right).unwrap();
    }
    assert!(is_opened());
}

/// Corrections are loaded where the manifest lists them, and only there.
#[test]
fn a_file_that_the_manifest_does_not_list_is_not_loaded() {
    let workshop = Workshop::new();
    let trust = Trust::load(&workshop.policy("", &["ours"])).unwrap();
    let mut manifest = manifest(&workshop);
    manifest.parts.retain(|part| part.name != "corrections.safetensors");
    workshop.replace_manifest(&serde_json::to_vec(&manifest).unwrap());
    workshop.sign("ours", 12);
    for content in [&b"no corrections"[..], &[]] {
        fs::write(workshop.bundle().join("corrections.safetensors"), content).unwrap();
        let bundle = Bundle::open_with(&workshop.bundle(), Some(&trust)).unwrap();
        let map = bundle.structure_map();
        for rung in 0..map.rungs().len() {
            let sub_network = map.sub_network_of(rung).unwrap();
            assert!(bundle.corrected(rung, &sub_network).correction.is_none());
        }
    }
}

/// Another thread exchanges a part between two contents all the time. What is opened is always the signed one.
#[test]
fn what_was_checked_is_what_is_loaded() {
    let workshop = Workshop::new();
    workshop.sign("ours", 12);
    let trust = Trust::load(&workshop.policy("", &["ours"])).unwrap();
    let path = workshop.bundle().join("board.toml");
    let signed = fs::read_to_string(&path).unwrap();
    let other = signed.replace("AGX Orin 64GB", "AGX Orin 32GB");
    assert_ne!(signed, other);
    let is_over = AtomicBool::new(false);
    let (mut opened, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let beside = workshop.path("beside");
            while !is_over.load(Ordering::Relaxed) {
                for content in [&other, &signed] {
                    fs::write(&beside, content).unwrap();
                    fs::rename(&beside, &path).unwrap();
                }
            }
        });
        for _ in 0..200 {
            match Bundle::open_with(&workshop.bundle(), Some(&trust)) {
                Ok(bundle) => {
                    assert_eq!(bundle.board(), signed);
                    assert_eq!(bundle.statement().unwrap().board(), BOARD);
                    opened += 1;
                }
                Err(_) => refused += 1,
            }
            if opened > 3 && refused > 3 {
                break;
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert!(Bundle::open_with(&workshop.bundle(), Some(&trust)).is_ok(), "the last content is the signed one");
}
