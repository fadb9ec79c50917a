//! How much of each kind of structure is removed.

use std::fmt;
use std::str::FromStr;

/// Shares of all neurons and of all heads of a model that are removed, each from 0 to 1.
///
/// Written `0.25/0.1` (neurons, then heads) or `0.3` (both).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sparsity {
    /// Share of all neurons.
    pub neurons: f64,
    /// Share of all heads.
    pub heads: f64,
}

/// Sparsities that rise from one to the next, written with commas between them.
///
/// The default is the four pairs on which the published DINO scores were fitted
/// (`jobs/ga/dino.sh` of the reference code): `0.15/0,0.35/0.2,0.55/0.4,0.65/0.5`.
/// They span the range in which the published results are reported.
#[derive(Clone, Debug, PartialEq)]
pub struct Sparsities(Vec<Sparsity>);

/// Why a list of sparsities is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum SparsityError {
    /// The text is not a number or a pair of numbers.
    #[error("\"{text}\" is not a sparsity: write 0.25/0.1 (neurons/heads) or 0.3 (both)")]
    NotASparsity { text: String },
    /// A share is negative, 1 or more, or not a number.
    #[error("sparsity {found}: each share must be at least 0 and below 1")]
    OutOfRange { found: Sparsity },
    /// A sparsity removes nothing more than the one before it, or less of one kind.
    #[error(
        "sparsity {found} follows {before}: each must remove more than the one before, and not less of either kind"
    )]
    NotRising { before: Sparsity, found: Sparsity },
    /// There is no sparsity at all.
    #[error("no sparsity is given")]
    Empty,
}

impl Sparsity {
    /// Nothing removed.
    pub const DENSE: Self = Self { neurons: 0.0, heads: 0.0 };
}

impl Sparsities {
    /// Checks that the sparsities are in range and rise.
    ///
    /// # Errors
    /// Names the first sparsity that is out of range or does not rise.
    pub fn new(sparsities: Vec<Sparsity>) -> Result<Self, SparsityError> {
        let mut before = Sparsity::DENSE;
        for &found in &sparsities {
            if ![found.neurons, found.heads].iter().all(|share| (0.0..1.0).contains(share)) {
                return Err(SparsityError::OutOfRange { found });
            }
            if found == before || found.neurons < before.neurons || found.heads < before.heads {
                return Err(SparsityError::NotRising { before, found });
            }
            before = found;
        }
        if sparsities.is_empty() { Err(SparsityError::Empty) } else { Ok(Self(sparsities)) }
    }

    /// The sparsities, rising; never empty.
    #[must_use]
    pub fn as_slice(&self) -> &[Sparsity] {
        &self.0
    }
}

impl Default for Sparsities {
    fn default() -> Self {
        let pairs = [(0.15, 0.0), (0.35, 0.2), (0.55, 0.4), (0.65, 0.5)];
        Self(pairs.map(|(neurons, heads)| Sparsity { neurons, heads }).to_vec())
    }
}

impl FromStr for Sparsity {
    type Err = SparsityError;

    fn from_str(text: &str) -> Result<Self, SparsityError> {
        let share = |part: &str| {
            part.trim().parse::<f64>().map_err(|_| SparsityError::NotASparsity { text: text.trim().to_owned() })
        };
        match text.split_once('/') {
            Some((neurons, heads)) => Ok(Self { neurons: share(neurons)?, heads: share(heads)? }),
            None => share(text).map(|both| Self { neurons: both, heads: both }),
        }
    }
}

impl FromStr for Sparsities {
    type Err = SparsityError;

    fn from_str(text: &str) -> Result<Self, SparsityError> {
        Self::new(text.split(',').map(str::parse).collect::<Result<_, _>>()?)
    }
}

impl fmt::Display for Sparsity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.neurons, self.heads)
    }
}

impl fmt::Display for Sparsities {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, sparsity) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(formatter, "{separator}{sparsity}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pairs_and_single_shares() {
        let read: Sparsities = "0.25/0.1, 0.3".parse().expect("two sparsities");
        assert_eq!(read.as_slice()[0], Sparsity { neurons: 0.25, heads: 0.1 });
        assert_eq!(read.as_slice()[1], Sparsity { neurons: 0.3, heads: 0.3 });
        assert_eq!(read.to_string(), "0.25/0.1,0.3/0.3");
    }

    #[test]
    fn the_default_reads_back() {
        let default = Sparsities::default();
        assert_eq!(default.to_string(), "0.15/0,0.35/0.2,0.55/0.4,0.65/0.5");
        assert_eq!(default.to_string().parse(), Ok(default));
    }

    #[test]
    fn refuses_what_does_not_rise_or_is_no_share() {
        let refused = |text: &str| text.parse::<Sparsities>().expect_err("refused");
        assert!(matches!(refused("0.3,0.3"), SparsityError::NotRising { .. }));
        assert!(matches!(refused("0.3/0.2,0.4/0.1"), SparsityError::NotRising { .. }));
        assert!(matches!(refused("0"), SparsityError::NotRising { .. }));
        assert!(matches!(refused("1.0/0.1"), SparsityError::OutOfRange { .. }));
        assert!(matches!(refused("-0.1"), SparsityError::OutOfRange { .. }));
        assert!(matches!(refused("NaN"), SparsityError::OutOfRange { .. }));
        assert!(matches!(refused(""), SparsityError::NotASparsity { .. }));
        assert!(matches!(refused("0.1/0.1/0.1"), SparsityError::NotASparsity { .. }));
        assert_eq!(Sparsities::new(Vec::new()), Err(SparsityError::Empty));
    }
}
