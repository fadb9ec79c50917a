//! Each instruction set against the naive product in f64.

use proptest::prelude::*;

use super::super::panel::{PANEL, pack_row, panels, storage, write_row};
use super::super::simd::InstructionSet;
use super::*;

/// Deterministic values in -1 to 1.
fn value(seed: usize) -> f32 {
    let mixed = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    ((mixed >> 40) as f32) / (1 << 23) as f32 - 1.0
}

fn row_major(rows: usize, columns: usize, seed: usize) -> Vec<Vec<f32>> {
    (0..rows).map(|row| (0..columns).map(|column| value(seed + row * columns + column)).collect()).collect()
}

fn packed(matrix: &[Vec<f32>], columns: usize) -> Vec<PanelRow> {
    let mut data = storage(matrix.len(), columns);
    for (row, values) in matrix.iter().enumerate() {
        write_row(&mut data, matrix.len(), row, values);
    }
    data
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.min(48)))]

    #[test]
    fn every_instruction_set_equals_the_naive_product(
        rows in 1_usize..60,
        outputs in 1_usize..70,
        cuts in proptest::collection::vec((0_usize..40, 1_usize..40), 0..4),
        seed in 0_usize..1000,
    ) {
        // Segments skip some rows of `b`; in `a` each starts at a panel.
        let (mut segments, mut a_columns, mut b_rows) = (Vec::new(), 0, 0);
        for &(skipped, length) in &cuts {
            segments.push(Segment { a_panel: a_columns / PANEL, b_row: b_rows + skipped, length });
            a_columns += panels(length) * PANEL;
            b_rows += skipped + length;
        }
        let a = row_major(rows, a_columns, seed);
        let b = row_major(b_rows, outputs, seed + 7777);
        let bias: Vec<f32> = (0..outputs).map(|column| value(column + 31)).collect();
        let (a_packed, b_packed) = (packed(&a, a_columns), packed(&b, outputs));
        for set in InstructionSet::available() {
            let mut out = vec![1.0; rows * outputs];
            set.run(Product {
                a: Operand { data: &a_packed, rows },
                first_row: 0,
                rows,
                b: Operand { data: &b_packed, rows: b_rows },
                panels: panels(outputs),
                segments: &segments,
                bias: &pack_row(&bias),
                target: Target::added(&mut out, outputs),
            });
            for row in 0..rows {
                for column in 0..outputs {
                    let mut expected = 1.0 + f64::from(bias[column]);
                    for segment in &segments {
                        for step in 0..segment.length {
                            expected += f64::from(a[row][segment.a_panel * PANEL + step])
                                * f64::from(b[segment.b_row + step][column]);
                        }
                    }
                    let found = f64::from(out[row * outputs + column]);
                    prop_assert!((found - expected).abs() < 2e-5, "{}: {found} for {expected}", set.name());
                }
            }
        }
    }
}
