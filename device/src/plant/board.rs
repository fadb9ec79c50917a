//! What a simulated board is made of.

use serde::Deserialize;

/// The parameters of a board. Each says where its default, an Orin Nano
/// developer kit in its 25 W mode, comes from: *vendor*, *measured* (by whom) or
/// *estimated*.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BoardModel {
    /// Watts at the input without work. Measured: 5.2 to 5.6 W on VDD_IN of the developer kit (field report).
    pub idle_watts: f64,
    /// How much of the idle power leakage adds with every kelvin above 40 °C. Estimated.
    pub leakage_per_kelvin: f64,
    /// Kelvin that the die is warmer than the heatsink, a watt. Estimated.
    pub die_kelvin_per_watt: f64,
    /// Joules that warm the die by a kelvin; with the resistance a time constant of 3 s. Estimated.
    pub die_joules_per_kelvin: f64,
    /// Kelvin that the heatsink is warmer than the air, a watt, while the fan stands. Measured: 6.2 K/W (fieldbench,
    /// developer kit, one node fitted within 0.8 K).
    pub still_air_kelvin_per_watt: f64,
    /// The same while the fan turns. Estimated.
    pub fan_kelvin_per_watt: f64,
    /// Joules that warm the heatsink by a kelvin. Measured: a time constant of 6.6 minutes at 6.2 K/W (as above).
    pub sink_joules_per_kelvin: f64,
    /// Where the kernel starts to cut clocks, °C. Vendor: device tree, 99.0.
    pub passive_celsius: f64,
    /// Where the hardware halves clocks, °C. Measured: field readouts of about 103.
    pub hardware_throttle_celsius: f64,
    /// Where the kernel shuts down, °C. Vendor: device tree, 104.5.
    pub critical_celsius: f64,
    /// The lowest clock that the kernel cuts to, as a share of the highest. Vendor: 306 of 918 MHz in the frequency
    /// table.
    pub least_clock: f64,
    /// The share of the clock that one step of cooling takes. Estimated, from the number of entries in the table.
    pub clock_step: f64,
    /// The share of an inference that waits for memory and not for clocks. Estimated.
    pub memory_share: f64,
    /// The average power that the over-current circuit allows, in watts. Measured: 4984 mA at 5 V (Super).
    pub average_limit_watts: f64,
    /// The instantaneous power above which it cuts clocks for about a millisecond, in watts. Measured: 1 to 30
    /// events a second at 8 to 17 W on average; the peak that does it is estimated.
    pub instantaneous_limit_watts: f64,
    /// The time constant of the power sensor, in seconds. Measured: 512 samples of three channels, 0.43 s.
    pub power_lag_seconds: f64,
    /// Seconds between two passes over the sensors. Vendor: polling delay of the device tree, 1 s.
    pub polling_seconds: f64,
    /// Standard deviation of a temperature reading, K. Estimated.
    pub temperature_noise_kelvin: f64,
    /// The step that temperatures are given in, K. Estimated.
    pub temperature_step_kelvin: f64,
    /// Standard deviation of a power reading, as a share of it. Estimated.
    pub power_noise: f64,
    /// Standard deviation of latency, as a share of it. Estimated.
    pub latency_noise: f64,
}

impl Default for BoardModel {
    fn default() -> Self {
        Self {
            idle_watts: 5.4,
            leakage_per_kelvin: 0.003,
            die_kelvin_per_watt: 0.6,
            die_joules_per_kelvin: 5.0,
            still_air_kelvin_per_watt: 6.2,
            fan_kelvin_per_watt: 1.6,
            sink_joules_per_kelvin: 63.9,
            passive_celsius: 99.0,
            hardware_throttle_celsius: 103.0,
            critical_celsius: 104.5,
            least_clock: 0.33,
            clock_step: 0.05,
            memory_share: 0.3,
            average_limit_watts: 24.9,
            instantaneous_limit_watts: 27.0,
            power_lag_seconds: 0.43,
            polling_seconds: 1.0,
            temperature_noise_kelvin: 0.15,
            temperature_step_kelvin: 0.031,
            power_noise: 0.01,
            latency_noise: 0.015,
        }
    }
}

impl BoardModel {
    /// # Errors
    /// The name of the first parameter that is no number, negative, or zero where it divides.
    pub fn validate(&self) -> Result<(), &'static str> {
        let positive = [
            ("idle_watts", self.idle_watts),
            ("die_kelvin_per_watt", self.die_kelvin_per_watt),
            ("die_joules_per_kelvin", self.die_joules_per_kelvin),
            ("still_air_kelvin_per_watt", self.still_air_kelvin_per_watt),
            ("fan_kelvin_per_watt", self.fan_kelvin_per_watt),
            ("sink_joules_per_kelvin", self.sink_joules_per_kelvin),
            ("least_clock", self.least_clock),
            ("average_limit_watts", self.average_limit_watts),
            ("instantaneous_limit_watts", self.instantaneous_limit_watts),
            ("power_lag_seconds", self.power_lag_seconds),
            ("polling_seconds", self.polling_seconds),
        ];
        let not_negative = [
            ("leakage_per_kelvin", self.leakage_per_kelvin),
            ("clock_step", self.clock_step),
            ("memory_share", self.memory_share),
            ("temperature_noise_kelvin", self.temperature_noise_kelvin),
            ("temperature_step_kelvin", self.temperature_step_kelvin),
            ("power_noise", self.power_noise),
            ("latency_noise", self.latency_noise),
        ];
        let bad = |(_, value): &&(&str, f64), least: f64| !(least..1e6).contains(value);
        let wrong =
            positive.iter().find(|entry| bad(entry, 1e-3)).or(not_negative.iter().find(|entry| bad(entry, 0.0)));
        if let Some((name, _)) = wrong {
            return Err(name);
        }
        // False for NaN.
        let ordered = self.passive_celsius < self.hardware_throttle_celsius
            && self.hardware_throttle_celsius <= self.critical_celsius;
        if ordered { Ok(()) } else { Err("passive_celsius, hardware_throttle_celsius, critical_celsius") }
    }
}
