//! Bundles for boards without an operating system: what fits their flash and RAM, and what does not.

use headroom_device::bundle::Bundle;
use headroom_shared::flash_image::FlashImage;
use headroom_tests::{Reference, is_refused, program, small_job, succeeds};
use serde_json::Value;
use tempfile::tempdir;

fn job(board: &str, out: &std::path::Path) -> std::process::Command {
    let mut command = small_job(out);
    // The last of two wins.
    command.args(["--target", board, "--json"]);
    command
}

#[test]
fn the_demo_model_fits_every_board_and_runs_in_integers_without_being_asked() {
    for board in ["nucleo-h743zi", "qemu-mps2-an500", "rp2350"] {
        let home = tempdir().unwrap();
        let (out, image) = (home.path().join("bundle"), home.path().join("image.bin"));
        let report: Value = serde_json::from_str(&succeeds(&mut job(board, &out))).unwrap();
        assert_eq!((&report["precision"], &report["fit"]["start_rung"]), (&"int8".into(), &0.into()), "{board}");
        let mut make = program("host-flash");
        make.args(["image", "--json", "--target", board, "--bundle"]).arg(&out).arg("--out").arg(&image);
        let made: Value = serde_json::from_str(&succeeds(&mut make)).unwrap();
        assert_eq!(made["bytes"], report["ladder"][0]["need"]["flash_bytes"], "{board}: the need is that of the image");
        let _ = succeeds(program("device-run").args(["--precision", "int8", "--synthetic", "1", "--bundle"]).arg(&out));
    }
}

#[test]
fn rungs_that_merge_tokens_run_from_flash() {
    let home = tempdir().unwrap();
    let (out, image) = (home.path().join("bundle"), home.path().join("image.bin"));
    let board = "qemu-mps2-an500";
    let report: Value = serde_json::from_str(&succeeds(job(board, &out).args(["--tokens", "only"]))).unwrap();
    let mut make = program("host-flash");
    let _ = succeeds(make.args(["image", "--target", board, "--bundle"]).arg(&out).arg("--out").arg(&image));
    let image = std::fs::read(image).unwrap();
    let image = FlashImage::read(&image).unwrap();
    let rungs = report["ladder"].as_array().unwrap().len();
    assert!(rungs > 1 && (0..rungs).all(|rung| image.has_rung(rung)), "{rungs} rungs");
    assert!(image.map.sub_network_of(rungs - 1).is_some_and(|kept| kept.merged_tokens(0) > 0));
}

#[test]
fn a_larger_model_is_stored_from_the_largest_rung_that_fits() {
    let test = "a_larger_model_is_stored_from_the_largest_rung_that_fits";
    let Some(models) = Reference::Models.folder(test) else { return };
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let model = models.join("vit_cifar10_s.safetensors");
    let report: Value = serde_json::from_str(&succeeds(job("nucleo-h743zi", &out).arg("--model").arg(&model))).unwrap();
    let start = report["fit"]["start_rung"].as_u64().unwrap() as usize;
    let fits: Vec<bool> =
        report["ladder"].as_array().unwrap().iter().map(|rung| rung["need"]["fits"].as_bool().unwrap()).collect();
    assert!(start > 0 && fits.iter().position(|fits| *fits) == Some(start), "{fits:?}");

    let bundle = Bundle::open(&out).unwrap();
    let (map, stored) = (bundle.structure_map(), bundle.integer_model().unwrap());
    let largest = map.sub_network_of(start).unwrap();
    for block in 0..largest.blocks() {
        let counts = stored.counts(block);
        assert_eq!((counts.heads, counts.neurons), (largest.heads(block), largest.neurons(block)));
    }
    let run = |rung: usize| {
        let mut command = program("device-run");
        command.args(["--precision", "int8", "--synthetic", "1", "--rung", &rung.to_string(), "--bundle"]).arg(&out);
        command
    };
    for rung in start..fits.len() {
        let _ = succeeds(&mut run(rung));
    }
    is_refused(&mut run(start - 1), &[]);

    // The same without hope: everything must stay.
    let out = home.path().join("too-large");
    let mut whole = job("nucleo-h743zi", &out);
    whole.args(["--min-neurons", "1", "--min-heads", "1", "--model"]).arg(&model);
    is_refused(&mut whole, &["no rung fits", "bytes of flash", "1966080"]);
    assert!(!out.exists());
}

#[test]
fn what_the_board_cannot_compute_in_is_refused() {
    let home = tempdir().unwrap();
    let mut job = job("rp2350", &home.path().join("bundle"));
    is_refused(job.args(["--precision", "f32"]), &["rp2350", "int8", "leave --precision away"]);
}
