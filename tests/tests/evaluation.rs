//! `host-eval`, as users run it, on images made here.

use std::fs;
use std::path::Path;
use std::process::Command;

use headroom_device::images::RgbImage;
use headroom_tests::{Reference, is_refused, program, small_job, succeeds};
use safetensors::SafeTensors;
use serde_json::Value;
use tempfile::tempdir;

/// A folder of two classes that any embedding tells apart: red and blue stripes of many widths and directions.
fn stripes(folder: &Path, first: u32, count: u32) {
    for (class, channel) in [("blue", 2), ("red", 0)] {
        fs::create_dir_all(folder.join(class)).unwrap();
        for number in first..first + count {
            let image = RgbImage::from_fn(40, 32, |x, y| {
                let along = if number % 2 == 0 { x } else { y };
                let mut pixel = [30, 30 + (number % 7) as u8, 30];
                pixel[channel] = if (along / (2 + number % 5)) % 2 == 0 { 220 } else { 160 };
                pixel.into()
            });
            image.save(folder.join(class).join(format!("{number}.png"))).unwrap();
        }
    }
}

fn host_eval(bundle: &Path, home: &Path) -> Command {
    let mut command = program("host-eval");
    command.arg(bundle).arg("--quiet").arg("--query").arg(home.join("query")).arg("--bank").arg(home.join("bank"));
    command
}

#[test]
fn every_witness_is_heard_at_every_rung() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    stripes(&home.path().join("bank"), 0, 15);
    stripes(&home.path().join("query"), 15, 10);
    fs::write(home.path().join("query/red/broken.png"), "this is no image").unwrap();
    let (chart, features) = (home.path().join("chart.svg"), home.path().join("features"));
    let mut job = host_eval(&out, home.path());
    job.args(["--json", "--neighbours", "5"]).arg("--svg").arg(&chart).arg("--features").arg(&features);
    let report: Value = serde_json::from_str(&succeeds(&mut job)).unwrap();
    assert_eq!(report["version"], 1);
    let rungs = report["bundles"][0]["rungs"].as_array().unwrap();
    assert_eq!(rungs.len(), 5);
    let dense = &rungs[0];
    for witness in ["nearest_neighbours", "linear_probe"] {
        assert_eq!(dense[witness]["value"], 1.0, "{witness}");
        assert_eq!(dense[witness]["images"], 20, "the broken image does not count");
        assert!(dense[witness]["low"].as_f64().unwrap() > 0.8);
    }
    // The model's labels are not red and blue.
    assert!(dense["head"].is_null());
    for rung in rungs {
        for fidelity in ["fidelity", "patch_fidelity"] {
            let [low, value, high] = ["low", "value", "high"].map(|part| rung[fidelity][part].as_f64().unwrap());
            assert!(low <= value && value <= high && value <= 1.000_001);
        }
    }
    assert!(dense["fidelity"]["value"].as_f64() > rungs[4]["fidelity"]["value"].as_f64());
    assert!(fs::read_to_string(&chart).unwrap().starts_with("<svg"));

    let file = fs::read(features.join("bundle.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(tensors.tensor("rung.4.query").unwrap().shape(), [20, 128]);
    assert_eq!(tensors.tensor("rung.0.bank").unwrap().shape(), [30, 128]);
    assert_eq!(tensors.tensor("bank.labels").unwrap().shape(), [30]);

    // The same again as a table, of two rungs, without a bank.
    let mut job = program("host-eval");
    job.arg(&out).args(["--rungs", "4,0"]).arg("--query").arg(home.path().join("query"));
    let text = succeeds(&mut job);
    assert!(text.contains("fidelity") && !text.contains("k-NN"), "{text}");
    // Two rungs between the lines of the table.
    assert_eq!(text.lines().filter(|line| line.starts_with('│')).count(), 1 + 2, "{text}");
}

#[test]
fn rungs_in_integers_are_judged_beside_those_in_f32() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(small_job(&out).args(["--precision", "int8"]));
    stripes(&home.path().join("bank"), 0, 15);
    stripes(&home.path().join("query"), 15, 10);
    let run = |precision: &str| {
        let mut job = host_eval(&out, home.path());
        job.args(["--json", "--neighbours", "5", "--precision", precision]);
        serde_json::from_str::<Value>(&succeeds(&mut job)).unwrap()
    };
    let (int8, f32) = (run("int8"), run("f32"));
    assert_eq!([&int8["precision"], &f32["precision"]], ["int8", "f32"]);
    let rungs = |report: &Value| report["bundles"][0]["rungs"].as_array().unwrap().clone();
    assert_eq!((rungs(&int8).len(), rungs(&f32).len()), (5, 5));
    for (int8, f32) in rungs(&int8).iter().zip(&rungs(&f32)) {
        let value = |rung: &Value, what: &str| rung[what]["value"].as_f64().unwrap();
        let same = value(int8, "fidelity_to_f32");
        // The same would be f32 under another name.
        assert!((0.995..0.999_999_9).contains(&same), "{same}");
        assert!(f32["fidelity_to_f32"].is_null());
        for what in ["fidelity", "patch_fidelity"] {
            assert!((value(int8, what) - value(f32, what)).abs() < 0.01, "{what}: {int8} {f32}");
        }
        for what in ["nearest_neighbours", "linear_probe"] {
            assert_eq!(int8[what]["images"], 20);
        }
    }
    assert_eq!(int8["bundles"][0]["left_out"], serde_json::json!([]));
    let text = succeeds(host_eval(&out, home.path()).args(["--precision", "int8", "--rungs", "2", "--no-probe"]));
    assert!(text.contains("to f32") && text.contains("in int8"), "{text}");

    let plain = home.path().join("plain");
    let _ = succeeds(&mut small_job(&plain));
    let mut job = host_eval(&plain, home.path());
    is_refused(job.args(["--precision", "int8"]), &["no `model.int8`", "host-prune --precision int8"]);
}

#[test]
fn rungs_that_the_integer_model_does_not_hold_are_left_out() {
    let test = "rungs_that_the_integer_model_does_not_hold_are_left_out";
    let Some(models) = Reference::Models.folder(test) else { return };
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let mut job = small_job(&out);
    // The last of two wins. Its flash holds the smaller rungs.
    job.args(["--target", "nucleo-h743zi", "--model"]).arg(models.join("vit_cifar10_s.safetensors"));
    let _ = succeeds(&mut job);
    stripes(&home.path().join("query"), 0, 1);
    let eval = |rungs: &str| {
        let mut job = program("host-eval");
        job.arg(&out).args(["--precision", "int8", "--rungs", rungs]).arg("--query").arg(home.path().join("query"));
        job
    };
    is_refused(&mut eval("0"), &["holds none of the rungs", "--rungs"]);
    let text = succeeds(&mut eval("0,4"));
    assert!(text.contains("not in the integer model: rung 0"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with('│')).count(), 1 + 1, "{text}");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    stripes(&home.path().join("bank"), 0, 7);
    stripes(&home.path().join("query"), 7, 5);
    let run = |threads: &str| succeeds(host_eval(&out, home.path()).arg("--json").env("RAYON_NUM_THREADS", threads));
    assert_eq!(run("1"), run("3"));
}

#[test]
fn what_cannot_be_judged_is_refused() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    is_refused(&mut host_eval(&out, home.path()), &["query"]);
    stripes(&home.path().join("query"), 0, 1);
    is_refused(&mut host_eval(&out, home.path()), &["bank"]);
    stripes(&home.path().join("bank"), 1, 1);
    is_refused(host_eval(&out, home.path()).args(["--rungs", "5"]), &["no rung 5", "0 to 4"]);
    is_refused(&mut host_eval(home.path(), home.path()), &["manifest.json", "host-prune"]);
    is_refused(
        host_eval(&out, home.path()).args(["--svg", "/proc/headroom.svg"]),
        &["cannot write `/proc/headroom.svg`"],
    );

    fs::rename(home.path().join("query/red/0.png"), home.path().join("query/loose.png")).unwrap();
    is_refused(&mut host_eval(&out, home.path()), &["loose.png", "no class", "sub-folder"]);
    fs::remove_file(home.path().join("query/loose.png")).unwrap();
    fs::write(home.path().join("query/blue/0.png"), "broken").unwrap();
    is_refused(&mut host_eval(&out, home.path()), &["no readable image"]);
}

#[test]
fn the_dense_demo_model_is_as_good_as_its_card_says() {
    let test = "the_dense_demo_model_is_as_good_as_its_card_says";
    let Some(data) = Reference::Data.folder(test) else { return };
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    let mut job = program("host-eval");
    job.arg(&out).args(["--rungs", "0", "--json", "--quiet"]);
    for folder in ["query", "bank"] {
        job.arg(format!("--{folder}")).arg(data.join("cifar10").join(folder));
    }
    let report: Value = serde_json::from_str(&succeeds(&mut job)).unwrap();
    let dense = &report["bundles"][0]["rungs"][0];
    // 79.1 % over 10,000 test images; k-NN and probe have 2,000 training images only.
    for (witness, least) in [("head", 0.75), ("nearest_neighbours", 0.75), ("linear_probe", 0.75)] {
        assert!(dense[witness]["value"].as_f64().unwrap() > least, "{witness}: {}", dense[witness]);
    }
}
