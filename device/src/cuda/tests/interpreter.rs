//! Runs a plan's table on the CPU, in f32, or rounded to f16 where a GPU has that: slow and plain.

use half::f16;

use super::super::buffer::{Buffer, BufferSizes, Place, Storage};
use super::super::kernel::Launch;
use super::super::plan::{Operation, Plan, Product};
use super::super::weights::LaidOutWeights;
use super::{emulation, twin};

/// Which form of the kernels runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kernels {
    Twins,
    /// The kernels' own functions.
    Emulated,
    /// The same with all values rounded that are f16 on a GPU.
    EmulatedInF16,
}

fn rounded(value: f32) -> f32 {
    f16::from_f32(value).to_f32()
}

pub(super) struct Memory {
    buffers: Vec<Vec<f32>>,
}

impl Memory {
    /// Everything but the weights is NaN until it is written.
    pub(super) fn new(sizes: &BufferSizes, weights: &LaidOutWeights, pixels: &[f32]) -> Self {
        let contents = |buffer: Buffer| {
            let given = match buffer {
                Buffer::Matrices => weights.matrices.as_slice(),
                Buffer::Vectors => weights.vectors.as_slice(),
                Buffer::Pixels => pixels,
                _ => return vec![f32::NAN; sizes.values(buffer)],
            };
            assert_eq!(given.len(), sizes.values(buffer), "{buffer:?}");
            given.to_vec()
        };
        Self { buffers: Buffer::ALL.map(contents).to_vec() }
    }

    pub(super) fn values(&self, buffer: Buffer) -> &[f32] {
        &self.buffers[buffer as usize]
    }

    /// Runs the table; `false` if the kernels' functions could not be compiled.
    pub(super) fn run(&mut self, plan: &Plan, kernels: Kernels) -> bool {
        let rounding = kernels == Kernels::EmulatedInF16;
        if rounding {
            self.buffers[Buffer::Matrices as usize].iter_mut().for_each(|value| *value = rounded(*value));
        }
        for (_, operation) in &plan.operations {
            match operation {
                Operation::Product(product) => self.product(product, rounding),
                Operation::Zeros { buffer, values } => self.buffers[*buffer as usize][..*values].fill(0.0),
                Operation::Kernel(launch) if kernels == Kernels::Twins => self.run_twin(launch),
                Operation::Kernel(launch) => {
                    if !self.emulate(launch, rounding) {
                        return false;
                    }
                }
            }
        }
        true
    }

    fn product(&mut self, product: &Product, rounding: bool) {
        let &Product { rows, outputs, inputs, transposed, weight, input, output, count, .. } = product;
        // cuBLAS refuses what has nothing in it, and rows that overlap.
        assert!(rows > 0 && outputs > 0 && inputs > 0 && count > 0, "{product:?}");
        let of_weight = if transposed { outputs } else { inputs };
        assert!(weight.leading >= of_weight && input.leading >= inputs && output.leading >= outputs, "{product:?}");
        let narrow = rounding && output.place.buffer.storage() == Storage::F16;
        let read = |memory: &Self, place: Place, index: usize| memory.values(place.buffer)[place.offset + index];
        for batch in 0..count {
            for row in 0..rows {
                for column in 0..outputs {
                    let mut sum = 0.0_f64;
                    for at in 0..inputs {
                        let of_weight =
                            if transposed { at * weight.leading + column } else { column * weight.leading + at };
                        let a = read(self, weight.place, batch * weight.stride + of_weight);
                        let b = read(self, input.place, batch * input.stride + row * input.leading + at);
                        sum += f64::from(a) * f64::from(b);
                    }
                    let index = output.place.offset + batch * output.stride + row * output.leading + column;
                    let value = &mut self.buffers[output.place.buffer as usize][index];
                    let before = if product.accumulate { *value } else { 0.0 };
                    let sum = before + sum as f32 * product.scale;
                    *value = if narrow { rounded(sum) } else { sum };
                }
            }
        }
    }

    /// Every place gets a copy of its own, from which what changed is taken back.
    fn run_twin(&mut self, launch: &Launch) {
        let before: Vec<Vec<f32>> =
            launch.places.iter().map(|place| self.values(place.buffer)[place.offset..].to_vec()).collect();
        let mut after = before.clone();
        twin::run(launch, &mut after.iter_mut().map(Vec::as_mut_slice).collect());
        for (place, (before, after)) in launch.places.iter().zip(before.iter().zip(&after)) {
            let values = &mut self.buffers[place.buffer as usize][place.offset..];
            for ((value, before), after) in values.iter_mut().zip(before).zip(after) {
                if before.to_bits() != after.to_bits() {
                    *value = *after;
                }
            }
        }
    }

    fn emulate(&mut self, launch: &Launch, rounding: bool) -> bool {
        let mut starts: Vec<*mut f32> = self.buffers.iter_mut().map(Vec::as_mut_ptr).collect();
        let pointers: Vec<*mut f32> = launch
            .places
            .iter()
            .map(|place| {
                assert!(place.offset < self.buffers[place.buffer as usize].len());
                starts[place.buffer as usize].wrapping_add(place.offset)
            })
            .collect();
        starts.clear();
        emulation::emulate(launch, &pointers, rounding).is_some()
    }
}
