//! A linear classifier on frozen embeddings: multinomial logistic regression
//! with a little L2, on standardised features.

use linfa::prelude::*;
use linfa_logistic::{MultiFittedLogisticRegression, MultiLogisticRegression};
use ndarray::{Array1, Array2, Axis};

use super::EvalError;

/// Strengths of the penalty on the weights, beside the summed loss, of which the best on held-out images is taken.
const PENALTIES: [f64; 4] = [1.0, 10.0, 100.0, 1000.0];

/// One of so many images is held out to choose the penalty by.
const HELD_OUT: usize = 5;

/// More are not needed on standardised features; the best so far is kept.
const MOST_ITERATIONS: u64 = 100;

/// Fits the rows of `embeddings` `[images, width]` to their `labels`, which are at least two classes.
///
/// # Errors
/// If the features are not finite or have no solution.
pub(super) fn fit(embeddings: &[f32], labels: &[usize], width: usize) -> Result<LinearProbe, EvalError> {
    let part = |held_out: bool| -> (Vec<f32>, Vec<usize>) {
        let chosen = |place: &usize| (place % HELD_OUT == HELD_OUT - 1) == held_out;
        let places = || (0..labels.len()).filter(chosen);
        let rows = places().flat_map(|place| embeddings[place * width..][..width].iter().copied()).collect();
        (rows, places().map(|place| labels[place]).collect())
    };
    let ((learnt, learnt_labels), (held_out, held_out_labels)) = (part(false), part(true));
    let right = |penalty: f64| {
        let probe = fit_with(penalty, &learnt, &learnt_labels, width).ok()?;
        let found = probe.classify(&held_out);
        Some(found.iter().zip(&held_out_labels).filter(|(found, label)| found == label).count())
    };
    // Of equal ones the first, the weakest; too few images to divide leave it at that.
    let best = PENALTIES
        .map(|penalty| (right(penalty), penalty))
        .into_iter()
        .reduce(|best, next| if next.0 > best.0 { next } else { best });
    fit_with(best.map_or(PENALTIES[0], |(_, penalty)| penalty), embeddings, labels, width)
}

/// A fitted classifier.
pub(super) struct LinearProbe {
    mean: Array1<f64>,
    deviation: Array1<f64>,
    model: MultiFittedLogisticRegression<f64, usize>,
}

fn fit_with(penalty: f64, embeddings: &[f32], labels: &[usize], width: usize) -> Result<LinearProbe, EvalError> {
    let rows = rows(embeddings, width);
    let mean = rows.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(width));
    // A feature that never moves says nothing, whatever it is divided by.
    let deviation = rows.std_axis(Axis(0), 0.0).mapv(|deviation| if deviation > 0.0 { deviation } else { 1.0 });
    let features = (rows - &mean) / &deviation;
    let data = Dataset::new(features, Array1::from_iter(labels.iter().copied()));
    let model = MultiLogisticRegression::default().alpha(penalty).max_iterations(MOST_ITERATIONS).fit(&data);
    let model = model.map_err(|error| EvalError::Probe { reason: error.to_string() })?;
    Ok(LinearProbe { mean, deviation, model })
}

impl LinearProbe {
    /// The class of each row.
    pub(super) fn classify(&self, embeddings: &[f32]) -> Vec<usize> {
        let features = (rows(embeddings, self.mean.len()) - &self.mean) / &self.deviation;
        self.model.predict(&features).to_vec()
    }
}

fn rows(embeddings: &[f32], width: usize) -> Array2<f64> {
    Array2::from_shape_fn((embeddings.len() / width, width), |(row, column)| {
        f64::from(embeddings[row * width + column])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_that_a_plane_divides_are_learnt() {
        // Three classes around three corners; the third feature never moves.
        let corners = [[0.0, 0.0], [4.0, 0.0], [0.0, 4.0]];
        let row = |class: usize, number: usize| {
            let [x, y] = corners[class];
            [x + (number % 5) as f32 * 0.3, y + (number % 7) as f32 * 0.2, 1.0]
        };
        let labels: Vec<usize> = (0..90).map(|number| number % 3).collect();
        let embeddings: Vec<f32> = labels.iter().enumerate().flat_map(|(number, &class)| row(class, number)).collect();
        let probe = fit(&embeddings, &labels, 3).unwrap();
        assert_eq!(probe.classify(&embeddings), labels);
    }
}
