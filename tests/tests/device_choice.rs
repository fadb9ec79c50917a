//! `--device` of `device-run`, in a program without an engine for GPUs.

use headroom_device::images::RgbImage;
use headroom_tests::{ended, is_refused, program, small_job, succeeds};
use tempfile::tempdir;

#[test]
fn a_device_is_taken_or_refused_with_what_to_do() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
    let photo = home.path().join("photo.png");
    RgbImage::from_pixel(40, 30, [200, 100, 50].into()).save(&photo).unwrap();
    let run = |device: &str| {
        let mut command = program("device-run");
        command.args(["--synthetic", "1", "--embedding", "--device", device, "--bundle"]).arg(&out);
        command
    };
    let embedding = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(line["embedding"].is_array(), "{line}");
        line["embedding"].clone()
    };
    let cpu = ended(&mut run("cpu"));
    assert_eq!(cpu.code, Some(0), "{}", cpu.stderr);

    let auto = ended(&mut run("auto"));
    assert_eq!(auto.code, Some(0), "{}", auto.stderr);
    // What else is said, such as of trust, is said for every device.
    assert_eq!(auto.stderr, format!("{}running on the CPU: this program was built without CUDA\n", cpu.stderr));
    assert_eq!(embedding(&auto.stdout), embedding(&cpu.stdout));

    let expected = ["this program was built without CUDA", "hint", "--features cuda", "--device cpu"];
    is_refused(&mut run("cuda"), &expected);
    is_refused(&mut run("cuda:1"), &expected);
    // Whatever runs rungs runs them where it is told.
    for mode in ["--sweep", "--calibrate", "--serve"] {
        let run = |device: &str| {
            let mut command = program("device-run");
            command.args([mode, "--device", device, "--bundle"]).arg(&out);
            if mode == "--serve" {
                command.args(["--threads", "1"]).arg(&photo);
            } else {
                command.args(["--repetitions", "1", "--profile"]).arg(home.path().join("measured.toml"));
            }
            if mode == "--calibrate" {
                command.args(["--power-seconds", "0.01"]);
            }
            command
        };
        let auto = ended(&mut run("auto"));
        assert_eq!(auto.code, Some(0), "{mode}: {}", auto.stderr);
        assert!(auto.stderr.contains("running on the CPU: this program was built without CUDA\n"), "{}", auto.stderr);
        is_refused(&mut run("cuda"), &expected);
    }
    // What was measured on the CPU says nothing of a GPU.
    let predict = |device: &str| {
        let mut command = program("device-run");
        command.args(["--predict", "80%", "--device", device, "--profile"]).arg(home.path().join("measured.toml"));
        command.arg("--bundle").arg(&out);
        command
    };
    let auto = ended(&mut predict("auto"));
    assert_eq!(auto.code, Some(0), "{}", auto.stderr);
    is_refused(&mut predict("cuda"), &["nothing can be predicted", "another precision (f32, here f16)"]);

    let unknown = ended(&mut run("tpu"));
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("unknown device `tpu`, expected auto, cpu, cuda or cuda:N"), "{}", unknown.stderr);
}
