//! A curve in one line: values over time as a row of small bars.
//!
//! Owns how samples are put into cells: a cell has the largest value of its part of the time, or,
//! where that has no sample, the value before.

use crate::style::Style;

const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const ASCII: [char; 8] = ['_', '.', ':', '-', '=', '+', '*', '#'];

/// The points `(when, value)`, in order of time, as `cells` characters scaled to `top`. Empty when
/// there are no points.
pub(crate) fn line(points: &[(f64, u64)], top: u64, cells: usize, style: Style) -> String {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return String::new() };
    let levels = if style.unicode { BLOCKS } else { ASCII };
    let span = last.0 - first.0;
    let mut largest: Vec<Option<u64>> = vec![None; cells];
    for (when, value) in points {
        let part = if span > 0.0 { (when - first.0) / span } else { 0.0 };
        // A part that is no number becomes 0.
        let cell = ((part * cells as f64) as usize).min(cells.saturating_sub(1));
        if let Some(slot) = largest.get_mut(cell) {
            *slot = Some(slot.unwrap_or(0).max(*value));
        }
    }
    let mut before = first.1;
    largest
        .into_iter()
        .map(|value| {
            before = value.unwrap_or(before);
            let level = match top {
                0 => 0,
                _ => (u128::from(before) * levels.len() as u128 / u128::from(top)) as usize,
            };
            levels[level.min(levels.len() - 1)]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RICH: Style = Style { color: false, unicode: true };

    #[test]
    fn a_curve_keeps_its_peaks_and_its_gaps() {
        let points = [(0.0, 0), (1.0, 50), (1.1, 100), (1.2, 20), (4.0, 0), (8.0, 60)];
        // Of the second cell the highest is shown; the next two have no sample.
        assert_eq!(line(&points, 100, 8, RICH), "▁███▁▁▁▅");
        let ascii = Style { unicode: false, ..RICH };
        assert_eq!(line(&points, 100, 8, ascii), "_###___=");
    }

    #[test]
    fn odd_points_are_harmless() {
        assert_eq!(line(&[], 100, 8, RICH), "");
        assert_eq!(line(&[(3.0, 100)], 100, 3, RICH), "███");
        assert_eq!(line(&[(0.0, 7), (0.0, u64::MAX)], 0, 2, RICH), "▁▁");
        assert_eq!(line(&[(f64::NAN, 5), (f64::INFINITY, 9)], 9, 2, RICH).chars().count(), 2);
        assert_eq!(line(&[(1.0, 5)], 9, 0, RICH), "");
    }
}
