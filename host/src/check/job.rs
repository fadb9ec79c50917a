//! A small prune job on the device, against the same job on the CPU.

use std::ffi::OsString;
use std::path::Path;

use clap::Parser;

use super::comparison::{Measure, NOTHING, OF_FIDELITY};
use super::report::{Check, Stage};
use super::{CheckError, Checking};
use crate::progress::Silent;
use crate::prune::{self, PruneReport};

const STAGE: &str = "prune";

impl Checking<'_> {
    /// Prunes into `folder/bundle`, and once more on the CPU.
    pub(super) fn prune(&mut self, folder: &Path) -> Result<PruneReport, CheckError> {
        let device = self.gpu().map_or_else(|| "cpu".to_owned(), |gpu| format!("cuda:{gpu}"));
        let report = self.job(&device, &folder.join("bundle"))?;
        for stage in &report.stages {
            self.stages.push(Stage { name: format!("prune: {}", stage.name), seconds: stage.seconds });
        }
        let again = self.job("cpu", &folder.join("again"))?;
        let at_most = if self.gpu().is_some() { OF_FIDELITY } else { NOTHING };
        let missing = report.ladder.len().abs_diff(again.ladder.len()) as f64;
        let found = (Measure::MissingRungs, missing, NOTHING);
        self.checks.push(Check::new(STAGE, "job with a job on the CPU", "ladder", found));
        for (rung, (found, expected)) in report.ladder.iter().zip(&again.ladder).enumerate() {
            let difference = f64::from(found.fidelity - expected.fidelity).abs();
            let found = (Measure::FidelityDifference, difference, at_most);
            self.checks.push(Check::new(STAGE, "job with a job on the CPU", format!("rung {rung}"), found));
        }
        if self.gpu().is_none() {
            let different = f64::from(u8::from(report.bundle_sha256 != again.bundle_sha256));
            let found = (Measure::DifferentBundles, different, NOTHING);
            self.checks.push(Check::new(STAGE, "job with the same job", "bundle", found));
        }
        Ok(report)
    }

    fn job(&self, device: &str, out: &Path) -> Result<PruneReport, CheckError> {
        let mut words: Vec<OsString> =
            ["host-prune", "--target", "jetson-orin", "--device", device].map(Into::into).into();
        let small = if self.options.quick {
            ["--images-limit", "6", "--evaluations", "3", "--rungs", "5"]
        } else {
            ["--images-limit", "64", "--evaluations", "5", "--rungs", "12"]
        };
        words.extend(small.map(Into::into));
        words.extend(["--seed".into(), self.options.seed.to_string().into()]);
        match &self.options.model {
            Some(model) => {
                // One word, whatever the path begins with.
                let mut word = OsString::from("--model=");
                word.push(model);
                words.push(word);
            }
            // The demo model can merge tokens; another one may not.
            None => words.extend(["--tokens".into(), "on".into()]),
        }
        words.extend(["--out".into(), out.into()]);
        let options = prune::Options::parse_from(words);
        let ending =
            prune::run(&options, &Silent, self.interrupt).map_err(|error| CheckError::Prune(Box::new(error)))?;
        if let Some(error) = ending.failure {
            return Err(CheckError::Prune(Box::new(error)));
        }
        if ending.interrupted { Err(CheckError::Interrupted) } else { Ok(ending.report) }
    }
}
