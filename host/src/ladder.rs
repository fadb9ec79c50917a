//! The ladder: which sub-networks become rungs.

use headroom_shared::{ModelShape, ReplayError, Step, SubNetwork, cost};

/// The steps of at most `count` rungs whose MACs fall evenly from the dense
/// model to the end of the ranking. The first is always 0 and the last always
/// the whole ranking; two targets that one sub-network meets give one rung.
///
/// # Errors
/// If the ranking does not fit the shape.
pub fn even_rungs(shape: &ModelShape, steps: &[u8], count: usize) -> Result<Vec<u32>, ReplayError> {
    let macs = macs_after_each_step(shape, steps)?;
    let (dense, smallest) = (macs[0], macs[steps.len()]);
    let target = |index: usize| {
        let share = index as f64 / (count.max(2) - 1) as f64;
        dense - ((dense - smallest) as f64 * share).round() as u64
    };
    Ok(first_within(&macs, (0..count.max(1)).map(target)))
}

/// The steps of the dense model and of the largest sub-networks that keep no more than these shares of its MACs. What
/// no sub-network is small enough for gives the smallest.
///
/// # Errors
/// If the ranking does not fit the shape.
pub fn rungs_at(shape: &ModelShape, steps: &[u8], shares: &[f64]) -> Result<Vec<u32>, ReplayError> {
    let macs = macs_after_each_step(shape, steps)?;
    let smallest = macs[steps.len()];
    let mut shares = shares.to_vec();
    shares.sort_by(|a, b| b.total_cmp(a));
    let targets = shares.into_iter().map(|share| ((macs[0] as f64 * share) as u64).max(smallest));
    Ok(first_within(&macs, std::iter::once(macs[0]).chain(targets)))
}

/// For each of the falling targets the first step at or below it; equal sub-networks once.
fn first_within(macs: &[u64], targets: impl Iterator<Item = u64>) -> Vec<u32> {
    let mut rungs: Vec<u32> = Vec::new();
    for target in targets {
        // MACs never rise along the ranking.
        let step = macs.partition_point(|&macs| macs > target);
        let differs = rungs.last().is_none_or(|&last| macs[last as usize] > macs[step]);
        if differs {
            rungs.push(step as u32);
        }
    }
    rungs
}

/// Those of the rungs `among` whose MACs are nearest to these shares of the first's, in rising order.
#[must_use]
pub fn nearest_rungs(shape: &ModelShape, rungs: &[SubNetwork], among: &[usize], shares: &[f64]) -> Vec<usize> {
    let macs: Vec<f64> = rungs.iter().map(|rung| cost::macs(shape, rung) as f64).collect();
    let nearest = |share: &f64| {
        let distance = |rung: usize| (macs[rung] / macs[0] - share).abs();
        among.iter().copied().min_by(|&a, &b| distance(a).total_cmp(&distance(b)))
    };
    let mut nearest: Vec<usize> = shares.iter().filter_map(nearest).collect();
    nearest.sort_unstable();
    nearest.dedup();
    nearest
}

/// The MACs after 0, 1, .. all steps.
fn macs_after_each_step(shape: &ModelShape, steps: &[u8]) -> Result<Vec<u64>, ReplayError> {
    // Checks every byte, so that the replay below cannot meet a bad one.
    SubNetwork::after(shape, steps)?;
    let mut sub_network = SubNetwork::dense(shape);
    let mut macs = vec![cost::macs(shape, &sub_network)];
    for &byte in steps {
        let removed = sub_network.remove(shape, Step::from_byte(byte));
        debug_assert_eq!(removed, Ok(()));
        macs.push(cost::macs(shape, &sub_network));
    }
    Ok(macs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use headroom_shared::StepKind;

    #[test]
    fn the_nearest_rungs_rise_and_are_among_those_asked_for() {
        let shape = shape();
        let rungs = [(4, 64), (3, 48), (2, 32), (1, 16)]
            .map(|counts| SubNetwork::from_counts(&shape, &[counts; 2]).expect("counts of the shape"));
        assert_eq!(nearest_rungs(&shape, &rungs, &[1, 2, 3], &[0.2, 0.5, 0.52, 0.99]), [1, 2, 3]);
        assert_eq!(nearest_rungs(&shape, &rungs, &[3], &[0.2, 0.99]), [3]);
        assert_eq!(nearest_rungs(&shape, &rungs, &[], &[0.5]), [0usize; 0]);
    }

    fn shape() -> ModelShape {
        ModelShape {
            head_dim: 8,
            embed_dim: 32,
            outside_macs: 1000,
            outside_weight_bytes: 100,
            floor_heads: 1,
            floor_neurons: 8,
            ..crate::ranking::quanta::tests::shape(2, 4, 64)
        }
    }

    fn ranking() -> Vec<u8> {
        let mut steps = Vec::new();
        for block in 0..2 {
            steps.extend([Step::new(block, StepKind::Neurons).unwrap().to_byte(); 7]);
            steps.extend([Step::new(block, StepKind::Head).unwrap().to_byte(); 3]);
        }
        steps
    }

    #[test]
    fn rungs_go_evenly_from_dense_to_the_floor() {
        let rungs = even_rungs(&shape(), &ranking(), 6).unwrap();
        assert_eq!((rungs[0], *rungs.last().unwrap()), (0, 20));
        let macs = macs_after_each_step(&shape(), &ranking()).unwrap();
        let range = (macs[0] - macs[20]) as f64;
        // The costliest step is the distance that a rung can miss its target by.
        let coarse = macs.windows(2).map(|pair| pair[0] - pair[1]).max().unwrap() as f64;
        for (index, &rung) in rungs.iter().enumerate() {
            let target = macs[0] as f64 - range * index as f64 / 5.0;
            let found = macs[rung as usize] as f64;
            assert!(found <= target + 1.0 && found > target - coarse - 1.0, "rung {index}");
        }
    }

    #[test]
    fn rungs_are_the_largest_within_their_shares() {
        let macs = macs_after_each_step(&shape(), &ranking()).unwrap();
        let shares = [0.5, 0.9, 1.0, 0.001, 0.5];
        let rungs = rungs_at(&shape(), &ranking(), &shares).unwrap();
        assert_eq!((rungs.len(), rungs[0], *rungs.last().unwrap()), (4, 0, 20));
        for (rung, share) in [(rungs[1], 0.9), (rungs[2], 0.5)] {
            let most = macs[0] as f64 * share;
            assert!(macs[rung as usize] as f64 <= most && macs[rung as usize - 1] as f64 > most);
        }
        assert_eq!(rungs_at(&shape(), &ranking(), &[]).unwrap(), [0]);
    }

    #[test]
    fn more_rungs_than_steps_are_no_rungs_twice() {
        let rungs = even_rungs(&shape(), &ranking(), 500).unwrap();
        assert!(rungs.windows(2).all(|pair| pair[0] < pair[1]));
        assert_eq!(rungs.len(), 21);
        assert_eq!(even_rungs(&shape(), &[], 24).unwrap(), [0]);
        assert_eq!(even_rungs(&shape(), &ranking(), 1).unwrap(), [0]);
    }
}
