//! What the governor does with what it is told.

use super::*;

/// Runs back to back at the chosen rung, which takes `slowdown` times its profile, for some seconds; returns the last
/// decision. Sensors say `celsius` and the true power.
fn work(
    governor: &Governor,
    state: &mut State,
    from: f64,
    seconds: f64,
    slowdown: f64,
    celsius: impl Fn(f64) -> f64,
) -> Decision {
    let (mut time, mut next_pass) = (from, from);
    let mut decision = governor.step(state, &Reading::default(), at(time));
    while time < from + seconds {
        let rung = rungs()[usize::from(decision.rung)];
        let latency = rung.latency.as_seconds() * slowdown;
        let pause = (decision.pace.as_seconds() - latency).max(0.0);
        time += latency + pause;
        decision = governor.step(state, &inference(decision.rung, latency * 1e3), at(time));
        if time >= next_pass {
            next_pass = time + 1.0;
            let dynamic = (rung.energy.as_joules() - 5.0 * rung.latency.as_seconds()) / (latency + pause);
            // No two readings of a live sensor are the same.
            let noise = (time * 977.0).sin() * 0.05;
            decision = governor.step(state, &sensors(celsius(time) + noise, 5.0 + dynamic + noise), at(time));
        }
    }
    decision
}

#[test]
fn without_limits_the_dense_model_runs_unpaced() {
    let governor = governor(Limits::default());
    let decision = work(&governor, &mut governor.start(), 0.0, 5.0, 3.0, |_| 120.0);
    assert_eq!((decision.rung, decision.binding, decision.mode), (0, Binding::Nothing, Mode::Normal));
    assert_eq!(decision.pace, TimeSpan::from_nanoseconds(0));
    assert!((decision.slowdown.mean - 3.0).abs() < 0.01);
}

#[test]
fn the_deadline_binds_as_the_board_slows_down() {
    let governor = governor(deadline(45));
    let mut state = governor.start();
    assert_eq!(work(&governor, &mut state, 0.0, 10.0, 1.0, |_| 40.0).rung, 0);
    let slowed = work(&governor, &mut state, 10.0, 1.0, 1.4, |_| 40.0);
    assert_eq!((slowed.rung, slowed.binding), (1, Binding::Deadline));
    assert_eq!(work(&governor, &mut state, 12.0, 10.0, 5.0, |_| 40.0).rung, 3);
    // No rung is fast enough: the fastest runs and the deadline still binds.
    let lost = governor.step(&mut state, &Reading::default(), at(30.0));
    assert_eq!((lost.rung, lost.binding), (3, Binding::Deadline));
    assert_eq!(work(&governor, &mut state, 30.0, 60.0, 1.0, |_| 40.0).rung, 0);
}

#[test]
fn one_odd_latency_changes_nothing() {
    let governor = governor(deadline(45));
    let mut state = governor.start();
    let before = work(&governor, &mut state, 0.0, 10.0, 1.0, |_| 40.0);
    assert_eq!(governor.step(&mut state, &inference(0, 400.0), at(11.0)), before);
}

#[test]
fn the_power_cap_holds_by_what_is_measured() {
    let limits = Limits { power: Some(Power::from_milliwatts(18_000)), ..Limits::default() };
    let governor = governor(limits);
    let decision = work(&governor, &mut governor.start(), 0.0, 60.0, 1.0, |_| 40.0);
    assert_eq!((decision.rung, decision.binding), (1, Binding::Power));
    assert_eq!(decision.power_budget, Some(Power::from_milliwatts(18_000)));
}

#[test]
fn sustained_over_current_takes_power_away() {
    let governor = governor(Limits::default());
    let mut state = governor.start();
    work(&governor, &mut state, 0.0, 10.0, 1.0, |_| 40.0);
    let Reading { sensors: Some(mut reading), .. } = sensors(40.0, 20.0) else { unreachable!() };
    let rates = crate::reading::OverCurrentRates { sustained: 1.0, instantaneous: 0.0 };
    reading.over_current = Measurement::Measured(rates);
    let decision = governor.step(&mut state, &Reading { inference: None, sensors: Some(reading) }, at(11.0));
    assert!(decision.rung > 0 && decision.binding == Binding::Power, "{decision:?}");
}

#[test]
fn even_the_smallest_rung_is_paced_where_it_is_too_hot() {
    let governor = governor(hot());
    let decision = work(&governor, &mut governor.start(), 0.0, 120.0, 1.0, |_| 92.0);
    assert_eq!((decision.rung, decision.binding, decision.mode), (3, Binding::Temperature, Mode::Normal));
    assert!(decision.pace > TimeSpan::from_nanoseconds(15_000_000), "{decision:?}");
}

#[test]
fn an_emergency_ends_at_the_target_and_not_before() {
    let governor = governor(hot());
    let mut state = governor.start();
    work(&governor, &mut state, 0.0, 10.0, 1.0, |_| 80.0);
    // A rise that no sensor invents: 4 K a second.
    let decision = work(&governor, &mut state, 10.0, 8.0, 1.0, |time| 80.0 + 4.0 * (time - 10.0));
    assert_eq!((decision.rung, decision.binding, decision.mode), (3, Binding::Emergency, Mode::Emergency));
    assert_eq!(decision.pace, governor.gains().longest_pace);
    assert_eq!(work(&governor, &mut state, 30.0, 60.0, 1.0, |_| 87.0).mode, Mode::Emergency);
    assert_eq!(work(&governor, &mut state, 90.0, 20.0, 1.0, |_| 84.0).mode, Mode::Normal);
}

#[test]
fn one_hot_reading_is_no_emergency() {
    let governor = governor(hot());
    let mut state = governor.start();
    let before = work(&governor, &mut state, 0.0, 20.0, 1.0, |_| 60.0);
    let spike = governor.step(&mut state, &sensors(127.0, 15.0), at(21.0));
    assert_eq!((spike.rung, spike.mode), (before.rung, Mode::Normal));
}

#[test]
fn a_lost_sensor_leads_to_the_safe_rung_and_back() {
    let governor = governor(hot());
    let mut state = governor.start();
    assert_eq!(work(&governor, &mut state, 0.0, 20.0, 1.0, |_| 50.0).rung, 0);
    let mut decision = None;
    for tenth in 0..80 {
        decision = Some(governor.step(&mut state, &without_temperature(), at(20.5 + f64::from(tenth) * 0.1)));
        let lost = f64::from(tenth) * 0.1 + 0.5;
        let mode = decision.expect("just made").mode;
        assert!(lost > 4.0 || mode == Mode::Normal, "{lost} s");
        assert!(lost < 7.0 || mode == Mode::Safe, "{lost} s");
    }
    let decision = decision.expect("just made");
    assert_eq!((decision.rung, decision.binding), (3, Binding::LostSensor));
    assert_eq!(work(&governor, &mut state, 29.0, 3.0, 1.0, |_| 50.0).mode, Mode::Safe);
    let back = work(&governor, &mut state, 32.0, 30.0, 1.0, |_| 50.0);
    assert_eq!((back.rung, back.mode), (0, Mode::Normal));
}

#[test]
fn a_silent_sensor_thread_is_a_lost_sensor() {
    let governor = governor(hot());
    let mut state = governor.start();
    work(&governor, &mut state, 0.0, 20.0, 1.0, |_| 50.0);
    let mut decision = governor.step(&mut state, &inference(0, 40.0), at(21.0));
    for step in 0..200 {
        decision = governor.step(&mut state, &inference(decision.rung, 40.0), at(21.0 + f64::from(step) * 0.04));
    }
    assert_eq!((decision.mode, decision.binding), (Mode::Safe, Binding::LostSensor));
}

#[test]
fn the_energy_limit_and_the_minimum_fidelity() {
    let energy = Some(Energy::from_microjoules(300_000));
    let governor_of = |minimum_fidelity| governor(Limits { energy, minimum_fidelity, ..Limits::default() });
    let limited = governor_of(None);
    let decision = work(&limited, &mut limited.start(), 0.0, 5.0, 1.0, |_| 40.0);
    assert_eq!((decision.rung, decision.binding), (2, Binding::Energy));
    let useful = governor_of(Some(0.92));
    let decision = work(&useful, &mut useful.start(), 0.0, 5.0, 1.0, |_| 40.0);
    assert_eq!((decision.rung, decision.binding), (1, Binding::MinimumFidelity));
}

#[test]
fn a_clock_that_jumps_does_no_harm() {
    let governor = governor(hot());
    let mut state = governor.start();
    work(&governor, &mut state, 5_000.0, 20.0, 1.0, |_| 50.0);
    for from in [0.0, 900_000.0, 10.0] {
        let decision = work(&governor, &mut state, from, 5.0, 1.0, |_| 50.0);
        assert_eq!((decision.rung, decision.mode), (0, Mode::Normal));
    }
}

#[test]
fn garbage_is_survived() {
    let governor = governor(Limits { power: Some(Power::from_milliwatts(9_000)), ..hot() });
    let mut state = governor.start();
    for step in 0..1_000u64 {
        let reading = match step % 4 {
            0 => inference(200, 1.0),
            1 => Reading {
                inference: Some(InferenceSample { rung: 0, latency: TimeSpan::from_nanoseconds(u64::MAX) }),
                sensors: None,
            },
            2 => sensors(-2e6, 4e6),
            _ => inference(1, 0.0),
        };
        let decision = governor.step(&mut state, &reading, TimeSpan::from_nanoseconds(step.wrapping_mul(u64::MAX / 7)));
        assert!(usize::from(decision.rung) < rungs().len());
        assert!(decision.slowdown.mean.is_finite() && decision.slowdown.standard_deviation.is_finite());
    }
}

#[test]
fn what_was_learnt_outlives_a_change_of_limits() {
    let before = governor(deadline(45));
    let mut state = before.start();
    work(&before, &mut state, 0.0, 10.0, 1.4, |_| 40.0);
    let after = governor(deadline(100));
    let mut state = after.carry_on(&state);
    let decision = after.step(&mut state, &Reading::default(), at(11.0));
    assert_eq!(decision.rung, 0);
    assert!((decision.slowdown.mean - 1.4).abs() < 0.01);
}
