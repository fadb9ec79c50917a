use super::*;
use crate::ranking::Factors;
use crate::search::synthetic::Synthetic;

fn fingerprint(seed: &str) -> Fingerprint {
    let model = Synthetic::new();
    let start = Factors::ones(model.problem().quanta.shape());
    let problem = crate::search::Problem { start: &start, ..model.problem() };
    Fingerprint::new(&problem, seed.to_owned(), &[1.0, 2.0])
}

fn file(folder: &tempfile::TempDir) -> CheckpointFile {
    CheckpointFile { path: folder.path().join("fit.checkpoint"), resume: true }
}

fn refused(file: &CheckpointFile) -> CheckpointError {
    file.load::<Vec<u32>>(&fingerprint("a")).expect_err("refused")
}

#[test]
fn loads_what_was_saved_and_leaves_nothing_beside_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = file(&folder);
    assert_eq!(file.load::<Vec<u32>>(&fingerprint("a")).expect("no file is no error"), None);
    file.save(&fingerprint("a"), &vec![1, 2, 3]).expect("writes");
    assert_eq!(file.load::<Vec<u32>>(&fingerprint("a")).expect("reads"), Some(vec![1, 2, 3]));
    let afresh = CheckpointFile { resume: false, ..file.clone() };
    assert_eq!(afresh.load::<Vec<u32>>(&fingerprint("a")).expect("not asked to resume"), None);
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);
}

#[test]
fn every_changed_byte_and_every_truncation_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = file(&folder);
    file.save(&fingerprint("a"), &vec![1, 2, 3]).expect("writes");
    let good = fs::read(&file.path).expect("reads");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file.path, &bad).expect("writes");
        refused(&file);
        fs::write(&file.path, &good[..at]).expect("writes");
        refused(&file);
    }
}

#[test]
fn says_what_is_wrong_with_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = file(&folder);
    fs::write(&file.path, "hello\n").expect("writes");
    assert!(matches!(refused(&file), CheckpointError::NotACheckpoint { .. }));
    fs::write(&file.path, r#"{"format":"headroom-fit","version":7,"sha256":""}"#).expect("writes");
    assert!(refused(&file).to_string().ends_with("has version 7, this program reads 3"));
    file.save(&fingerprint("b"), &vec![1, 2, 3]).expect("writes");
    assert!(refused(&file).to_string().ends_with("is of another fit; search: b in the checkpoint, a in this run"));
}

#[test]
fn a_folder_that_cannot_be_written_is_an_error_with_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = CheckpointFile { path: folder.path().join("missing").join("fit.checkpoint"), resume: false };
    let error = file.save(&fingerprint("a"), &0).expect_err("no such folder");
    assert!(error.to_string().contains("missing"));
}
