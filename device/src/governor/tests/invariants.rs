//! What holds whatever the governor is told.

use headroom_shared::Power;
use proptest::prelude::*;

use super::*;
use crate::reading::OverCurrentRates;

fn any_measurement<T: Copy + core::fmt::Debug>(
    value: impl Strategy<Value = T>,
) -> impl Strategy<Value = Measurement<T>> {
    let missing = Measurement::Missing(Missing::Unavailable);
    (value, 0..4u8, any::<u64>()).prop_map(move |(value, kind, age)| match kind {
        0 => missing,
        1 => Measurement::Projected { value, age: TimeSpan::from_nanoseconds(age) },
        _ => Measurement::Measured(value),
    })
}

prop_compose! {
    fn any_sensors()(
        temperature in any_measurement(prop_oneof![any::<i32>(), 0..130_000i32]),
        power in any_measurement(prop_oneof![any::<u32>(), 0..40_000u32]),
        throttled in any_measurement(any::<bool>()),
        rates in any_measurement((any::<f32>(), any::<f32>())),
    ) -> SensorReading {
        let over_current = match rates {
            Measurement::Measured((sustained, instantaneous)) => {
                Measurement::Measured(OverCurrentRates { sustained, instantaneous })
            }
            _ => Measurement::Missing(Missing::Absent),
        };
        SensorReading {
            temperature: match temperature {
                Measurement::Measured(value) => Measurement::Measured(Temperature::from_millidegrees(value)),
                Measurement::Projected { value, age } => {
                    Measurement::Projected { value: Temperature::from_millidegrees(value), age }
                }
                Measurement::Missing(reason) => Measurement::Missing(reason),
            },
            power: power.value().map_or(Measurement::Missing(Missing::Absent), |value| {
                Measurement::Measured(Power::from_milliwatts(value))
            }),
            throttled,
            over_current,
            ..SensorReading::ABSENT
        }
    }
}

prop_compose! {
    fn any_reading()(
        inference in proptest::option::of((0..6u8, prop_oneof![any::<u64>(), 0..100_000_000u64])),
        sensors in proptest::option::of(any_sensors()),
    ) -> Reading {
        let inference = inference.map(|(rung, nanoseconds)| {
            InferenceSample { rung, latency: TimeSpan::from_nanoseconds(nanoseconds) }
        });
        Reading { inference, sensors }
    }
}

proptest! {
    #[test]
    fn every_decision_can_be_followed(
        steps in proptest::collection::vec((any_reading(), prop_oneof![any::<u64>(), 0..2_000_000_000u64]), 1..200),
        minimum_fidelity in proptest::option::of(0.5f32..1.0),
    ) {
        let limits = Limits { power: Some(Power::from_milliwatts(15_000)), minimum_fidelity, ..hot() };
        let governor = governor(Limits { deadline: deadline(25).deadline, ..limits });
        let mut state = governor.start();
        let mut now = 0u64;
        for (reading, gap) in steps {
            now = now.wrapping_add(gap);
            let decision = governor.step(&mut state, &reading, TimeSpan::from_nanoseconds(now));
            let rung = rungs().get(usize::from(decision.rung)).copied();
            prop_assert!(rung.is_some(), "{decision:?}");
            let useful = rung.is_some_and(|rung| minimum_fidelity.is_none_or(|minimum| rung.fidelity >= minimum));
            prop_assert!(useful || decision.mode == Mode::Emergency, "{decision:?}");
            prop_assert!(decision.slowdown.mean > 0.0 && decision.slowdown.mean.is_finite(), "{decision:?}");
            prop_assert!(decision.slowdown.standard_deviation.is_finite(), "{decision:?}");
            prop_assert_eq!(decision.mode == Mode::Emergency, decision.binding == Binding::Emergency);
            prop_assert!(decision.mode != Mode::Emergency || decision.rung == 3, "{decision:?}");
        }
    }
}
