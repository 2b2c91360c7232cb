//! How much of its matrix a test runs: a part, drawn so that each program and each interpreter is in it, or all of it,
//! as `cargo xtask matrix` asks for with `PYDEFRAG_MATRIX=whole`.

/// Whether all of it is asked for.
///
/// Panics where the variable says anything but `whole`: a test that runs less than was meant would not be noticed.
pub fn is_whole() -> bool {
    match std::env::var("PYDEFRAG_MATRIX") {
        Err(_) => false,
        Ok(text) if text == "whole" => true,
        Ok(text) => panic!("PYDEFRAG_MATRIX={text}: it is `whole` or not there"),
    }
}

/// Every `of`th, from the `turn`th on, counted round; all of them where the whole matrix is asked for. Callers whose
/// turns take in `0..of` leave nobody out.
pub fn part<T>(all: impl IntoIterator<Item = T>, turn: usize, of: usize) -> Vec<T> {
    let whole = is_whole();
    let all = all.into_iter().enumerate();
    all.filter(|(n, _)| whole || n % of == turn % of).map(|(_, one)| one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_the_whole() {
        let mut all: Vec<u32> = (0..3).flat_map(|turn| part(0..11, turn, 3)).collect();
        all.sort_unstable();
        assert!(is_whole() || all == (0..11).collect::<Vec<_>>());
    }
}
