//! What the sensors of each board say, on fake trees written from what is known of the board.

use headroom_device::reading::{Charge, Measurement, Missing, OverCurrentRates};
use headroom_device::sources::{
    PROJECTION_LIMIT, REDISCOVERY_PERIOD, Sensors, SupplyKind, TotalRule, TripEffect, Unmet,
};
use headroom_shared::board_file;
use headroom_shared::{BoardProfile, Frequency, Power, Temperature, TimeSpan};

#[path = "../../tests/trees/mod.rs"]
mod trees;

use trees::FakeTree;

fn profile(board: &str) -> BoardProfile {
    let file = format!("{}/../boards/{board}/board.toml", env!("CARGO_MANIFEST_DIR"));
    board_file::parse(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn seconds(seconds: u64) -> TimeSpan {
    TimeSpan::from_nanoseconds(seconds * 1_000_000_000)
}

fn celsius(millidegrees: i32) -> Measurement<Temperature> {
    Measurement::Measured(Temperature::from_millidegrees(millidegrees))
}

fn milliwatts(milliwatts: u32) -> Measurement<Power> {
    Measurement::Measured(Power::from_milliwatts(milliwatts))
}

fn megahertz(megahertz: u64) -> Measurement<Frequency> {
    Measurement::Measured(Frequency::from_megahertz(megahertz).unwrap())
}

fn missing<T>(reason: Missing) -> Measurement<T> {
    Measurement::Missing(reason)
}

/// Name and value of everything that a board measures of one kind.
fn named<'a, D, T>(
    devices: &'a [D],
    name: impl Fn(&'a D) -> &'a str,
    value: impl Fn(&'a D) -> Measurement<T>,
) -> Vec<(&'a str, Measurement<T>)> {
    devices.iter().map(|device| (name(device), value(device))).collect()
}

#[test]
fn orin_nano_r36() {
    let tree = FakeTree::of("jetson-orin-nano-r36");
    let profile = profile("jetson-orin-nano");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    let first = sensors.read_everything(seconds(0));
    assert_eq!(first.temperature, celsius(51_125));
    assert_eq!(first.power, milliwatts(5_405), "VDD_IN alone, 4968 mV x 1088 mA");
    assert_eq!(first.throttled, Measurement::Measured(false), "a fan and a hot surface are no throttling");
    assert_eq!(first.over_current, missing(Missing::Unavailable), "one pass gives no rate");
    assert_eq!(first.charge, missing(Missing::Absent));
    assert_eq!(sensors.total_rule(), TotalRule::ProfileRails);

    let zones = named(sensors.zones(), |zone| &zone.name, |zone| zone.temperature());
    assert_eq!(zones.len(), 9);
    assert_eq!(zones[0], ("cpu-thermal", celsius(51_125)));
    assert_eq!(zones[2], ("cv0-thermal", missing(Missing::Unavailable)));
    let counting: Vec<String> = sensors.zones().iter().filter(|zone| zone.counts).map(|zone| zone.stem()).collect();
    assert_eq!(counting, ["cpu", "gpu", "soc0", "soc1", "soc2", "tj"]);
    let effects: Vec<_> =
        sensors.zones()[0].trips.iter().map(|trip| (trip.temperature.as_millidegrees(), trip.effect)).collect();
    let expected = [(99_000, TripEffect::CutsClocks), (104_500, TripEffect::ShutsDown), (70_000, TripEffect::Nothing)];
    assert_eq!(effects, expected, "70 degrees drive hot-surface-alert only");
    assert_eq!(sensors.zones()[0].trips[2].drives, ["hot-surface-alert"]);

    let rails = named(sensors.rails(), |rail| &rail.label, |rail| rail.power());
    let expected = [("VDD_IN", milliwatts(5_405)), ("VDD_CPU_GPU_CV", milliwatts(913)), ("VDD_SOC", milliwatts(1_431))];
    assert_eq!(rails, expected);
    assert_eq!(sensors.rails()[0].critical_milliamperes, Some(4984));

    let [gpu] = sensors.gpus() else { panic!("one GPU") };
    assert_eq!((gpu.frequency(), gpu.cap(), gpu.load()), (megahertz(612), megahertz(918), Measurement::Measured(437)));
    assert_eq!((gpu.maximum, gpu.tpcs), (Frequency::from_megahertz(1020), Some(4)));
    let cpus = named(sensors.cpu_clocks(), |clock| &clock.name, |clock| clock.frequency());
    assert_eq!(cpus, [("policy0", megahertz(1344)), ("policy4", megahertz(1344))]);
    assert_eq!(sensors.power_mode().id(), Measurement::Measured(1));
    assert_eq!(sensors.power_mode().name(), Some("25W"));
    assert!(sensors.power_supplies().is_empty(), "what USB-C has negotiated is no measurement");

    // 20 events of OC3 in 2 s, as the power processor shows them.
    tree.write("sys/class/hwmon/hwmon3/oc3_event_cnt", "1422\n");
    let second = sensors.read(seconds(2));
    let rates = OverCurrentRates { sustained: 0.0, instantaneous: 10.0 };
    assert_eq!(second.over_current, Measurement::Measured(rates));
    tree.write("sys/class/thermal/cooling_device4/cur_state", "1\n");
    assert_eq!(sensors.read(seconds(3)).throttled, Measurement::Measured(true));
}

#[test]
fn orin_nano_r35() {
    let tree = FakeTree::of("jetson-orin-nano-r35");
    let profile = profile("jetson-orin-nano");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    let reading = sensors.read_everything(seconds(0));
    assert_eq!(reading.temperature, celsius(47_343));
    assert_eq!(reading.power, milliwatts(5_587));
    assert_eq!(reading.throttled, Measurement::Measured(false));
    assert_eq!(sensors.zones()[0].name, "CPU-therm");
    assert!(sensors.zones()[0].counts);
    let effects: Vec<_> = sensors.zones()[1].trips.iter().map(|trip| trip.effect).collect();
    assert_eq!(effects, [TripEffect::ShutsDown, TripEffect::CutsClocks]);
    let [gpu] = sensors.gpus() else { panic!("one GPU") };
    assert_eq!((gpu.name.as_str(), gpu.frequency(), gpu.tpcs), ("17000000.ga10b", megahertz(306), Some(4)));
    assert_eq!(sensors.power_mode().name(), Some("15W"));
}

#[test]
fn agx_orin() {
    let tree = FakeTree::of("jetson-agx-orin");
    let profile = profile("jetson-orin");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    let reading = sensors.read_everything(seconds(0));
    assert_eq!(reading.temperature, celsius(52_093));
    // 7354 + 1599 + 4571 + 607, of two chips.
    assert_eq!(reading.power, milliwatts(14_131));
    let labels: Vec<_> = sensors.rails().iter().map(|rail| rail.label.as_str()).collect();
    assert_eq!(labels, ["VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0", "VDDQ_VDD2_1V8AO"], "NC is no rail");
    let tboard = sensors.zones().iter().find(|zone| zone.stem() == "tboard").unwrap();
    assert!(tboard.counts && tboard.temperature() == celsius(41_500));
    assert_eq!(sensors.cpu_clocks().len(), 3);
    assert_eq!(sensors.power_mode().name(), Some("MODE_30W"));
    assert_eq!(sensors.gpus()[0].tpcs, Some(4));

    // A rail of the total that cannot be measured leaves no total.
    tree.remove("sys/class/hwmon/hwmon4");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    assert_eq!(sensors.read(seconds(0)).power, missing(Missing::Absent));
}

#[test]
fn agx_thor_without_a_profile() {
    let tree = FakeTree::of("jetson-agx-thor");
    let mut sensors = Sensors::discover(tree.root(), None);
    let reading = sensors.read_everything(seconds(0));
    assert_eq!(reading.temperature, celsius(46_875), "the zone of the GPU does not answer while it is off");
    assert_eq!(reading.power, missing(Missing::Absent), "no profile says which rail is the total");
    assert_eq!(reading.throttled, Measurement::Measured(false));
    let rails = named(sensors.rails(), |rail| &rail.label, |rail| rail.power());
    assert_eq!(rails[0], ("VDD_GPU", milliwatts(3_837)));
    assert_eq!(rails[3], ("VIN", milliwatts(34_842)), "the INA238 tells microwatts");
    let gpus = named(sensors.gpus(), |gpu| &gpu.name, |gpu| gpu.frequency());
    assert_eq!(gpus, [("gpu-gpc-0", megahertz(315)), ("gpu-nvd-0", megahertz(315))]);
    assert_eq!(sensors.gpus()[0].load(), missing(Missing::Absent));
    assert_eq!(sensors.power_mode().name(), Some("120W"));
    let limits = sensors.temperature_limits().unwrap();
    assert_eq!((limits.passive.as_millidegrees(), limits.critical.as_millidegrees()), (109_000, 114_500));

    tree.write("sys/class/thermal/cooling_device0/cur_state", "17\n");
    assert_eq!(sensors.read(seconds(1)).throttled, Measurement::Measured(true), "devfreq-gpu-gpc-0");
}

#[test]
fn agx_thor() {
    let tree = FakeTree::of("jetson-agx-thor");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile("jetson-thor")));
    let reading = sensors.read_everything(seconds(0));
    assert_eq!(reading.power, milliwatts(34_842), "the carrier's input alone");
    assert_eq!(reading.temperature, celsius(46_875));
    let limits = sensors.temperature_limits().unwrap();
    assert_eq!((limits.target.as_millidegrees(), limits.critical.as_millidegrees()), (95_000, 114_500));
}

#[test]
fn x86_laptop() {
    let tree = FakeTree::of("x86-laptop");
    let mut sensors = Sensors::discover(tree.root(), None);
    let reading = sensors.read_everything(seconds(0));
    assert_eq!(reading.temperature, celsius(62_000), "of the processor, neither disk nor radio");
    assert_eq!(reading.throttled, Measurement::Measured(false));
    assert_eq!(reading.over_current, missing(Missing::Absent));
    assert_eq!(reading.charge, Measurement::Measured(Charge::from_percent(63).unwrap()), "not of the mouse");
    assert_eq!((sensors.total_rule(), reading.power), (TotalRule::Batteries, milliwatts(14_250)));
    let names: Vec<_> = sensors.chip_temperatures().iter().map(|chip| chip.name.as_str()).collect();
    let expected = ["nvme Composite", "coretemp Package id 0", "coretemp Core 0", "coretemp Core 8"];
    assert_eq!(names, expected);
    let supplies: Vec<_> = sensors.power_supplies().iter().map(|supply| (supply.name.as_str(), supply.kind)).collect();
    let (mains, battery) = (SupplyKind::Mains, SupplyKind::Battery);
    assert_eq!(supplies, [("AC", mains), ("BAT0", battery), ("hidpp_battery_0", battery)]);
    assert!(sensors.rails().is_empty());
    let limits = sensors.temperature_limits().unwrap();
    let [target, passive, critical] =
        [limits.target, limits.passive, limits.critical].map(Temperature::as_millidegrees);
    assert_eq!((target, passive, critical), (80_000, 94_000, 100_000), "coretemp's, since no trip cuts clocks");

    // The counter wraps, 850 µJ before its end: 9,000,000 µJ in 1 s are 9 W. On mains, RAPL is what there is.
    tree.write("sys/class/powercap/intel-rapl:0/energy_uj", "8999150\n");
    tree.write("sys/class/power_supply/BAT0/status", "Charging\n");
    let reading = sensors.read(seconds(1));
    assert_eq!((sensors.total_rule(), reading.power), (TotalRule::Packages, milliwatts(9_000)));
    // The platform counter is the whole machine, where there is one.
    tree.write("sys/class/powercap/intel-rapl:1/name", "psys\n");
    tree.write("sys/class/powercap/intel-rapl:1/energy_uj", "5000000\n");
    sensors.rediscover();
    sensors.read(seconds(2));
    tree.write("sys/class/powercap/intel-rapl:1/energy_uj", "29000000\n");
    assert_eq!(sensors.read(seconds(4)).power, milliwatts(12_000));
    assert_eq!(sensors.total_rule(), TotalRule::Platform);
}

#[test]
fn raspberry_pi() {
    let tree = FakeTree::of("raspberry-pi");
    let mut sensors = Sensors::discover(tree.root(), None);
    let reading = sensors.read_everything(seconds(0));
    assert_eq!(reading.temperature, celsius(48_686));
    assert_eq!(reading.power, missing(Missing::Absent));
    assert_eq!(reading.throttled, Measurement::Measured(false));
    assert_eq!(sensors.cpu_clocks()[0].measured(), megahertz(1500));
    let limits = sensors.temperature_limits().unwrap();
    assert_eq!((limits.passive.as_millidegrees(), limits.critical.as_millidegrees()), (104_000, 110_000));
    assert_eq!(sensors.power_mode().id(), missing(Missing::Absent));
}

#[test]
fn rails_of_old_jetsons() {
    let tree = FakeTree::of("jetson-r32-rails");
    let mut sensors = Sensors::discover(tree.root(), None);
    sensors.read_everything(seconds(0));
    let rails = named(sensors.rails(), |rail| &rail.label, |rail| rail.power());
    assert_eq!(rails, [("POM_5V_IN", milliwatts(2_105)), ("POM_5V_GPU", milliwatts(120))]);
    assert_eq!(sensors.rails()[0].critical_milliamperes, Some(5000));
}

#[test]
fn a_tree_without_sensors_has_none() {
    let tree = FakeTree::empty();
    for root in [tree.root().to_path_buf(), tree.root().join("nowhere")] {
        let mut sensors = Sensors::discover(&root, None);
        assert_eq!(sensors.read_everything(seconds(0)), headroom_device::reading::SensorReading::ABSENT);
        assert_eq!(sensors.temperature_limits(), None);
        assert_eq!(sensors.total_rule(), TotalRule::None);
    }
}

/// Everything has been looked for again.
fn after_a_round(from: u64) -> impl Iterator<Item = TimeSpan> {
    let rounds = 11 * REDISCOVERY_PERIOD.as_nanoseconds() / seconds(1).as_nanoseconds();
    (from..from + rounds).map(seconds)
}

#[test]
fn what_vanishes_is_projected_then_missing_and_comes_back() {
    let tree = FakeTree::of("jetson-orin-nano-r36");
    let profile = profile("jetson-orin-nano");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    sensors.read(seconds(0));
    // The driver is loaded again and gets another number.
    tree.rename("sys/class/hwmon/hwmon1", "elsewhere");
    sensors.rediscover();
    let projected = Measurement::Projected { value: Power::from_milliwatts(5_405), age: seconds(3) };
    assert_eq!(sensors.read(seconds(3)).power, projected);
    let late = seconds(1).checked_add(PROJECTION_LIMIT).unwrap();
    assert_eq!(sensors.read(late).power, missing(Missing::Vanished));
    tree.rename("elsewhere", "sys/class/hwmon/hwmon17");
    for now in after_a_round(12) {
        sensors.read(now);
    }
    assert_eq!(sensors.read(seconds(30)).power, milliwatts(5_405), "found again by its name, without being told");
    assert_eq!(sensors.rails().len(), 3, "nothing is there twice");
}

#[test]
fn what_appears_late_is_found() {
    let tree = FakeTree::of("jetson-orin-nano-r36");
    let profile = profile("jetson-orin-nano");
    tree.rename("sys/class/devfreq", "devfreq-later");
    tree.rename("var", "var-later");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    sensors.read_everything(seconds(0));
    assert!(sensors.gpus().is_empty());
    assert_eq!(sensors.power_mode().id(), missing(Missing::Absent));
    tree.rename("devfreq-later", "sys/class/devfreq");
    tree.rename("var-later", "var");
    for now in after_a_round(1) {
        sensors.read_everything(now);
    }
    assert_eq!(sensors.gpus()[0].frequency(), megahertz(612));
    assert_eq!(sensors.power_mode().name(), Some("25W"));
}

#[test]
fn one_zone_that_stops_to_answer_leaves_the_others() {
    let tree = FakeTree::of("jetson-orin-nano-r36");
    let profile = profile("jetson-orin-nano");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile));
    sensors.read(seconds(0));
    for zone in ["0", "8"] {
        tree.silence(&format!("sys/class/thermal/thermal_zone{zone}/temp"));
    }
    sensors.rediscover();
    let hottest = Temperature::from_millidegrees(51_125);
    assert_eq!(
        sensors.read(seconds(5)).temperature,
        Measurement::Projected { value: hottest, age: seconds(5) },
        "an older, hotter value is the safer one"
    );
    assert_eq!(sensors.read(seconds(20)).temperature, celsius(51_000), "soc1, the hottest that answers");
    for zone in ["1", "5", "6", "7"] {
        tree.silence(&format!("sys/class/thermal/thermal_zone{zone}/temp"));
    }
    sensors.rediscover();
    assert_eq!(sensors.read(seconds(40)).temperature, missing(Missing::Unavailable));
}

#[test]
fn nonsense_is_malformed() {
    let tree = FakeTree::of("raspberry-pi");
    tree.remove("sys/class/hwmon/hwmon0");
    for content in ["", "\n", "N/A\n", "-256\n", "-256000\n", "48.5\n", "99999999999999999999999\n", "4\u{0}8\n"] {
        tree.write("sys/class/thermal/thermal_zone0/temp", content);
        let mut sensors = Sensors::discover(tree.root(), None);
        assert_eq!(sensors.read(seconds(0)).temperature, missing(Missing::Malformed), "{content:?}");
    }
    let tree = FakeTree::of("jetson-orin-nano-r36");
    let profile = profile("jetson-orin-nano");
    for (file, content) in [("in1_input", "-256\n"), ("curr1_input", "-256\n"), ("curr1_input", "")] {
        let path = format!("sys/class/hwmon/hwmon1/{file}");
        let before = std::fs::read(tree.root().join(&path)).unwrap();
        tree.write(&path, content);
        let mut sensors = Sensors::discover(tree.root(), Some(&profile));
        assert_eq!(sensors.read(seconds(0)).power, missing(Missing::Malformed), "{file} {content:?}");
        tree.write(&path, before);
    }
}

#[test]
fn another_boards_profile_measures_nothing_wrong() {
    let tree = FakeTree::of("jetson-agx-orin");
    let mut sensors = Sensors::discover(tree.root(), Some(&profile("jetson-orin-nano")));
    let reading = sensors.read(seconds(0));
    assert_eq!(reading.power, missing(Missing::Absent), "there is no VDD_IN");
    let rails = ["VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC"].map(|label| Unmet::Rail(label.into()));
    assert_eq!(sensors.unmet(), rails);
    assert_eq!(reading.temperature, celsius(52_093));
}
