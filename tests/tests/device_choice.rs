//! `--device` of `device-run`, in a program without an engine for GPUs.

use headroom_tests::{ended, is_refused, program, small_job, succeeds};
use tempfile::tempdir;

#[test]
fn a_device_is_taken_or_refused_with_what_to_do() {
    let home = tempdir().unwrap();
    let out = home.path().join("bundle");
    let _ = succeeds(&mut small_job(&out));
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
    let unknown = ended(&mut run("tpu"));
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("unknown device `tpu`, expected auto, cpu, cuda or cuda:N"), "{}", unknown.stderr);
}
