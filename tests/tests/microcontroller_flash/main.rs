//! `host-flash` for boards that a debug probe programs: the plan, what is refused, and what is said without a probe.
//!
//! No test attaches to anything, whatever is plugged in: what is not a dry run asks for a probe that cannot be there.

mod elf;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use elf::Elf;
use headroom_tests::{ended, is_refused, program, small_job, succeeds};
use serde_json::Value;
use tempfile::{TempDir, tempdir};

const ARMV7E_M: u8 = 13;
const ARMV8_M: u8 = 17;

/// A bundle of the demo model for a board; made once.
fn bundle(board: &'static str) -> PathBuf {
    static BUNDLES: OnceLock<TempDir> = OnceLock::new();
    let home = BUNDLES.get_or_init(|| {
        let home = tempdir().unwrap();
        for board in ["nucleo-h743zi", "rp2350"] {
            let _ = succeeds(small_job(&home.path().join(board)).args(["--target", board]));
        }
        home
    });
    home.path().join(board)
}

fn flash(board: &'static str) -> Command {
    let mut command = program("host-flash");
    command.args(["--target", board, "--bundle"]).arg(bundle(board));
    command
}

fn dry_run(board: &'static str, firmware: &Path) -> Command {
    let mut command = flash(board);
    command.arg("--dry-run").arg("--firmware").arg(firmware);
    command
}

fn firmware(home: &TempDir, elf: &Elf) -> PathBuf {
    let path = home.path().join("firmware.elf");
    fs::write(&path, elf.bytes()).unwrap();
    path
}

fn sectors(write: &Value) -> Vec<(u64, u64)> {
    let of = |sector: &Value| (sector["address"].as_u64().unwrap(), sector["bytes"].as_u64().unwrap());
    write["sectors"].as_array().unwrap().iter().map(of).collect()
}

#[test]
fn the_plan_of_a_nucleo_has_its_two_banks_and_large_sectors() {
    let home = tempdir().unwrap();
    let elf = Elf::arm(ARMV7E_M, &[(0x0800_0000, 664), (0x0800_0298, 40_001), (0x0801_0000, 8)]);
    let mut plan = dry_run("nucleo-h743zi", &firmware(&home, &elf));
    let report: Value = serde_json::from_str(&succeeds(plan.arg("--json"))).unwrap();
    assert_eq!((&report["version"], &report["chip"]), (&1.into(), &"STM32H743ZITx".into()));
    assert_eq!((&report["programmed"], &report["probe"]), (&false.into(), &Value::Null));

    let writes = report["writes"].as_array().unwrap();
    assert_eq!(writes.len(), 3, "the demo model goes on in the second bank");
    assert_eq!((&writes[0]["content"], &writes[0]["bytes"]), (&"firmware".into(), &(664 + 40_001 + 8).into()));
    assert_eq!(sectors(&writes[0]), [(0x0800_0000, 0x2_0000)]);
    // What the first bank has left, and then the second one: a sector each.
    for (write, first) in [(&writes[1], 0x0802_0000), (&writes[2], 0x0810_0000)] {
        assert_eq!((&write["content"], &write["address"]), (&"bundle".into(), &first.into()));
        let count = write["bytes"].as_u64().unwrap().div_ceil(0x2_0000);
        let expected = (0..count).map(|index| (first + index * 0x2_0000, 0x2_0000));
        assert_eq!(sectors(write), expected.collect::<Vec<_>>());
    }

    let estimate = &report["estimate"];
    assert_eq!(estimate["erase_seconds"].as_f64(), Some(writes.iter().map(|write| sectors(write).len() as f64).sum()));
    assert_eq!(estimate["sector_erase_milliseconds"]["origin"], "vendor");
    assert_eq!(estimate["transfer_bytes_per_second"]["origin"], "estimated");

    let text = succeeds(&mut dry_run("nucleo-h743zi", &home.path().join("firmware.elf")));
    for part in ["STM32H743ZITx", "BANK_1", "1 x 128 KiB at 0x08000000", "estimate ", "nothing was changed"] {
        assert!(text.contains(part), "expected `{part}` in:\n{text}");
    }
}

#[test]
fn a_new_bundle_for_a_pico_needs_no_firmware_and_small_sectors() {
    let report: Value = serde_json::from_str(&succeeds(flash("rp2350").args(["--dry-run", "--json"]))).unwrap();
    assert_eq!((&report["chip"], &report["firmware"]), (&"RP235x".into(), &Value::Null));
    let writes = report["writes"].as_array().unwrap();
    assert_eq!((writes.len(), &writes[0]["content"]), (1, &"bundle".into()));
    let bytes = writes[0]["bytes"].as_u64().unwrap();
    let expected = (0..bytes.div_ceil(4096)).map(|index| (0x1004_0000 + index * 4096, 4096));
    assert_eq!(sectors(&writes[0]), expected.collect::<Vec<_>>());

    let home = tempdir().unwrap();
    let elf = firmware(&home, &Elf::arm(ARMV8_M, &[(0x1000_0000, 300), (0x1000_2000, 4097)]));
    let report: Value = serde_json::from_str(&succeeds(dry_run("rp2350", &elf).arg("--json"))).unwrap();
    let erased: Vec<u64> = sectors(&report["writes"][0]).iter().map(|(address, _)| *address).collect();
    assert_eq!(erased, [0x1000_0000, 0x1000_2000, 0x1000_3000], "nothing between is erased");
}

#[test]
fn firmware_that_does_not_belong_there_is_refused() {
    let home = tempdir().unwrap();
    let right = Elf::arm(ARMV7E_M, &[(0x0800_0000, 64)]);
    let at = |address, length| Elf::arm(ARMV7E_M, &[(0x0800_0000, 64), (address, length)]);
    let cases: &[(Elf, &[&str])] = &[
        (at(0x0801_ffff, 2), &["firmware has 2 bytes at 0x0801ffff", "region of the bundle", "0x08020000"]),
        (at(0x2000_0000, 16), &["not all flash of the chip", "0x08000000..0x08100000", "firmware_flash"]),
        (at(0x081f_fff0, 17), &["not all flash of the chip"]),
        (at(0x0800_0010, 4), &["two values for the byte at 0x08000010"]),
        (Elf::arm(ARMV7E_M, &[]), &["firmware has no bytes for the flash"]),
        (Elf { machine: 243, ..right.clone() }, &["ELF number 243", "the board has Arm (40)"]),
        (Elf { class: 2, ..right.clone() }, &["no ELF file of 32 bits"]),
        (Elf { architecture: ARMV8_M, ..right.clone() }, &["is for Armv8-M", "core of Armv7E-M"]),
    ];
    for (elf, expected) in cases {
        is_refused(&mut dry_run("nucleo-h743zi", &firmware(&home, elf)), expected);
    }
    let _ = succeeds(&mut dry_run("nucleo-h743zi", &firmware(&home, &right)));

    // A linker that knows no region of the board, only the window of its chip.
    let beyond = firmware(&home, &Elf::arm(ARMV8_M, &[(0x1080_0000, 16)]));
    is_refused(&mut dry_run("rp2350", &beyond), &["outside its region: 262144 bytes at 0x10000000"]);
    let cut = home.path().join("cut.elf");
    let whole = right.bytes();
    for length in 0..whole.len() {
        fs::write(&cut, &whole[..length]).unwrap();
        if length.is_multiple_of(16) {
            is_refused(&mut dry_run("nucleo-h743zi", &cut), &["firmware is not for this board", "cut.elf"]);
        }
    }
    is_refused(&mut dry_run("nucleo-h743zi", &home.path().join("no")), &["cannot read", "No such file"]);
    is_refused(&mut dry_run("nucleo-h743zi", home.path()), &["cannot read", "directory"]);
}

#[test]
fn what_is_for_another_board_or_not_trusted_is_refused() {
    let mut other = program("host-flash");
    other.args(["--target", "nucleo-h743zi", "--dry-run", "--bundle"]).arg(bundle("rp2350"));
    is_refused(&mut other, &["made for `rp2350`, not for `nucleo-h743zi`", "host-prune --target nucleo-h743zi"]);
    let mut none = program("host-flash");
    is_refused(none.args(["--target", "rp2350", "--dry-run", "--bundle", "/no/such/bundle"]), &["/no/such/bundle"]);

    let mut emulated = program("host-flash");
    emulated.args(["--target", "qemu-mps2-an500", "--dry-run", "--bundle"]).arg(bundle("rp2350"));
    is_refused(&mut emulated, &["only an emulator has its chip", "host-flash image", "qemu-mps2-an500/README.md"]);

    let home = tempdir().unwrap();
    let key = home.path().join("key");
    let _ = succeeds(program("host-flash").args(["keygen", "--out"]).arg(&key));
    let public = fs::read_to_string(home.path().join("key.pub")).unwrap();
    let policy = home.path().join("trust.toml");
    let state = home.path().join("minimum");
    let text = format!(
        "version = 1\nboard = \"rp2350\"\nminimum_release_file = {state:?}\n[[key]]\nname = \"k\"\npublic_key = \"\"\"\n{public}\"\"\"\n"
    );
    fs::write(&policy, text).unwrap();
    fs::set_permissions(&policy, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    is_refused(flash("rp2350").args(["--dry-run", "--trust"]).arg(&policy), &["not signed"]);
}

#[test]
fn without_a_probe_nothing_is_written_and_the_hint_tells_what_to_do() {
    let refused = ended(flash("nucleo-h743zi").args(["--probe", "ffff:ffff:none"]));
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert_eq!(refused.stdout, "", "no result without a probe");
    // Machines differ in what is plugged in.
    let none = ["no debug probe was found; on USB: ", "probe.rs/docs/getting-started/probe-setup", "plugdev"];
    let other = ["no debug probe `ffff:ffff:none`; found: ", "--probe VID:PID"];
    let has_all = |texts: &[&str]| texts.iter().all(|text| refused.stderr.contains(text));
    assert!(has_all(&none) || has_all(&other), "{}", refused.stderr);
}

#[test]
fn options_of_the_other_kind_of_board_are_wrong_usage() {
    for (line, expected) in [
        ("--target rp2350 --dry-run", "--bundle DIR is needed"),
        ("--target rp2350 --bundle b --to host", "--to is for boards that run Linux"),
        ("--target jetson-orin --to host --firmware f", "--firmware is for boards without an operating system"),
        ("--target jetson-orin", "--to [USER@]HOST[:PORT] is needed"),
    ] {
        let refused = ended(program("host-flash").args(line.split(' ')));
        assert_eq!(refused.code, Some(2), "{line}: {}", refused.stderr);
        assert!(refused.stderr.contains(expected), "{line}: {}", refused.stderr);
    }
}
