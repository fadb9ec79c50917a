//! The firmware of the emulated Cortex-M7, from a model to its answers: the host prunes to int8 and makes the flash
//! image, QEMU boots the firmware, and what it computes has the bits of the integer engine here.
//!
//! `.ci/firmware` builds the firmware and runs this; without the firmware the tests say that they are skipped.

mod companion;
mod emulator;

#[path = "../../../device/tests/random_bundle/mod.rs"]
mod random_bundle;
#[path = "../../../device/tests/random_model/mod.rs"]
mod random_model;
#[allow(dead_code, reason = "the tests of the service use all of it")]
#[path = "../serve/server.rs"]
mod server;
#[path = "../../trees/mod.rs"]
mod trees;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use emulator::{Answer, Clock, Emulator};
use headroom_device::corrected::Corrected;
use headroom_device::images::SyntheticFrames;
use headroom_device::integer::{ArenaSizes, FEW_TOKENS, IntegerOutput, IntegerVit, arena_bytes};
use headroom_shared::wire::{Outputs, Request, SerialRequest};
use headroom_shared::{FlashImage, Temperature};
use headroom_tests::{program, repository, say_skipped, succeeds};
use tempfile::TempDir;

const BOARD: &str = "qemu-mps2-an500";
/// Instructions that an inference may differ from what is recorded: another compiler, and the 40 of a tick.
const TOLERANCE: f64 = 0.05;
/// Goal for the firmware without its image.
const MOST_FLASH: u64 = 96 * 1024;
const MOST_SCRATCH: usize = 256 * 1024;

/// The firmware that `.ci/firmware` built, and an image of the demo model.
struct Built {
    firmware: PathBuf,
    image: PathBuf,
    _home: TempDir,
}

fn built(test: &str) -> Option<&'static Built> {
    static BUILT: OnceLock<Option<Built>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let firmware = PathBuf::from(std::env::var_os("HEADROOM_FIRMWARE")?);
        assert!(firmware.is_file(), "{} was not built", firmware.display());
        let home = tempfile::tempdir().unwrap();
        let (bundle, image) = (home.path().join("bundle"), home.path().join("image.bin"));
        let mut prune = program("host-prune");
        prune.args(["--target", BOARD, "--images-limit", "16", "--rungs", "6", "--quiet"]);
        let _ = succeeds(prune.arg("--out").arg(&bundle));
        let mut make = program("host-flash");
        let made = succeeds(make.args(["image", "--target", BOARD, "--bundle"]).arg(&bundle).arg("--out").arg(&image));
        assert!(made.contains("0x00020000"), "{made}");
        Some(Built { firmware, image, _home: home })
    });
    if built.is_none() {
        say_skipped(&format!("{test}: HEADROOM_FIRMWARE names no firmware; `.ci/firmware` builds it"));
    }
    built.as_ref()
}

fn frame(index: u64) -> Vec<u8> {
    SyntheticFrames::new(7, 32, 32).frame(index).into_raw()
}

fn infer(id: u64, rgb: &[u8]) -> SerialRequest<'_> {
    SerialRequest::Wire(Request::Infer { id, width: 32, height: 32, outputs: Outputs::Both, rgb })
}

/// What the integer engine on this machine says to a frame at a rung of the image.
struct Host<'a> {
    image: FlashImage<'a>,
    arena: Vec<u8>,
}

impl<'a> Host<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let image = FlashImage::read(bytes).unwrap();
        let needed = arena_bytes(&ArenaSizes::of_model(&image.model, FEW_TOKENS));
        assert!(needed <= MOST_SCRATCH, "{needed} bytes of scratch memory");
        Self { image, arena: vec![0; needed] }
    }

    fn outputs(&mut self, rung: usize, frame: &[u8]) -> (Vec<f32>, Vec<f32>) {
        let sizes = *self.image.model.sizes();
        let kept = self.image.map.sub_network_of(rung).unwrap();
        let kept = Corrected { kept: &kept, correction: self.image.model.correction_of_rung(rung) };
        let (mut embedding, mut logits) = (vec![0.0; sizes.embed_dim], vec![0.0; sizes.classes]);
        let output = IntegerOutput { embedding: Some(&mut embedding), logits: Some(&mut logits), tokens: None };
        let mut engine = IntegerVit::new(self.image.model, &mut self.arena).unwrap();
        engine.infer(frame, &kept, output).unwrap();
        (embedding, logits)
    }
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn every_rung_has_the_bits_of_the_host_and_takes_the_recorded_instructions() {
    let Some(built) = built("every rung") else { return };
    let bytes = fs::read(&built.image).unwrap();
    let mut host = Host::new(&bytes);
    let mut emulator = Emulator::start(built, Clock::Instructions);
    let Answer::Hello { rungs } = emulator.next() else { panic!("the firmware serves") };
    assert_eq!(rungs, host.image.map.rungs().len());
    let mut counts = BTreeMap::new();
    for rung in 0..rungs {
        let held = emulator.ask(&SerialRequest::Hold { id: 1, rung: Some(rung as u8) }, 1);
        assert_eq!(held, Answer::Done);
        let frame = frame(100 + rung as u64);
        let Answer::Result(result) = emulator.ask(&infer(2, &frame), 2) else { panic!("a result") };
        let (embedding, logits) = host.outputs(rung, &frame);
        assert_eq!((result.rung, result.macs), (rung, host.image.map.rungs()[rung].macs));
        assert_eq!(bits(&result.embedding), bits(&embedding), "embedding at rung {rung}");
        assert_eq!(bits(&result.logits), bits(&logits), "logits at rung {rung}");
        assert!(embedding.iter().any(|value| *value != 0.0));
        // The emulator's clock ticks once a nanosecond and instruction.
        counts.insert(result.macs, result.nanoseconds);
    }
    compare_with_record(&counts);
}

/// `instructions.toml` beside the board: multiply-accumulates of a rung and the instructions of its inference.
fn compare_with_record(counts: &BTreeMap<u64, u64>) {
    let path = repository().join("boards").join(BOARD).join("instructions.toml");
    if std::env::var_os("HEADROOM_RECORD").is_some() {
        let head = "# Instructions of an inference of the demo model, by the MACs of its rung, as QEMU counts them.\n\
                    # HEADROOM_RECORD=1 .ci/firmware writes it anew.\n";
        let lines = counts.iter().rev().map(|(macs, count)| format!("{macs} = {count}\n"));
        fs::write(&path, head.to_owned() + &lines.collect::<String>()).unwrap();
    }
    let text = fs::read_to_string(&path).expect("the record is there");
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let recorded: BTreeMap<u64, u64> = lines
        .map(|line| line.split_once(" = ").expect("a pair"))
        .map(|(macs, count)| (macs.parse().unwrap(), count.parse().unwrap()))
        .collect();
    for (macs, &count) in counts {
        // A rung of other counts is compared by the nearest one: instructions go with multiply-accumulates.
        let nearest = recorded.iter().min_by_key(|(other, _)| other.abs_diff(*macs)).expect("a rung was recorded");
        let expected = *nearest.1 as f64 / *nearest.0 as f64;
        let found = count as f64 / *macs as f64;
        println!("{macs} MACs: {count} instructions, {found:.3} a MAC");
        assert!(
            (found / expected - 1.0).abs() <= TOLERANCE,
            "{macs} MACs take {found:.3} instructions each, recorded were {expected:.3} at {} MACs",
            nearest.0
        );
    }
}

#[test]
fn frames_are_classified_while_the_board_heats_up_and_cools_down() {
    let Some(built) = built("a scripted temperature") else { return };
    let bytes = fs::read(&built.image).unwrap();
    let mut host = Host::new(&bytes);
    let mut emulator = Emulator::start(built, Clock::Real);
    let Answer::Hello { rungs } = emulator.next() else { panic!("the firmware serves") };
    // One odd sample changes nothing, so that it stays as warm until the governor is convinced. The last digit moves, as
    // that of every live sensor does: one that always says the same while the load changes is taken for stuck.
    let warm_until = |emulator: &mut Emulator, degrees: i32, enough: &dyn Fn(usize, &str) -> bool| {
        // How soon the governor trusts a board that cooled down depends on what it has learned from it: over 90 s were seen.
        let deadline = Instant::now() + Duration::from_secs(300);
        for wobble in (0..7).cycle() {
            let temperature = Temperature::from_millidegrees(degrees * 1000 + wobble * 100);
            let Answer::Status { rung, mode, binding } =
                emulator.ask(&SerialRequest::Temperature { id: 9, temperature }, 9)
            else {
                panic!("a status")
            };
            if enough(rung, &mode) {
                return;
            }
            assert!(Instant::now() < deadline, "rung {rung} in mode {mode}, bound by {binding}, at {degrees} °C");
            std::thread::sleep(Duration::from_millis(300));
        }
    };
    let mut ran = Vec::new();
    let mut classify = |emulator: &mut Emulator, frames: std::ops::Range<u64>| {
        for index in frames {
            let frame = frame(index);
            let Answer::Result(result) = emulator.ask(&infer(index, &frame), index) else { panic!("a result") };
            assert_eq!(bits(&result.logits), bits(&host.outputs(result.rung, &frame).1), "frame {index}");
            ran.push(result.rung);
        }
    };
    warm_until(&mut emulator, 40, &|rung, mode| (rung, mode) == (0, "normal"));
    classify(&mut emulator, 10..34);
    warm_until(&mut emulator, 118, &|rung, mode| (rung, mode) == (rungs - 1, "emergency"));
    classify(&mut emulator, 34..38);
    // Below the target the emergency ends, and the rungs come back one after the other.
    warm_until(&mut emulator, 40, &|rung, mode| rung < rungs - 1 && mode == "normal");
    classify(&mut emulator, 38..42);
    assert_eq!(ran.len(), 32);
    // How warm the board is taken to be is all that the script says; what else the governor learns, from an emulator
    // on a busy machine, is left to it.
    assert_eq!(ran[0], 0, "{ran:?}");
    assert_eq!(ran[24..28], [rungs - 1; 4], "{ran:?}");
    assert!(ran[28] < rungs - 1, "{ran:?}");
}

#[test]
fn a_damaged_image_leads_to_a_safe_state_that_answers_with_the_error() {
    let Some(built) = built("a damaged image") else { return };
    let bytes = fs::read(&built.image).unwrap();
    let home = tempfile::tempdir().unwrap();
    let damaged = home.path().join("damaged.bin");
    for (position, expected) in [(0, "not a flash image"), (40, "damaged"), (bytes.len() - 100, "damaged")] {
        let mut changed = bytes.clone();
        changed[position] ^= 1;
        fs::write(&damaged, changed).unwrap();
        let mut emulator = Emulator::start_with(&built.firmware, &damaged, Clock::Real);
        let failed = |answer: Answer| match answer {
            Answer::Failed(text) => assert!(text.contains(expected), "{text}"),
            other => panic!("{other:?}"),
        };
        failed(emulator.next());
        failed(emulator.ask(&infer(5, &frame(0)), 5));
        failed(emulator.ask(&SerialRequest::Wire(Request::Status { id: 6 }), 6));
    }
}

#[test]
fn noise_on_the_line_is_answered_and_does_not_last() {
    let Some(built) = built("noise") else { return };
    let mut emulator = Emulator::start(built, Clock::Real);
    assert!(matches!(emulator.next(), Answer::Hello { .. }));
    emulator.send_bytes(&[3, 1, 4, 1, 5, 0]);
    assert!(matches!(emulator.next_error(), Answer::Error(_)));
    emulator.send_bytes(&[vec![7; 40_000], vec![0]].concat());
    let Answer::Error(text) = emulator.next_error() else { panic!("an error") };
    assert!(text.contains("40000 bytes"), "{text}");
    assert!(matches!(emulator.ask(&infer(7, &frame(0)), 7), Answer::Result(_)));
}

#[test]
fn the_firmware_is_small() {
    let Some(built) = built("the size of the firmware") else { return };
    let bytes = flash_bytes(&built.firmware);
    println!("{bytes} bytes of flash");
    assert!((10_000..=MOST_FLASH).contains(&bytes), "{bytes} bytes of flash, {MOST_FLASH} are the goal");
}

/// Bytes of a 32-bit ELF file that are loaded: the file sizes of its segments.
fn flash_bytes(path: &Path) -> u64 {
    let elf = fs::read(path).unwrap();
    let number = |at: usize, bytes: usize| elf[at..at + bytes].iter().rev().fold(0, |n, b| n << 8 | u64::from(*b));
    assert_eq!(&elf[..5], b"\x7fELF\x01");
    let (first, size, count) = (number(28, 4), number(42, 2), number(44, 2));
    let headers = (0..count).map(|index| (first + index * size) as usize);
    headers.filter(|&at| number(at, 4) == 1).map(|at| number(at + 16, 4)).sum()
}
