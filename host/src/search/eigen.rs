//! Eigenvectors of symmetric matrices, in one thread.
//!
//! faer's high-level call uses as many threads as there are; here the sums have
//! one order, so the same input gives the same bytes whatever the machine's load.

use faer::diag::Diag;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::evd::{ComputeEigenvectors, self_adjoint_evd, self_adjoint_evd_scratch};
use faer::prelude::default;
use faer::{Mat, MatRef, Par};

/// Eigenvalues, ascending, and the eigenvectors as columns of a matrix.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Mat<f64>,
}

/// Decomposes a symmetric matrix of which only the lower triangle is read.
/// `None` if it has an entry that is not finite, or the iteration does not converge.
pub(super) fn symmetric_eigen(matrix: MatRef<'_, f64>) -> Option<Eigen> {
    let size = matrix.nrows();
    let mut vectors = Mat::zeros(size, size);
    let mut values = Diag::<f64>::zeros(size);
    let scratch = self_adjoint_evd_scratch::<f64>(size, ComputeEigenvectors::Yes, Par::Seq, default());
    let mut buffer = MemBuffer::new(scratch);
    let stack = MemStack::new(&mut buffer);
    self_adjoint_evd(matrix, values.as_mut(), Some(vectors.as_mut()), Par::Seq, stack, default()).ok()?;
    let values: Vec<f64> = values.column_vector().iter().copied().collect();
    values.iter().all(|value| value.is_finite()).then_some(Eigen { values, vectors })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decomposes_a_matrix_with_known_eigenvalues() {
        let matrix = faer::mat![[2.0, 1.0], [1.0, 2.0]];
        let eigen = symmetric_eigen(matrix.as_ref()).expect("converges");
        assert!((eigen.values[0] - 1.0).abs() < 1e-14 && (eigen.values[1] - 3.0).abs() < 1e-14);
        assert!((eigen.vectors[(0, 1)] - eigen.vectors[(1, 1)]).abs() < 1e-14);
    }

    #[test]
    fn refuses_nan() {
        assert!(symmetric_eigen(faer::mat![[f64::NAN, 1.0], [1.0, 2.0]].as_ref()).is_none());
    }
}
