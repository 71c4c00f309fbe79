//! How far a step is, in as many words as there is room for.

use rb_api::Progress;

use super::text::{human_bytes, human_count};

/// Tells whether all of it is done, as far as that is known.
pub(super) fn is_complete(progress: &Progress) -> bool {
    let files = progress.files.is_none_or(|(done, all)| all == Some(done));
    files && progress.total == Some(progress.current)
}

/// Says how far it is, from the fullest form to the shortest.
pub(super) fn forms(progress: &Progress) -> Vec<String> {
    let Progress { doing, current, total, files } = progress;
    let files = files.filter(|(_, all)| *all != Some(1)).map(|(done, all)| match all {
        Some(all) => format!("{} of {} files", human_count(done), human_count(all)),
        None => format!("{} files", human_count(done)),
    });
    let bytes = match total {
        Some(total) => Some(format!("{} of {}", human_bytes(*current), human_bytes(*total))),
        // Links alone have no bytes.
        None if *current == 0 && files.is_some() => None,
        None => Some(human_bytes(*current)),
    };
    let both: Vec<String> = files.into_iter().chain(bytes.clone()).collect();
    let both = both.join(", ");
    let share = total.filter(|total| *total > 0).map(|total| {
        let share = u128::from(*current) * 100 / u128::from(total);
        format!("{share} %")
    });
    let mut forms = vec![format!("{doing}: {both}"), both];
    forms.extend(bytes.into_iter().chain(share));
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_words_as_are_known() {
        let progress = |current, total, files| Progress { doing: "copying".into(), current, total, files };
        let said = |current, total, files| forms(&progress(current, total, files));
        assert_eq!(
            said(12_345_678, Some(200_000_000), Some((1_204, Some(20_000)))),
            [
                "copying: 1,204 of 20,000 files, 12.3 MB of 200.0 MB",
                "1,204 of 20,000 files, 12.3 MB of 200.0 MB",
                "12.3 MB of 200.0 MB",
                "6 %"
            ]
        );
        assert_eq!(said(7, None, Some((1_204, None)))[0], "copying: 1,204 files, 7 B");
        assert_eq!(said(7, None, None), ["copying: 7 B", "7 B"]);
        assert_eq!(
            said(50, Some(100), Some((0, Some(1)))),
            ["copying: 50 B of 100 B", "50 B of 100 B", "50 %"]
        );
        assert_eq!(said(0, None, Some((3, Some(4)))), ["copying: 3 of 4 files", "3 of 4 files"]);
        assert_eq!(said(u64::MAX, Some(u64::MAX), None).last().map(String::as_str), Some("100 %"));
        assert!(
            is_complete(&progress(5, Some(5), None))
                && is_complete(&progress(5, Some(5), Some((2, Some(2)))))
        );
        assert!(!is_complete(&progress(5, Some(6), None)) && !is_complete(&progress(5, None, None)));
        assert!(!is_complete(&progress(5, Some(5), Some((1, Some(2))))));
    }
}
