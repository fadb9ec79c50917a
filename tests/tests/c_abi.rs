//! The interface for C, as a C or C++ program meets it: header, both libraries, examples, misuse.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use headroom_device::bundle::Bundle;
use headroom_device::images::SyntheticFrames;
use headroom_tests::{c_libraries, ended, program, repository, say_skipped, small_job, succeeds};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

#[path = "../../device/tests/random_bundle/mod.rs"]
mod random_bundle;
#[path = "../../device/tests/random_model/mod.rs"]
mod random_model;

/// The header as cbindgen makes it.
fn generated_header() -> String {
    let config = cbindgen::Config::from_file(repository().join("device/cbindgen.toml")).unwrap();
    // The modules are found from the first file.
    let builder = cbindgen::Builder::new().with_config(config).with_src(repository().join("device/src/c_abi/mod.rs"));
    let mut header = Vec::new();
    builder.generate().expect("the header can be generated").write(&mut header);
    String::from_utf8(header).unwrap()
}

#[test]
fn the_header_is_what_is_generated() {
    let path = repository().join("device/include/headroom.h");
    let generated = generated_header();
    if std::env::var_os("HEADROOM_WRITE_HEADER").is_some() {
        fs::write(&path, &generated).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    let hint = "run the test with HEADROOM_WRITE_HEADER=1 to write the header anew";
    assert!(found == generated, "device/include/headroom.h is not what device/src/c_abi says: {hint}");
    for name in ["headroom_model_open(", "headroom_client_receive(", "HEADROOM_STATUS_INTERNAL"] {
        assert!(found.contains(name), "{name}");
    }
}

/// A small bundle of the demo model, made once.
fn bundle() -> &'static Path {
    static HOME: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let make = || {
        let home = tempdir().unwrap();
        let out = home.path().join("bundle");
        let _ = succeeds(&mut small_job(&out));
        (home, out)
    };
    &HOME.get_or_init(make).1
}

/// How a program is linked.
#[derive(Clone, Copy, Debug)]
enum Linked {
    Shared,
    Static,
}

/// Compiles a C file, as C or as C++; `None`, with a visible line, where there is no such compiler.
fn compiled(test: &str, source: &str, cplusplus: bool, linked: Linked, home: &Path) -> Option<PathBuf> {
    let (compiler, language) =
        if cplusplus { ("c++", ["-x", "c++", "-std=c++17"]) } else { ("cc", ["-x", "c", "-std=c11"]) };
    if Command::new(compiler).arg("--version").output().is_err() {
        say_skipped(&format!("{test}: no {compiler}"));
        return None;
    }
    let out = home.join("program");
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-O1"]).args(language);
    command.arg("-I").arg(repository().join("device/include")).arg(repository().join(source));
    // What follows is a library and no source.
    command.args(["-x", "none"]).arg("-o").arg(&out);
    match linked {
        Linked::Shared => command.arg("-L").arg(c_libraries()).arg("-lheadroom_device"),
        Linked::Static => command.arg(c_libraries().join("libheadroom_device.a")).args(["-lpthread", "-ldl", "-lm"]),
    };
    let _ = succeeds(&mut command);
    Some(out)
}

fn run(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("LD_LIBRARY_PATH", c_libraries());
    command
}

fn floats(path: &Path) -> Vec<f32> {
    let bytes = fs::read(path).unwrap();
    bytes.chunks_exact(4).map(|four| f32::from_ne_bytes(four.try_into().unwrap())).collect()
}

/// The frames of `device-run --synthetic`, as raw bytes.
fn raw_frames(path: &Path, count: u64) -> (u32, u32) {
    raw_frames_of(bundle(), path, count)
}

/// The same of the size of another bundle.
fn raw_frames_of(bundle: &Path, path: &Path, count: u64) -> (u32, u32) {
    let bundle = Bundle::open(bundle).unwrap();
    let image = &bundle.description().image;
    let (height, width) = (image.height as u32, image.width as u32);
    let frames = SyntheticFrames::new(0, height, width).take(count as usize);
    fs::write(path, frames.flat_map(|frame| frame.into_raw()).collect::<Vec<u8>>()).unwrap();
    (width, height)
}

#[test]
fn the_example_computes_what_device_run_does() {
    let test = "the_example_computes_what_device_run_does";
    let home = tempdir().unwrap();
    let frame = home.path().join("frame.rgb");
    let (width, height) = raw_frames(&frame, 1);
    let mut compared = 0;
    for (cplusplus, linked) in [(false, Linked::Shared), (false, Linked::Static), (true, Linked::Shared)] {
        let Some(classify) = compiled(test, "device/examples/c/classify.c", cplusplus, linked, home.path()) else {
            continue;
        };
        for percent in ["100", "60", "40"] {
            let embedding = home.path().join("embedding.f32");
            let mut command = run(&classify);
            command.arg(bundle()).arg(percent).arg(&frame).args([width.to_string(), height.to_string()]);
            let said = succeeds(command.arg(&embedding));

            let device_run = |words: &[&str]| -> Value {
                let macs = format!("{percent}%");
                let mut command = program("device-run");
                command.args(["--synthetic", "1", "--macs", &macs]).args(words).arg("--bundle").arg(bundle());
                serde_json::from_str(&succeeds(&mut command)).unwrap()
            };
            let expected = device_run(&["--embedding"]);
            let expected_embedding: Vec<f32> =
                expected["embedding"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap() as f32).collect();
            assert_eq!(floats(&embedding), expected_embedding, "{linked:?} at {percent} %");
            assert!(said.contains(&format!("rung {}: {} MACs", expected["rung"], expected["macs"])), "{said}");
            let class = &device_run(&["--top-k", "1"])["classes"][0];
            assert!(
                said.contains(&format!("class {}: {}", class["class"], class["label"].as_str().unwrap())),
                "{said}"
            );
            compared += 1;
        }
    }
    assert!(compared % 3 == 0);
}

#[test]
fn a_pipeline_of_frames_is_answered_under_a_deadline() {
    let test = "a_pipeline_of_frames_is_answered_under_a_deadline";
    let home = tempdir().unwrap();
    let frames = home.path().join("frames.rgb");
    let (width, height) = raw_frames(&frames, 5);
    let Some(stream) = compiled(test, "device/examples/c/stream.c", false, Linked::Shared, home.path()) else { return };
    let mut command = run(&stream);
    // A deadline that every machine meets.
    command.arg(bundle()).arg("60000").args([width.to_string(), height.to_string()]);
    let said = succeeds(command.stdin(File::open(&frames).unwrap()));
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    for (number, line) in lines.iter().enumerate() {
        assert!(line.starts_with(&format!("frame {number}: rung ")), "{line}");
    }
}

#[test]
fn misuse_is_refused_and_never_crashes() {
    let test = "misuse_is_refused_and_never_crashes";
    let home = tempdir().unwrap();
    for (cplusplus, linked) in [(false, Linked::Static), (true, Linked::Shared)] {
        let Some(misuse) = compiled(test, "tests/c/misuse.c", cplusplus, linked, home.path()) else { continue };
        let ended = ended(run(&misuse).arg(bundle()).arg(home.path().join("nowhere")));
        assert_eq!((ended.code, ended.stdout.as_str()), (Some(0), "every misuse was refused\n"), "{}", ended.stderr);
        assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    }
}

#[test]
fn in_int8_c_computes_what_device_run_does_and_refuses_what_cannot_run_so() {
    let test = "in_int8_c_computes_what_device_run_does_and_refuses_what_cannot_run_so";
    let home = tempdir().unwrap();
    let [bundle, without, frame, embedding] =
        ["bundle", "without", "frame.rgb", "embedding.f32"].map(|name| home.path().join(name));
    random_bundle::write_with_integer_model(&bundle, &random_bundle::tiny(), 1, 4);
    random_bundle::write(&without, &random_bundle::tiny(), 1, 4);
    let (width, height) = raw_frames_of(&bundle, &frame, 1);
    let Some(int8) = compiled(test, "tests/c/int8.c", false, Linked::Static, home.path()) else { return };
    for rung in ["0", "2"] {
        let mut command = run(&int8);
        command.arg(&bundle).arg(&without).arg(&frame).args([&width.to_string(), &height.to_string(), rung]);
        let _ = succeeds(command.arg(&embedding));
        let mut command = program("device-run");
        command.args(["--synthetic", "1", "--embedding", "--precision", "int8", "--rung", rung]);
        let expected: Value = serde_json::from_str(&succeeds(command.arg("--bundle").arg(&bundle))).unwrap();
        let expected = expected["embedding"].as_array().unwrap().iter();
        assert_eq!(floats(&embedding), expected.map(|value| value.as_f64().unwrap() as f32).collect::<Vec<f32>>());
    }
}

/// The example in Rust's terms: what a bundle that is refused says, and how the program ends.
#[test]
fn the_example_says_why_a_bundle_is_refused() {
    let test = "the_example_says_why_a_bundle_is_refused";
    let home = tempdir().unwrap();
    let frame = home.path().join("frame.rgb");
    let (width, height) = raw_frames(&frame, 1);
    let Some(classify) = compiled(test, "device/examples/c/classify.c", false, Linked::Shared, home.path()) else {
        return;
    };
    let mut command = run(&classify);
    command.arg(home.path()).arg("50").arg(&frame).args([width.to_string(), height.to_string()]);
    let refused = ended(&mut command);
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("manifest.json"), "{}", refused.stderr);
}

/// The interface has no argument for the policy: the device's own counts. The program sees one in an `/etc` of its own.
#[test]
fn the_policy_of_the_device_holds_for_c_too() {
    let test = "the_policy_of_the_device_holds_for_c_too";
    let own_etc = |script: &str| {
        let mut command = Command::new("unshare");
        let mount = "mount -t tmpfs tmpfs /etc && mkdir /etc/headroom";
        command.args(["--map-root-user", "--mount", "sh", "-c", &format!("{mount} && {script}"), "sh"]);
        command
    };
    if !own_etc("true").output().is_ok_and(|output| output.status.success()) {
        say_skipped(&format!("{test}: `unshare` cannot give a program an /etc of its own"));
        return;
    }
    let home = tempdir().unwrap();
    let Some(classify) = compiled(test, "device/examples/c/classify.c", false, Linked::Static, home.path()) else {
        return;
    };
    let frame = home.path().join("frame.rgb");
    let (width, height) = raw_frames(&frame, 1);
    let signed = home.path().join("signed");
    let _ = succeeds(&mut small_job(&signed));
    let key = home.path().join("key");
    let _ = succeeds(program("host-flash").args(["keygen", "--out"]).arg(&key));
    let mut sign = program("host-flash");
    let _ = succeeds(sign.args(["sign", "--release", "1", "--key"]).arg(&key).arg("--bundle").arg(&signed));

    let public = fs::read_to_string(home.path().join("key.pub")).unwrap();
    let policy = home.path().join("trust.toml");
    let state = home.path().join("minimum-release.toml");
    let head = format!("version = 1\nboard = \"jetson-orin\"\nminimum_release_file = {state:?}\n");
    fs::write(&policy, format!("{head}[[key]]\nname = \"ours\"\npublic_key = \"\"\"\n{public}\"\"\"\n")).unwrap();

    let classified = |bundle: &Path| {
        let mut command = own_etc(r#"install -m 644 "$1" /etc/headroom/trust.toml && shift && exec "$@""#);
        command.arg(&policy).arg(&classify).arg(bundle).arg("50").arg(&frame);
        ended(command.args([width.to_string(), height.to_string()]))
    };
    let accepted = classified(&signed);
    assert_eq!(accepted.code, Some(0), "{}", accepted.stderr);
    let refused = classified(bundle());
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    assert!(refused.stderr.contains("not signed"), "{}", refused.stderr);
}
