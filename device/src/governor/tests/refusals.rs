//! What there is no governor of.

use super::*;

fn refusal(limits: Limits) -> GovernorError {
    Governor::new(&rungs(), limits).expect_err("refused")
}

#[test]
fn ladders_that_say_nothing() {
    assert_eq!(Governor::new(&[], Limits::default()).unwrap_err(), GovernorError::NoRungs);
    assert_eq!(Governor::new(&[rungs()[0]; 33], Limits::default()).unwrap_err(), GovernorError::TooManyRungs);
    let with = |change: fn(&mut RungProfile), limits: Limits| {
        let mut rungs = rungs();
        change(&mut rungs[1]);
        Governor::new(&rungs, limits).map(|_| ())
    };
    let no_latency = with(|rung| rung.latency = TimeSpan::from_nanoseconds(0), Limits::default());
    assert_eq!(no_latency, Err(GovernorError::NoLatency { rung: 1 }));
    assert!(matches!(with(|rung| rung.fidelity = f32::NAN, hot()), Err(GovernorError::Fidelity { rung: 1, .. })));
    assert!(matches!(with(|rung| rung.fidelity = 1.5, hot()), Err(GovernorError::Fidelity { rung: 1, .. })));
    let no_energy: fn(&mut RungProfile) = |rung| rung.energy = Energy::from_microjoules(0);
    assert_eq!(with(no_energy, hot()), Err(GovernorError::NoEnergy { rung: 1, limit: LimitKind::Temperature }));
    assert_eq!(with(no_energy, deadline(30)), Ok(()));
}

#[test]
fn limits_that_make_no_sense() {
    assert_eq!(refusal(deadline(0)), GovernorError::ZeroLimit(LimitKind::Deadline));
    for found in [0.0, 1.0, -0.5, f32::NAN, f32::INFINITY] {
        let latency = TimeSpan::from_nanoseconds(1);
        let limits = Limits { deadline: Some(Deadline { latency, miss_rate: found }), ..Limits::default() };
        assert!(matches!(refusal(limits), GovernorError::MissRate { .. }), "{found}");
    }
    let power = Limits { power: Some(Power::from_milliwatts(0)), ..Limits::default() };
    assert_eq!(refusal(power), GovernorError::ZeroLimit(LimitKind::Power));
    let energy = Limits { energy: Some(Energy::from_microjoules(0)), ..Limits::default() };
    assert_eq!(refusal(energy), GovernorError::ZeroLimit(LimitKind::Energy));
    for (target, passive, critical) in [(99, 85, 104), (85, 104, 99), (85, 85, 104), (85, 104, 104)] {
        let celsius = |degrees: i32| Temperature::from_millidegrees(degrees * 1_000);
        let limits =
            TemperatureLimits { target: celsius(target), passive: celsius(passive), critical: celsius(critical) };
        let limits = Limits { temperature: Some(limits), ..Limits::default() };
        assert!(matches!(refusal(limits), GovernorError::TemperatureOrder { .. }));
    }
    let minimum = |value| Limits { minimum_fidelity: Some(value), ..Limits::default() };
    assert!(matches!(refusal(minimum(f32::NAN)), GovernorError::MinimumFidelity { .. }));
    let governor = Governor::new(&rungs()[2..], minimum(0.95));
    assert_eq!(governor.unwrap_err(), GovernorError::NothingUseful { minimum: 0.95, best: 0.9 });
}

#[test]
fn gains_that_are_no_numbers() {
    let refused = |change: fn(&mut Gains)| {
        let mut gains = Gains::default();
        change(&mut gains);
        governor(hot()).with_gains(gains).is_err()
    };
    assert!(!refused(|_| {}));
    assert!(refused(|gains| gains.proportional = f32::NAN));
    assert!(refused(|gains| gains.integral = -1.0));
    assert!(refused(|gains| gains.integral = f32::INFINITY));
    assert!(refused(|gains| gains.margin = 1.0));
    assert!(refused(|gains| gains.fastest_heating = 0.0));
    assert!(refused(|gains| gains.odd_deviations = f32::NAN));
    assert!(refused(|gains| gains.longest_pace = TimeSpan::from_nanoseconds(0)));
    assert!(refused(|gains| gains.longest_dwell = TimeSpan::from_nanoseconds(1)));
}

#[test]
fn limits_without_their_sensor() {
    let blind = Inputs { temperature: false, power: false };
    let refused = governor(hot()).with_inputs(blind).unwrap_err();
    assert_eq!(refused, GovernorError::NoSensor { limit: LimitKind::Temperature });
    let capped = Limits { power: Some(Power::from_milliwatts(1)), ..Limits::default() };
    assert_eq!(governor(capped).with_inputs(blind).unwrap_err(), GovernorError::NoSensor { limit: LimitKind::Power });
    assert!(governor(deadline(30)).with_inputs(blind).is_ok());
}
