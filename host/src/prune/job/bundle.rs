//! The bundle, and the report of what is in it.

use std::path::PathBuf;

use clap::ValueEnum;
use headroom_device::bundle::Manifest;
use headroom_device::bundle::manifest::{
    BOARD_FILE, CHART_FILE, CONFIG_FILE, CORRECTIONS_FILE, DESCRIPTION_FILE, INTEGER_MODEL_FILE, MANIFEST_FILE,
    STRUCTURE_MAP_FILE, WEIGHTS_FILE, hex, sha256_hex,
};
use headroom_device::error_text::with_causes;
use headroom_device::model::corrections::CorrectionsError;
use headroom_shared::integer_model::IntegerModelParts;
use headroom_shared::structure_map::encoded_bound;
use headroom_shared::{Ladder, ModelShape, Rung, StructureMap};

use super::super::PruneError;
use super::super::images::JobImages;
use super::super::measure::{self, Measured};
use super::super::report::{
    CompensationReport, FitReport, ImagesReport, ModelReport, PruneReport, REPORT_VERSION, RungReport, ScoresReport,
    SearchReport,
};
use super::compensation::Compensation;
use super::{Job, Ranked};
use crate::bundle::{BundleWriter, Provenance};
use crate::chart::{self, Point, Series};
use crate::search::Fitted;

impl Job<'_> {
    #[expect(clippy::too_many_arguments, reason = "everything the job has made is written here")]
    pub(super) fn write(
        &mut self,
        mut bundle: BundleWriter,
        ranked: &Ranked,
        measured: &[Measured],
        compensation: &Compensation,
        integer_model: Option<IntegerModelParts>,
        fit: Option<FitReport>,
        fitted: &Fitted,
        images: &JobImages,
    ) -> Result<PruneReport, PruneError> {
        let Ranked { shape, permutation, changed, .. } = ranked;
        let weights_path = bundle.folder().join(WEIGHTS_FILE);
        let weights_sha256 =
            self.checkpoint.write_permuted(permutation, changed, &weights_path).map_err(PruneError::Weights)?;
        let size = std::fs::metadata(&weights_path)
            .map_err(|source| PruneError::State { folder: bundle.folder().to_path_buf(), source })?;
        bundle.record(WEIGHTS_FILE, size.len(), hex(&weights_sha256));

        let map = structure_map(ranked, weights_sha256, measured)?;
        bundle.add(STRUCTURE_MAP_FILE, &map)?;
        if let Some(mut parts) = integer_model {
            parts.weights_sha256 = weights_sha256;
            bundle.add(INTEGER_MODEL_FILE, &parts.write()?)?;
        }
        let compensation = self.write_corrections(&mut bundle, compensation)?;
        let description = serde_json::to_vec_pretty(&self.checkpoint.description).map_err(PruneError::Description)?;
        bundle.add(DESCRIPTION_FILE, &description)?;
        bundle.add(BOARD_FILE, self.board.text.as_bytes())?;
        if let Some(config) = self.checkpoint.config() {
            bundle.add(CONFIG_FILE, config.as_bytes())?;
        }
        let lines = measure::report(&ranked.sub_networks, measured);
        let title = format!("{} on {}", self.checkpoint.description.family, self.board.name);
        let point =
            |rung: &RungReport| Point { macs_share: rung.macs_share, value: f64::from(rung.fidelity), interval: None };
        let series = Series { name: "fidelity".to_owned(), points: lines.iter().map(point).collect() };
        let chart = chart::svg(&title, "fidelity (mean cosine to dense)", &[series]).map_err(PruneError::Chart)?;
        bundle.add(CHART_FILE, chart.as_bytes())?;

        let destination = bundle.destination().to_path_buf();
        let manifest = bundle.finish(&Provenance {
            target: self.board.name.to_owned(),
            model: self.checkpoint.description.family.clone(),
            seed: self.options.seed,
            search: fitted.stop.to_string(),
        })?;
        self.progress.note(&format!("bundle: {}", destination.display()));
        self.report(&manifest, destination, shape, fitted, images, lines, fit, compensation, map.len())
    }

    /// Adds the corrections to the bundle, where a rung runs with one.
    fn write_corrections(
        &self,
        bundle: &mut BundleWriter,
        compensation: &Compensation,
    ) -> Result<CompensationReport, PruneError> {
        let mut rungs: Vec<usize> = compensation.corrections.places().map(|(rung, ..)| rung).collect();
        rungs.sort_unstable();
        let mut bytes = 0;
        if !rungs.is_empty() {
            let file = compensation.corrections.to_safetensors(self.checkpoint.dtype());
            let file = file.map_err(CorrectionsError::from)?;
            bytes = file.len();
            bundle.add(CORRECTIONS_FILE, &file)?;
        }
        let mode = self.options.compensate().to_possible_value();
        let mode = mode.map_or_else(String::new, |mode| mode.get_name().to_owned());
        Ok(CompensationReport { mode, fitted_on: compensation.fitted_on.clone(), rungs, bytes })
    }

    #[expect(clippy::too_many_arguments, reason = "everything the job has made is told here")]
    fn report(
        &mut self,
        manifest: &Manifest,
        bundle: PathBuf,
        shape: &ModelShape,
        fitted: &Fitted,
        images: &JobImages,
        ladder: Vec<RungReport>,
        fit: Option<FitReport>,
        compensation: CompensationReport,
        structure_map_bytes: usize,
    ) -> Result<PruneReport, PruneError> {
        let image = &self.checkpoint.description.image;
        let written = std::fs::read(bundle.join(MANIFEST_FILE))
            .map_err(|source| PruneError::State { folder: bundle.clone(), source })?;
        Ok(PruneReport {
            version: REPORT_VERSION,
            target: manifest.target.clone(),
            device: self.devices.name(),
            gpu_precision: (!self.devices.gpus.is_empty()).then_some(self.devices.precision),
            method: if self.scores.is_some() { "published scores" } else { self.options.method().name() },
            model: ModelReport {
                family: manifest.model.clone(),
                parameters: self.checkpoint.parameters(),
                blocks: usize::from(shape.blocks),
                heads: usize::from(shape.heads),
                neurons: usize::from(shape.neurons),
                image_size: (image.height, image.width),
            },
            images: ImagesReport {
                source: images.source().to_owned(),
                calibration: images.calibration_count(),
                fidelity: images.fidelity_count(),
                held_out: images.held_out(),
                unreadable: images.unreadable(),
            },
            stages: std::mem::take(&mut self.stages),
            scores: self.scores.as_ref().map(|scores| ScoresReport::new(scores, self.options)),
            search: SearchReport {
                stopped: fitted.stop.to_string(),
                evaluations: fitted.history.len(),
                sub_networks: fitted.statistics.asked,
                saved_by_memo: fitted.statistics.saved(),
                first_fitness: fitted.history.first().copied(),
                best_fitness: fitted.fitness,
            },
            compensation,
            precision: self.precision(),
            fit,
            ladder,
            bundle_sha256: sha256_hex(&written),
            bundle,
            structure_map_bytes,
            failure: self.failure.as_ref().map(|error| with_causes(error)),
        })
    }
}

/// The file content of the map.
pub(super) fn structure_map(
    ranked: &Ranked,
    weights_sha256: [u8; 32],
    measured: &[Measured],
) -> Result<Vec<u8>, PruneError> {
    let rungs: Vec<Rung<'_>> = measured
        .iter()
        .zip(&ranked.sub_networks)
        .map(|(measured, kept)| Rung { token_schedule: kept.token_schedule(), ..measured.rung })
        .collect();
    let ladder = Ladder::from_rungs(&rungs).map_err(headroom_shared::StructureMapError::from)?;
    let steps = &ranked.ranking.steps;
    let map = StructureMap::new(ranked.shape, weights_sha256, steps, ladder)?;
    let mut bytes = vec![0; encoded_bound(steps.len())];
    let length = map.write(&mut bytes)?;
    bytes.truncate(length);
    Ok(bytes)
}
