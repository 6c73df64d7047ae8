//! What somebody who mistyped a word probably meant.

/// The candidate that is fewest typing mistakes away from `word`, if that is near: a letter added, left out, wrong, or
/// swapped with its neighbour, at most one for each three letters.
pub(super) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = (word.chars().count() / 3).max(1);
    let distances = candidates.into_iter().map(|candidate| (mistakes(word, candidate), candidate));
    distances.filter(|(distance, _)| *distance <= near).min().map(|(_, candidate)| candidate)
}

/// Optimal string alignment distance.
fn mistakes(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    // Row i holds the distances of the first i letters of `from` to every beginning of `to`.
    let mut rows: Vec<Vec<usize>> = vec![(0..=to.len()).collect()];
    for i in 1..=from.len() {
        let mut row = vec![i];
        for j in 1..=to.len() {
            let wrong = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            let mut least = wrong.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_mistyping_counts_one() {
        for word in ["listen", "listens", "isten", "lissten", "lixten", "litsen"] {
            let distance = usize::from(word != "listen");
            assert_eq!(mistakes(word, "listen"), distance, "{word}");
            assert_eq!(mistakes("listen", word), distance, "{word}");
        }
        assert_eq!(mistakes("", "block"), 5);
        assert_eq!(mistakes("block", "buffer"), 5);
    }

    #[test]
    fn only_what_is_near_is_meant() {
        let keys = ["block", "buffer", "rate", "max_listeners"];
        assert_eq!(nearest("blok", keys), Some("block"));
        assert_eq!(nearest("max-listener", keys), Some("max_listeners"));
        assert_eq!(nearest("volume", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
