//! Accuracy of all bundles against MACs, as an SVG file.

use std::path::Path;

use headroom_device::whole_file;

use super::report::{EvalReport, RungReport};
use super::{Accuracy, EvalError};
use crate::chart::{Point, Series, svg};

/// Draws k-NN accuracy, or the head's where there is no bank, or fidelity where there is neither.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn write(path: &Path, report: &EvalReport) -> Result<(), EvalError> {
    let all = |of: fn(&RungReport) -> Option<Accuracy>| {
        report.bundles.iter().flat_map(|bundle| &bundle.rungs).all(|rung| of(rung).is_some())
    };
    let (name, of): (_, fn(&RungReport) -> Option<Accuracy>) = if all(|rung| rung.nearest_neighbours) {
        ("k-NN top-1", |rung| rung.nearest_neighbours)
    } else if all(|rung| rung.head) {
        ("top-1 of the model's head", |rung| rung.head)
    } else {
        ("fidelity (mean cosine to dense)", |_| None)
    };
    let point = |rung: &RungReport| {
        let (value, low, high) = match of(rung) {
            Some(accuracy) => (accuracy.value, accuracy.low, accuracy.high),
            None => (rung.fidelity.value, rung.fidelity.low, rung.fidelity.high),
        };
        Point { macs_share: rung.macs_share, value, interval: Some((low, high)) }
    };
    let series: Vec<Series> = report
        .bundles
        .iter()
        .map(|bundle| Series { name: bundle.name.clone(), points: bundle.rungs.iter().map(point).collect() })
        .collect();
    let title = match report.bundles.as_slice() {
        [one] => one.name.clone(),
        all => format!("{} bundles", all.len()),
    };
    let text = svg(&title, name, &series).map_err(EvalError::Chart)?;
    whole_file::write(path, text.as_bytes()).map_err(|source| EvalError::Write { path: path.to_path_buf(), source })
}
