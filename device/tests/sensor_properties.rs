//! Whatever the files of a board hold, and whatever the clock does, readings are sound.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};

use headroom_device::reading::{Measurement, SensorReading};
use headroom_device::sources::Sensors;
use headroom_shared::{BoardProfile, Temperature, TimeSpan, board_file};
use proptest::prelude::*;

#[path = "../../tests/trees/mod.rs"]
mod trees;

use trees::FakeTree;

/// Numbers near what files hold, words that drivers use, and any bytes.
fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        any::<i64>().prop_map(|number| format!("{number}\n").into_bytes()),
        (-300_000i64..300_000).prop_map(|number| format!("{number}\n").into_bytes()),
        prop::sample::select(vec!["", "\n", "N/A", "critical", "passive", "Discharging", "pmode:", "0x", "0xfff"])
            .prop_map(|word| word.as_bytes().to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ]
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// One tree for all cases, since making one takes longer than using it.
struct Board {
    tree: FakeTree,
    files: Vec<PathBuf>,
    profile: Option<BoardProfile>,
}

fn board(name: &str, profile: Option<&str>) -> Board {
    let tree = FakeTree::of(name);
    let mut found = Vec::new();
    files(tree.root(), &mut found);
    found.sort();
    let profile = profile.map(|board| {
        let file = format!("{}/../boards/{board}/board.toml", env!("CARGO_MANIFEST_DIR"));
        board_file::parse(&fs::read_to_string(file).unwrap()).unwrap()
    });
    Board { tree, files: found, profile }
}

fn assert_sound(reading: &SensorReading) -> Result<(), TestCaseError> {
    if let Some(temperature) = reading.temperature.value() {
        let range = Temperature::from_millidegrees(-55_000)..=Temperature::from_millidegrees(150_000);
        prop_assert!(range.contains(&temperature), "{temperature}");
    }
    if let Some(rates) = reading.over_current.value() {
        prop_assert!(rates.sustained >= 0.0 && rates.sustained.is_finite(), "{rates:?}");
        prop_assert!(rates.instantaneous >= 0.0 && rates.instantaneous.is_finite(), "{rates:?}");
    }
    if let Some(charge) = reading.charge.value() {
        prop_assert!((0.0..=1.0).contains(&charge.fraction()), "{charge:?}");
    }
    Ok(())
}

/// Changes files before and after the first look; the tree is as before in the end.
fn readings_are_sound(
    board: &Board,
    changes: &[(prop::sample::Index, Vec<u8>)],
    times: &[u64],
) -> Result<(), TestCaseError> {
    let originals: Vec<_> = changes
        .iter()
        .map(|(index, _)| {
            let path = index.get(&board.files);
            (path, fs::read(path).unwrap())
        })
        .collect();
    let (early, late) = changes.split_at(changes.len() / 2);
    let change = |changes: &[(prop::sample::Index, Vec<u8>)]| {
        for (index, content) in changes {
            fs::write(index.get(&board.files), content).unwrap();
        }
    };
    change(early);
    let mut sensors = Sensors::discover(board.tree.root(), board.profile.as_ref());
    let mut outcome = Ok(());
    for (pass, time) in times.iter().enumerate() {
        if pass == 1 {
            change(late);
        }
        outcome = outcome.and_then(|()| assert_sound(&sensors.read_everything(TimeSpan::from_nanoseconds(*time))));
    }
    if let Some(limits) = sensors.temperature_limits() {
        outcome = outcome.and_then(|()| {
            prop_assert!(limits.target < limits.passive && limits.passive < limits.critical, "{limits:?}");
            Ok(())
        });
    }
    // The same file may have been changed twice: the first original is written last.
    for (path, original) in originals.iter().rev() {
        fs::write(path, original).unwrap();
    }
    outcome
}

thread_local! {
    static BOARDS: RefCell<Vec<Board>> = RefCell::new(vec![
        board("jetson-orin-nano-r36", Some("jetson-orin-nano")),
        board("jetson-agx-thor", None),
        board("x86-laptop", None),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn any_content_at_any_time_gives_sound_readings(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), content()), 1..24),
        times in prop::collection::vec(prop_oneof![0u64..20_000_000_000, any::<u64>()], 1..5),
    ) {
        BOARDS.with_borrow(|boards| readings_are_sound(&boards[which], &changes, &times))?;
    }
}

#[test]
fn the_tree_is_sound_as_it_is() {
    let board = board("jetson-orin-nano-r36", Some("jetson-orin-nano"));
    let mut sensors = Sensors::discover(board.tree.root(), board.profile.as_ref());
    assert!(matches!(sensors.read(TimeSpan::default()).temperature, Measurement::Measured(_)));
}
