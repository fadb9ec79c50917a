//! What goes wrong with users' files, and what the programs say about it.

use std::fs;
use std::path::Path;
use std::process::Command;

use headroom_tests::{is_refused, program, repository, small_job, succeeds};
use tempfile::tempdir;

fn demo_checkpoint(folder: &Path) {
    for file in ["model.safetensors", "config.json"] {
        fs::copy(repository().join("host/demo").join(file), folder.join(file)).unwrap();
    }
}

/// A job on a changed copy of the demo checkpoint, with what it left behind.
fn refused_after(change: impl Fn(&Path), expected: &[&str]) {
    let home = tempdir().unwrap();
    let model = home.path().join("model");
    fs::create_dir(&model).unwrap();
    demo_checkpoint(&model);
    change(&model);
    let out = home.path().join("bundle");
    is_refused(small_job(&out).arg("--model").arg(&model), expected);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1, "something was left behind");
}

fn edit_config(model: &Path, edit: impl Fn(&mut serde_json::Value)) {
    let path = model.join("config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    edit(&mut config);
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn an_unknown_target_lists_the_known_ones() {
    let home = tempdir().unwrap();
    let mut command = program("host-prune");
    command.args(["--target", "toaster", "--out"]).arg(home.path().join("bundle"));
    is_refused(&mut command, &["toaster", "jetson-orin", "jetson-orin-nano"]);
}

#[test]
fn a_missing_model_is_named() {
    let home = tempdir().unwrap();
    let missing = home.path().join("nowhere");
    is_refused(small_job(&home.path().join("bundle")).arg("--model").arg(&missing), &["nowhere"]);
}

#[test]
fn a_folder_without_weights_is_named() {
    refused_after(|model| fs::remove_file(model.join("model.safetensors")).unwrap(), &["model", "safetensors"]);
}

#[test]
fn truncated_weights_are_refused() {
    for keep in [0, 4, 1000, 1_000_000] {
        let truncate = |model: &Path| {
            let path = model.join("model.safetensors");
            let bytes = fs::read(&path).unwrap();
            fs::write(&path, &bytes[..keep]).unwrap();
        };
        refused_after(truncate, &["model.safetensors"]);
    }
}

#[test]
fn a_config_that_disagrees_names_tensor_and_shapes() {
    let other_width = |model: &Path| edit_config(model, |config| config["model_args"]["embed_dim"] = 192.into());
    refused_after(other_width, &["192", "128"]);
    let other_image = |model: &Path| edit_config(model, |config| config["model_args"]["img_size"] = 64.into());
    refused_after(other_image, &["pos_embed", "65", "257"]);
}

#[test]
fn an_unsupported_architecture_lists_the_supported_ones() {
    let rename = |model: &Path| {
        let path = model.join("model.safetensors");
        let text = fs::read(&path).unwrap();
        // Names of the same length, so that the file stays valid: a ViT no more.
        let length = u64::from_le_bytes(text[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(text[8..8 + length].to_vec()).unwrap().replace("blocks.", "stages.");
        fs::write(&path, [&text[..8], header.as_bytes(), &text[8 + length..]].concat()).unwrap();
        edit_config(model, |config| config["architecture"] = "resnet50".into());
    };
    refused_after(rename, &["resnet50", "supported", "timm"]);
}

#[test]
fn weights_that_are_not_numbers_are_named() {
    let poison = |model: &Path| {
        let path = model.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let start = header["blocks.2.mlp.fc1.weight"]["data_offsets"][0].as_u64().unwrap() as usize;
        // NaN in f16.
        bytes[8 + length + start..][..2].copy_from_slice(&[0x00, 0x7e]);
        fs::write(&path, bytes).unwrap();
    };
    refused_after(poison, &["blocks.2.mlp.fc1.weight", "NaN"]);
}

#[test]
fn values_that_overflow_name_the_stage_and_the_device() {
    let enlarge = |model: &Path| {
        let path = model.join("model.safetensors");
        let mut bytes = fs::read(&path).unwrap();
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        for (tensor, high) in [("norm2.weight", 0x7b), ("mlp.fc1.weight", 0xfb), ("mlp.fc2.weight", 0x7b)] {
            let place = &header[format!("blocks.2.{tensor}")]["data_offsets"];
            let [start, end] = [0, 1].map(|end| 8 + length + place[end].as_u64().unwrap() as usize);
            // The largest f16, in the first layer with alternating signs: what is normalised sums to zero.
            for (index, value) in bytes[start..end].chunks_exact_mut(2).enumerate() {
                value.copy_from_slice(&[0xff, if index % 2 == 0 { 0x7b } else { high }]);
            }
        }
        fs::write(&path, bytes).unwrap();
    };
    refused_after(enlarge, &["the stage `", "on the CPU gave values that are not finite", "cause", "hint"]);
}

#[test]
fn an_image_folder_that_is_empty_missing_or_unreadable_is_refused() {
    let home = tempdir().unwrap();
    let images = home.path().join("images");
    let out = home.path().join("bundle");
    is_refused(small_job(&out).arg("--images").arg(&images), &["images"]);
    fs::create_dir(&images).unwrap();
    is_refused(small_job(&out).arg("--images").arg(&images), &["images"]);
    fs::write(images.join("holiday.jpg"), "this is no photograph").unwrap();
    is_refused(small_job(&out).arg("--images").arg(&images), &["images"]);
    assert!(!out.exists());
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused_at_once() {
    // Nobody, not even root, can make a folder there.
    is_refused(&mut small_job(Path::new("/proc/headroom/bundle")), &["/proc/headroom", "--out"]);
}

#[test]
fn another_bundle_is_replaced_only_by_force() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    let before = fs::read(out.join("manifest.json")).unwrap();
    is_refused(small_job(&out).args(["--seed", "7"]), &["already holds a bundle", "--force"]);
    assert_eq!(fs::read(out.join("manifest.json")).unwrap(), before);
    let _ = succeeds(small_job(&out).args(["--seed", "7", "--force"]));
    assert_ne!(fs::read(out.join("manifest.json")).unwrap(), before);

    let other = home.path().join("thesis");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("chapter1.tex"), "years of work").unwrap();
    is_refused(small_job(&other).arg("--force"), &["thesis", "not a bundle"]);
    assert!(other.join("chapter1.tex").exists());
}

#[test]
fn a_full_disk_leaves_nothing_half_written_and_loses_no_work() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let job = small_job(&out);
    // A limit on file sizes fails writes half-way, as a full disk does.
    let mut limited = Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$@\"", "bash"]);
    limited.arg(job.get_program()).args(job.get_args());
    is_refused(&mut limited, &["model.safetensors", "--resume"]);
    let left: Vec<_> = fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["bundle.checkpoint"], "only whole results of the job may be left");
    // With room again, the job goes on from there.
    let _ = succeeds(small_job(&out).arg("--resume"));
    let _ = succeeds(program("device-run").args(["--synthetic", "1", "--bundle"]).arg(&out));
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 1);
}

#[test]
fn one_changed_byte_anywhere_in_a_bundle_is_refused() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    let mut checked = 0;
    for entry in fs::read_dir(&out).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let original = fs::read(&path).unwrap();
        for position in [0, 9, original.len() / 2, original.len() - 1] {
            let mut changed = original.clone();
            changed[position] ^= 0x20;
            fs::write(&path, &changed).unwrap();
            let mut run = program("device-run");
            run.args(["--synthetic", "1", "--bundle"]).arg(&out);
            let expected = if name.starts_with("manifest") { "manifest" } else { name.as_str() };
            is_refused(&mut run, &[expected]);
            checked += 1;
        }
        fs::write(&path, &original).unwrap();
    }
    assert!(checked >= 4 * 6, "only {checked} changes were tried");
    let _ = succeeds(program("device-run").args(["--synthetic", "1", "--bundle"]).arg(&out));
}

#[test]
fn results_that_cannot_be_printed_are_an_error() {
    let home = tempdir().unwrap();
    let (bundle, profile) = (home.path().join("bundle"), home.path().join("measured.toml"));
    let _ = succeeds(&mut small_job(&bundle));
    let (repository, bundle, profile) = (repository(), bundle.display().to_string(), profile.display().to_string());
    let demo = repository.join("host/demo").display().to_string();
    let unit = repository.join("device/systemd/headroom.service").display().to_string();
    let scenario = repository.join("tests/scenarios/bundle-swap.toml").display().to_string();
    let calibrate = ["--calibrate", "--repetitions", "1", "--power-seconds", "0.01", "--profile", &profile];
    for (name, arguments) in [
        ("host-prune", &["--target", "jetson-orin", "--describe", &demo][..]),
        ("host-flash", &["--target", "jetson-orin", "--print-setup", "--unit-file", &unit]),
        ("device-run", &[&["--bundle", &bundle][..], &calibrate].concat()),
        ("device-run", &["--bundle", &bundle, "--profile", &profile, "--predict", "55%"]),
        ("device-run", &["--bundle", &bundle, "--synthetic", "1"]),
        ("device-run", &["--bundle", &bundle, "--sweep", "--repetitions", "1"]),
        ("device-run", &["--probe"]),
        ("device-replay", &["--scenario", &scenario]),
    ] {
        let full =
            fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has a device that is always full");
        is_refused(program(name).args(arguments).stdout(full), &["cannot write the results", "No space left"]);
    }
}

#[test]
fn what_is_no_bundle_is_named() {
    let home = tempdir().unwrap();
    let mut run = program("device-run");
    run.args(["--synthetic", "1", "--bundle"]).arg(home.path());
    is_refused(&mut run, &["manifest.json", "host-prune"]);
}

#[test]
fn a_rung_or_a_budget_that_does_not_exist_is_refused() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    let run = |arguments: &[&str]| {
        let mut command = program("device-run");
        command.args(["--synthetic", "1"]).args(arguments).arg("--bundle").arg(&out);
        command
    };
    is_refused(&mut run(&["--rung", "99"]), &["99", "0 to"]);
    is_refused(&mut run(&["--macs", "0.1%"]), &["smallest"]);
}

#[test]
fn cuda_without_the_feature_says_how_to_build_it() {
    let home = tempdir().unwrap();
    is_refused(
        small_job(&home.path().join("bundle")).args(["--device", "cuda"]),
        &["no CUDA support", "hint", "cargo build --release -p headroom-host --features cuda", "--device cpu"],
    );
}
