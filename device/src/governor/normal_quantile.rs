//! The quantile function of the normal distribution.

/// How many standard deviations above the mean a normal variable lies with
/// probability `upper_tail`. A deadline at a miss rate is this quantile.
///
/// Algorithm AS 241, PPND7 (Wichura 1988, doi 10.2307/2347330): about seven
/// digits. `upper_tail` is above 0 and below 1.
pub(super) fn upper_quantile(upper_tail: f32) -> f32 {
    let q = 0.5 - upper_tail;
    if libm::fabsf(q) <= 0.425 {
        let r = 0.180_625 - q * q;
        let numerator = ((59.109_374 * r + 159.291_13) * r + 50.434_27) * r + 3.387_132_7;
        let denominator = ((67.187_56 * r + 78.757_76) * r + 17.895_17) * r + 1.0;
        return q * numerator / denominator;
    }
    let tail = if q < 0.0 { 1.0 - upper_tail } else { upper_tail };
    let r = libm::sqrtf(-libm::logf(tail));
    let value = if r <= 5.0 {
        let r = r - 1.6;
        let numerator = ((0.170_238_21 * r + 1.306_728_5) * r + 2.756_815_4) * r + 1.423_437_3;
        let denominator = (0.120_211_33 * r + 0.737_001_64) * r + 1.0;
        numerator / denominator
    } else {
        let r = r - 5.0;
        let numerator = ((0.017_337_203 * r + 0.428_682_95) * r + 3.081_226_4) * r + 6.657_905;
        let denominator = (0.012_258_202 * r + 0.241_978_95) * r + 1.0;
        numerator / denominator
    };
    if q < 0.0 { -value } else { value }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_tables_of_the_normal_distribution() {
        let table = [
            (0.5, 0.0),
            (0.1, 1.281_551_6),
            (0.01, 2.326_347_9),
            (0.001, 3.090_232_3),
            (1e-6, 4.753_424),
            (0.9, -1.281_551_6),
        ];
        for (tail, expected) in table {
            assert!((upper_quantile(tail) - expected).abs() < 2e-5, "{tail}: {}", upper_quantile(tail));
        }
        // Past 5 standard deviations the last branch is used.
        assert!((upper_quantile(1e-12) - 7.034_484).abs() < 2e-3, "{}", upper_quantile(1e-12));
    }
}
