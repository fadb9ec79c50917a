//! Loads every board profile of the repository, and breaks one in every way.
#![cfg(feature = "std")]

use std::fs;
use std::path::{Path, PathBuf};

use headroom_shared::board::{DeploymentMethod, MemoryRegion, ProbeRs};
use headroom_shared::board_file::{self, BoardFileError};
use headroom_shared::cost;
use headroom_shared::{MlpKind, ModelShape, Origin, Roofline, SubNetwork, Work};

/// `(folder, text of board.toml)` of every folder under `boards/`.
fn board_files() -> Vec<(PathBuf, String)> {
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../boards");
    let mut files: Vec<_> = fs::read_dir(&boards)
        .expect("the repository has boards/")
        .map(|entry| entry.expect("boards/ can be listed").path())
        .filter(|path| path.join("board.toml").is_file())
        .map(|folder| {
            let text = fs::read_to_string(folder.join("board.toml")).expect("it was there a moment ago");
            (folder, text)
        })
        .collect();
    files.sort();
    files
}

fn board_text(name: &str) -> String {
    let found = board_files().into_iter().find(|(folder, _)| folder.ends_with(name));
    found.unwrap_or_else(|| panic!("boards/{name}")).1
}

fn orin_nano() -> String {
    board_text("jetson-orin-nano")
}

#[test]
fn every_board_loads_under_the_name_of_its_folder() {
    let files = board_files();
    assert!(!files.is_empty());
    for (folder, text) in files {
        let board = board_file::parse(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        assert_eq!(Some(board.name.as_str()), folder.file_name().and_then(|name| name.to_str()));
    }
}

/// The one published figure: ViT-B/16 in f16 at 158 images per second.
#[test]
fn the_orin_nano_is_predicted_to_be_as_fast_as_published() {
    let shape = ModelShape {
        blocks: 12,
        heads: 12,
        head_dim: 64,
        neurons: 3072,
        embed_dim: 768,
        tokens: 197,
        mlp: MlpKind::Plain,
        bytes_per_weight: 2,
        outside_macs: 196 * 768 * 768 + 768 * 1000,
        outside_weight_bytes: 2 * (768 * 768 + 768 * 1000),
        floor_heads: 0,
        floor_neurons: 0,
    };
    let board = board_file::parse(&orin_nano()).expect("valid");
    let dense = SubNetwork::dense(&shape);
    let prediction = Roofline::new(&board, shape.bytes_per_weight).predict(Work::of(&shape, &dense));
    let images_per_second = 1.0 / prediction.latency.as_seconds();
    assert!((images_per_second / 158.0 - 1.0).abs() < 0.01, "{images_per_second}");
    let power = prediction.energy.over(prediction.latency).expect("a positive latency");
    assert!(power > board.power.idle.value && power <= board.power.maximum.value, "{power}");
    assert_eq!(board.compute.effective_fraction.origin, Origin::Measured);

    // f32 has no tensor cores, and a sub-network costs less.
    let f32_shape = ModelShape { bytes_per_weight: 4, ..shape };
    let slower = Roofline::new(&board, 4).predict(Work::of(&f32_shape, &dense));
    assert!(slower.latency > prediction.latency);
    let half = SubNetwork::from_counts(&shape, &[(6, 1536); 12]).expect("within the shape");
    let smaller = Roofline::new(&board, 2).predict(Work::of(&shape, &half));
    assert!(smaller.latency < prediction.latency && smaller.energy < prediction.energy);
    assert!(cost::macs(&shape, &half) < cost::macs(&shape, &dense));
}

#[test]
fn memory_bounds_what_does_little_with_many_bytes() {
    let board = board_file::parse(&orin_nano()).expect("valid");
    let work = Work { macs: 1, weight_bytes: 71_400_000, activation_bytes: 0 };
    // 71.4 MB at 0.7 of 102 GB/s is 1 ms, plus 0.2 ms.
    let latency = Roofline::new(&board, 2).predict(work).latency;
    assert_eq!(latency.as_nanoseconds().div_ceil(1000), 1200);
}

#[test]
fn overwhelming_work_saturates() {
    let board = board_file::parse(&orin_nano()).expect("valid");
    let work = Work { macs: u64::MAX, weight_bytes: u64::MAX, activation_bytes: u64::MAX };
    assert!(Roofline::new(&board, 2).predict(work).latency.as_seconds() > 1e6);
}

/// Replaces the one occurrence of `from` and returns the message of the refusal.
fn refusal(from: &str, to: &str) -> String {
    refusal_of("jetson-orin-nano", from, to)
}

fn refusal_of(board: &str, from: &str, to: &str) -> String {
    let text = board_text(board);
    assert_eq!(text.matches(from).count(), 1, "`{from}` is there once");
    board_file::parse(&text.replacen(from, to, 1)).expect_err("refused").to_string()
}

#[test]
fn form_errors_name_key_expected_and_found() {
    for (from, to, expected) in [
        ("soc = ", "system = ", "unknown field `system`"),
        ("soc = \"NVIDIA T234 (Orin), GPU sm_87\"\n", "", "missing field `soc`"),
        ("id = 2", "id = \"two\"", "invalid type: string \"two\", expected u8"),
        ("origin = \"measured\", source = \"developer kit", "source = \"developer kit", "missing field `origin`"),
        (
            "origin = \"measured\", source = \"developer kit",
            "origin = \"rumour\", source = \"developer kit",
            "`rumour`",
        ),
        ("value = 5_400,", "value = -5_400,", "expected u32"),
        ("value = 5_400,", "value = 5_400, unit = \"mW\",", "unknown field `unit`"),
        ("\"throttling\"", "\"telepathy\"", "unknown variant `telepathy`"),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(expected), "{from} -> {to}: {message}");
        assert!(message.contains("line "), "{message}");
    }
    let source = "developer kit, VDD_IN 5.2 to 5.6 W, field report on fieldbench";
    assert!(refusal(source, " ").contains("source"), "a blank source is refused");
    let long = "x".repeat(200);
    assert!(refusal("NVIDIA Jetson Orin Nano 8GB with Super power modes", &long).contains("128 bytes"));
}

#[test]
fn content_errors_name_key_expected_and_found() {
    for (from, to, expected) in [
        ("name = \"jetson-orin-nano\"", "name = \"Jetson Orin\"", "`name`: expected lower-case letters"),
        ("value = 102_000_000_000", "value = 0", "`memory.bandwidth_bytes_per_second` is 0, expected more than 0"),
        ("value = 0.343", "value = nan", "`compute.effective_fraction` is NaN, expected above 0, to 1"),
        ("value = 0.343", "value = 1.5", "`compute.effective_fraction` is 1.5"),
        ("value = 6.5", "value = -6.5", "`power.picojoules_per_mac` is -6.5, expected finite, 0 or more"),
        ("value = 6.5", "value = inf", "`power.picojoules_per_mac` is inf"),
        ("value = 85_000", "value = 99_000", "`thermal.target_millidegrees` is 99000, expected less than the 99000"),
        ("value = 104_500", "value = 90_000", "`thermal.passive_millidegrees` is 99000, expected less than the 90000"),
        ("value = 5_400", "value = 50_000", "`power.idle_milliwatts` is 50000"),
        ("id = 2", "id = 1", "`power_mode`: entry 2 repeats"),
        ("default_power_mode = \"25W\"", "default_power_mode = \"40W\"", "names no `power_mode`"),
        ("in_total = true", "in_total = false", "`rail with in_total = true`: none found"),
        (
            "total_power = \"input\"",
            "total_power = \"all\"",
            "unknown variant `all`, expected `input` or `lower-bound`",
        ),
        ("label = \"VDD_SOC\"", "label = \"VDD_IN\"", "`rail`: entry 2 repeats"),
        ("capability = \"power\"", "capability = \"throttling\"", "capability = \"power\"`: none found"),
        ("[\"p3767-0003\", \"p3767-0005\"]", "[]", "`identity.modules`: none found"),
        ("\"p3767-0005\"]", "\"\"]", "`identity.modules`: expected part numbers"),
        ("\"/opt/headroom\"", "\"headroom\"", "`deployment.root`: expected an absolute path"),
        ("\"ssh\"", "\"pigeon\"", "unknown variant `pigeon`"),
        ("\"/opt/headroom/bin\"", "\"opt/headroom/bin\"", "`deployment.programs`: expected an absolute path"),
    ] {
        let message = refusal(from, to);
        assert!(message.contains(expected), "{from} -> {to}: {message}");
    }
    let two_inputs = orin_nano().replace("in_total = false", "in_total = true");
    let error = board_file::parse(&two_inputs).expect_err("refused");
    assert!(error.to_string().contains("is 3, expected 1"), "{error}");
    let no_zones = orin_nano().replace("capability = \"temperature\"", "capability = \"throttling\"");
    let error = board_file::parse(&no_zones).expect_err("refused");
    assert!(matches!(error, BoardFileError::Content(_)) && error.to_string().contains("temperature"), "{error}");
}

#[test]
fn a_microcontroller_has_a_memory_map_and_nothing_of_linux() {
    let nucleo = board_file::parse(&board_text("nucleo-h743zi")).expect("valid");
    let DeploymentMethod::ProbeRs(ProbeRs { chip: Some(chip) }) = nucleo.deployment.method else { panic!("a chip") };
    assert_eq!((chip.name.as_str(), chip.sector_erase_milliseconds.value), ("STM32H743ZITx", 1_000));
    let map = nucleo.microcontroller.expect("a memory map");
    assert_eq!(map.bundle_flash.value, MemoryRegion { address: 0x0802_0000, bytes: 0x001E_0000 });
    for (from, to, expected) in [
        (
            "bytes = 0x0002_0000 }, origin = \"vendor\", source = \"ST RM0433, embedded",
            "bytes = 0x0002_0001 }, origin = \"vendor\", source = \"ST RM0433, embedded",
            "`microcontroller.bundle_flash` and `microcontroller.firmware_flash` overlap",
        ),
        ("bytes = 0x001E_0000", "bytes = 0", "`microcontroller.bundle_flash` is 0"),
        (
            "address = 0x2400_0000",
            "address = 0xFFFF_0000",
            "`microcontroller.scratch_ram` is 524288, expected 1 or more bytes that end",
        ),
        (
            "stack_bytes = { value = 32_768",
            "stack_bytes = { value = 131_072",
            "`microcontroller.stack_bytes` is 131072, expected less",
        ),
        ("chip = \"STM", "root = \"/opt\"\nchip = \"STM", "folders are no keys of method \"probe-rs\""),
        (
            "soc = ",
            "total_power = \"input\"\nsoc = ",
            "`total_power` is not for boards with deployment method \"probe-rs\"",
        ),
        ("\"probe-rs\"", "\"ssh\"", "`chip` and its rates are no keys of method \"ssh\""),
        ("chip = \"STM32H743ZITx\"", "", "missing field `chip`"),
        (
            "program_bytes_per_second = { value = 320_000",
            "program_bytes_per_second = { value = 0",
            "expected more than 0",
        ),
        ("capability = \"temperature\"", "capability = \"power\"", "\"temperature\"`: none found"),
    ] {
        let message = refusal_of("nucleo-h743zi", from, to);
        assert!(message.contains(expected), "{from} -> {to}: {message}");
    }
    let without =
        board_text("rp2350").replace("method = \"probe-rs\"", "method = \"ssh\"").replace("chip = \"RP235x\"", "");
    let (without, _) = without.split_at(without.find("sector_erase").expect("rates"));
    let error = board_file::parse(without).expect_err("refused").to_string();
    assert!(error.contains("missing field `root`"), "{error}");
}
