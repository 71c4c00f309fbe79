//! Near names: what did the user mean?

/// Returns the candidate that `name` most likely misspells, or `None` if none is near.
///
/// Near means a Damerau-Levenshtein distance of at most a third of the longer name (at least 1), ignoring case;
/// of equally near ones the first in sort order, so that the answer is stable.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = name.to_lowercase();
    candidates
        .into_iter()
        .filter(|candidate| *candidate != name)
        .map(|candidate| (strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| {
            *distance <= (name.chars().count().max(candidate.chars().count()) / 3).max(1)
        })
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn finds_swaps_drops_and_case_but_not_strangers() {
        assert_eq!(nearest("biuld", ["test", "build"]), Some("build"));
        assert_eq!(nearest("Build", ["test", "build"]), Some("build"));
        assert_eq!(nearest("imge", ["image", "base"]), Some("image"));
        assert_eq!(nearest("deploy", ["image", "base"]), None);
    }
}
