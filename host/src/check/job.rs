//! A small prune job on the device, against the same job on the CPU.

use std::path::Path;

use super::comparison::{Measure, NOTHING, OF_FIDELITY};
use super::report::{Check, Stage};
use super::{CheckError, Checking};
use crate::executor::DeviceChoice;
use crate::progress::Silent;
use crate::prune::{self, PruneError, PruneReport, TokenMerging};

const STAGE: &str = "prune";
/// What is left out where no rung merges tokens.
pub(super) const MERGING: &str = "merging of tokens";

impl Checking<'_> {
    /// Prunes into `folder/bundle`, and once more on the CPU, whose bundle the other stages take where the GPU fails.
    pub(super) fn prune(&mut self, folder: &Path) -> Result<PruneReport, CheckError> {
        let device = self.gpu().map_or(DeviceChoice::Cpu, |gpu| DeviceChoice::Cuda(vec![gpu]));
        let report = match self.job(&device, &folder.join("bundle")) {
            Err(error) if self.gpu().is_some() && !error.is_interruption() => {
                let limit = (Measure::MissingRungs, NOTHING);
                self.checks.push(Check::new(STAGE, "job with a job on the CPU", "job", limit, Err(error)));
                return self.job(&DeviceChoice::Cpu, &folder.join("again"));
            }
            report => report?,
        };
        for stage in &report.stages {
            self.stages.push(Stage { name: format!("prune: {}", stage.name), seconds: stage.seconds });
        }
        let again = self.job(&DeviceChoice::Cpu, &folder.join("again"))?;
        let at_most = if self.gpu().is_some() { OF_FIDELITY } else { NOTHING };
        let missing = report.ladder.len().abs_diff(again.ladder.len()) as f64;
        let limit = (Measure::MissingRungs, NOTHING);
        self.checks.push(Check::new(STAGE, "job with a job on the CPU", "ladder", limit, Ok(missing)));
        for (rung, (found, expected)) in report.ladder.iter().zip(&again.ladder).enumerate() {
            let difference = f64::from(found.fidelity - expected.fidelity).abs();
            let limit = (Measure::FidelityDifference, at_most);
            self.checks.push(Check::new(
                STAGE,
                "job with a job on the CPU",
                format!("rung {rung}"),
                limit,
                Ok(difference),
            ));
        }
        if self.gpu().is_none() {
            let different = f64::from(u8::from(report.bundle_sha256 != again.bundle_sha256));
            let limit = (Measure::DifferentBundles, NOTHING);
            self.checks.push(Check::new(STAGE, "job with the same job", "bundle", limit, Ok(different)));
        }
        Ok(report)
    }

    /// A job whose rungs merge tokens too, where the model can.
    fn job(&mut self, device: &DeviceChoice, out: &Path) -> Result<PruneReport, CheckError> {
        match self.job_with(TokenMerging::On, device, out) {
            Err(CheckError::Prune(error)) if matches!(*error, PruneError::TokensWithRotary) => {
                let what = format!("{MERGING}: {error}");
                if !self.left_out.contains(&what) {
                    self.left_out.push(what);
                }
                self.job_with(TokenMerging::Off, device, out)
            }
            report => report,
        }
    }

    fn job_with(&self, tokens: TokenMerging, device: &DeviceChoice, out: &Path) -> Result<PruneReport, CheckError> {
        let (images_limit, evaluations, rungs) = if self.options.quick { (6, 3, 5) } else { (64, 5, 12) };
        let options = prune::Options {
            model: self.options.model.clone(),
            out: Some(out.to_owned()),
            seed: self.options.seed,
            device: device.clone(),
            images_limit,
            evaluations: Some(evaluations),
            tokens,
            rungs,
            ..prune::Options::for_board("jetson-orin")
        };
        let ending =
            prune::run(&options, &Silent, self.interrupt).map_err(|error| CheckError::Prune(Box::new(error)))?;
        if let Some(error) = ending.failure {
            return Err(CheckError::Prune(Box::new(error)));
        }
        if ending.interrupted { Err(CheckError::Interrupted) } else { Ok(ending.report) }
    }
}
