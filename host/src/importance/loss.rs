//! The self-supervised loss of one image's views, and its gradient at their embeddings.
//!
//! With `e = z / |z|`, teacher `p = softmax(e)` and student `q = softmax(e)`:
//! `L = - sum over global views g and views v != g of p_g . log q_v`, no gradient through the teacher.
//! Everything in f64: the gradient is a difference of nearly equal numbers.

use candle_core::{DType, Tensor};

/// The loss and its gradient at the embeddings `z`.
#[derive(Clone, Debug, PartialEq)]
pub struct Loss {
    pub value: f64,
    /// `[views, width]`.
    pub gradient: Vec<f64>,
}

/// The loss of `embeddings` `[views, width]`, of which the first `global` are teachers.
#[must_use]
pub fn loss(embeddings: &[f32], width: usize, global: usize) -> Loss {
    let views: Vec<View> = embeddings.chunks_exact(width).map(View::new).collect();
    let mut value = 0.0;
    let mut gradient = Vec::with_capacity(embeddings.len());
    for (index, student) in views.iter().enumerate() {
        let teachers = || views[..global].iter().enumerate().filter(|(teacher, _)| *teacher != index).map(|(_, t)| t);
        for teacher in teachers() {
            value -= teacher.probabilities.iter().zip(&student.logarithms).map(|(p, log_q)| p * log_q).sum::<f64>();
        }
        // d/de of -p . log softmax(e) is q - p, as p sums to one.
        let at_unit: Vec<f64> = (0..width)
            .map(|i| teachers().map(|teacher| student.probabilities[i] - teacher.probabilities[i]).sum())
            .collect();
        let along: f64 = at_unit.iter().zip(&student.unit).map(|(gradient, unit)| gradient * unit).sum();
        gradient.extend(at_unit.iter().zip(&student.unit).map(|(at, unit)| (at - unit * along) / student.norm));
    }
    Loss { value, gradient }
}

/// The gradient alone, computed on the device of `embeddings` `[views, width]`, so that nothing waits for it. It is in f64,
/// and not finite where the loss is not.
///
/// # Errors
/// If the device fails.
pub fn gradient_on_device(embeddings: &Tensor, global: usize) -> candle_core::Result<Tensor> {
    let embeddings = embeddings.to_dtype(DType::F64)?;
    let norms = embeddings.sqr()?.sum_keepdim(1)?.sqrt()?;
    let units = embeddings.broadcast_div(&norms)?;
    let powers = units.exp()?;
    let probabilities = powers.broadcast_div(&powers.sum_keepdim(1)?)?;
    let teachers = probabilities.narrow(0, 0, global)?.sum_keepdim(0)?;
    // What a teacher would learn from itself is zero, so that all views may learn from all teachers.
    let at_unit = (probabilities * global as f64)?.broadcast_sub(&teachers)?;
    let along = (&at_unit * &units)?.sum_keepdim(1)?;
    (at_unit - units.broadcast_mul(&along)?)?.broadcast_div(&norms)
}

/// One embedding, normalised.
struct View {
    norm: f64,
    unit: Vec<f64>,
    logarithms: Vec<f64>,
    probabilities: Vec<f64>,
}

impl View {
    fn new(embedding: &[f32]) -> Self {
        let norm = embedding.iter().map(|&z| f64::from(z).powi(2)).sum::<f64>().sqrt();
        let unit: Vec<f64> = embedding.iter().map(|&z| f64::from(z) / norm).collect();
        // Entries of a unit vector are at most one: their powers cannot overflow.
        let logarithm = unit.iter().map(|e| e.exp()).sum::<f64>().ln();
        let logarithms: Vec<f64> = unit.iter().map(|e| e - logarithm).collect();
        let probabilities = logarithms.iter().map(|log| log.exp()).collect();
        Self { norm, unit, logarithms, probabilities }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The loss with the teacher of `teachers`, so that only the student moves.
    fn student_loss(students: &[f32], teachers: &[f32], width: usize, global: usize) -> f64 {
        let students: Vec<View> = students.chunks_exact(width).map(View::new).collect();
        let teachers: Vec<View> = teachers.chunks_exact(width).map(View::new).collect();
        let mut value = 0.0;
        for (t, teacher) in teachers[..global].iter().enumerate() {
            for (s, student) in students.iter().enumerate() {
                if s != t {
                    value -= (0..width).map(|i| teacher.probabilities[i] * student.logarithms[i]).sum::<f64>();
                }
            }
        }
        value
    }

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let (width, global) = (5, 2);
        let embeddings: Vec<f32> = (0..4 * width).map(|i| ((i * 7 + 3) % 11) as f32 * 0.25 - 1.0).collect();
        let found = loss(&embeddings, width, global);
        assert!((found.value - student_loss(&embeddings, &embeddings, width, global)).abs() < 1e-12);
        for index in 0..embeddings.len() {
            // Powers of two keep the step exact in f32.
            let step = 1.0 / 1024.0;
            let moved = |by: f32| {
                let mut moved = embeddings.clone();
                moved[index] += by;
                student_loss(&moved, &embeddings, width, global)
            };
            let slope = (moved(step) - moved(-step)) / (2.0 * f64::from(step));
            assert!((slope - found.gradient[index]).abs() < 1e-6, "{slope} {}", found.gradient[index]);
        }
    }

    #[test]
    fn the_device_computes_the_same_gradient() {
        for (views, width, global) in [(4, 5, 2), (2, 3, 1), (7, 16, 7)] {
            let embeddings: Vec<f32> = (0..views * width).map(|i| ((i * 7 + 3) % 11) as f32 * 0.25 - 1.0).collect();
            let tensor = Tensor::from_slice(&embeddings, (views, width), &candle_core::Device::Cpu).unwrap();
            let found = gradient_on_device(&tensor, global).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
            for (found, expected) in found.iter().zip(&loss(&embeddings, width, global).gradient) {
                assert!((found - expected).abs() < 1e-14, "{found} {expected}");
            }
        }
        let broken = Tensor::new(&[[1.0_f32, f32::INFINITY], [0.5, 1.0]], &candle_core::Device::Cpu).unwrap();
        let found = gradient_on_device(&broken, 1).unwrap().to_vec2::<f64>().unwrap();
        assert!(found.iter().flatten().any(|value| value.is_nan()), "{found:?}");
    }

    #[test]
    fn equal_views_have_no_gradient() {
        let found = loss(&[1.0, -2.0, 0.5].repeat(3), 3, 2);
        assert!(found.gradient.iter().all(|gradient| gradient.abs() < 1e-15));
    }
}
