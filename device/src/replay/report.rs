//! Compares the governor with the oracle and with every fixed rung.

use std::fmt::Write;

use serde::Serialize;

use super::simulation::{Policy, Run, Simulation};
use super::{Metrics, Scenario};
use crate::governor::{Binding, GovernorError};

/// The version of the JSON that `--json` prints. A field is only ever added within a version.
pub const REPORT_VERSION: u32 = 1;

/// How a scenario went.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    pub scenario: String,
    pub virtual_seconds: f64,
    pub seed: u64,
    pub governor: Metrics,
    pub oracle: Metrics,
    /// Every rung held fixed, dense first.
    pub fixed: Vec<Metrics>,
    /// The governor's mean fidelity over the oracle's.
    pub fidelity_of_oracle: f64,
    /// The fixed rung of the highest mean fidelity that misses no more deadlines and spends no more time above target
    /// and passive trip than the governor does; absent where there is none.
    pub best_fixed_rung: Option<usize>,
    /// Share of the governor's decisions by the limit that bound.
    pub binding: Vec<BindingShare>,
    pub safe_seconds: f64,
    pub emergency_seconds: f64,
}

/// How often a limit bound.
#[derive(Clone, Debug, Serialize)]
pub struct BindingShare {
    pub limit: String,
    pub share: f64,
}

impl Report {
    /// Runs all policies through a scenario; returns the governor's run too.
    ///
    /// # Errors
    /// If the governor refuses limits or ladder.
    pub fn of(scenario: &Scenario) -> Result<(Self, Run), GovernorError> {
        let governed = Simulation::new(scenario, Policy::Governor)?.run()?;
        let unwatched = |policy| Ok(Simulation::new(scenario, policy)?.without_history().run()?.metrics);
        let oracle: Metrics = unwatched(Policy::Oracle)?;
        let fixed = (0..scenario.ladder.rungs).map(|rung| unwatched(Policy::Fixed(rung)));
        let fixed: Vec<Metrics> = fixed.collect::<Result<_, GovernorError>>()?;
        let governor = governed.metrics.clone();
        let decisions = governed.bindings.iter().sum::<u64>().max(1) as f64;
        let shares = Binding::ALL.iter().zip(governed.bindings).filter(|(_, count)| *count > 0);
        let report = Self {
            version: REPORT_VERSION,
            scenario: scenario.name.clone(),
            virtual_seconds: scenario.seconds,
            seed: scenario.seed,
            fidelity_of_oracle: governor.mean_fidelity / oracle.mean_fidelity.max(f64::MIN_POSITIVE),
            best_fixed_rung: best_fixed(&governor, &fixed),
            binding: shares
                .map(|(limit, count)| BindingShare { limit: format!("{limit:?}"), share: count as f64 / decisions })
                .collect(),
            safe_seconds: governed.safe_seconds,
            emergency_seconds: governed.emergency_seconds,
            governor,
            oracle,
            fixed,
        };
        Ok((report, governed))
    }

    /// A table for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text =
            format!("{}: {:.0} s of virtual time, seed {}\n\n", self.scenario, self.virtual_seconds, self.seed);
        text += "             fidelity  misses   p99 ms   J/inf.    mean W  highest °C  > target s  > passive s  switches/min\n";
        let mut row = |name: &str, metrics: &Metrics| {
            let misses = metrics.misses_percent.map_or("-".into(), |misses| format!("{misses:.2} %"));
            let off = if metrics.shut_down { "  SHUT DOWN" } else { "" };
            let _ = writeln!(
                text,
                "{name:<12} {:>8.4}  {misses:>6}  {:>7.2}  {:>7.3}  {:>8.2}  {:>10.1}  {:>10.0}  {:>11.0}  {:>12.1}{off}",
                metrics.mean_fidelity,
                metrics.p99_milliseconds,
                metrics.joules_per_inference,
                metrics.mean_watts,
                metrics.highest_celsius,
                metrics.seconds_above_target,
                metrics.seconds_above_passive,
                metrics.steady_switches_per_minute,
            );
        };
        row("governor", &self.governor);
        row("oracle", &self.oracle);
        if let Some(best) = self.best_fixed_rung.filter(|best| *best != 0) {
            row(&format!("rung {best} *"), &self.fixed[best]);
        }
        for (rung, metrics) in self.fixed.iter().enumerate() {
            if rung == 0 || rung + 1 == self.fixed.len() || rung % 6 == 0 {
                row(&format!("rung {rung}"), metrics);
            }
        }
        if self.best_fixed_rung.is_some() {
            text += "* the best fixed rung that keeps the limits as well as the governor\n";
        }
        let limits = self.binding.iter().map(|limit| format!("{} {:.1} %", limit.limit, limit.share * 100.0));
        let _ = write!(
            text,
            "fidelity is {:.2} % of the oracle's; bound by: {}\n{:.0} s in safe mode, {:.0} s in emergency mode",
            self.fidelity_of_oracle * 100.0,
            limits.collect::<Vec<_>>().join(", "),
            self.safe_seconds,
            self.emergency_seconds,
        );
        text
    }
}

fn best_fixed(governor: &Metrics, fixed: &[Metrics]) -> Option<usize> {
    let keeps = |metrics: &Metrics| {
        !metrics.shut_down
            && metrics.misses_percent.unwrap_or(0.0) <= governor.misses_percent.unwrap_or(0.0)
            && metrics.seconds_above_target <= governor.seconds_above_target
            && metrics.seconds_above_passive <= governor.seconds_above_passive
    };
    let order = |a: &usize, b: &usize| fixed[*a].mean_fidelity.total_cmp(&fixed[*b].mean_fidelity);
    (0..fixed.len()).filter(|rung| keeps(&fixed[*rung])).max_by(order)
}
