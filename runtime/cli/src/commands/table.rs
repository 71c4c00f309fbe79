//! Columns for lists on stdout.

use unicode_width::UnicodeWidthStr;

/// Lays rows out in columns, two spaces apart; the first row is the heading. Columns at `right` are aligned right.
pub(super) fn table(rows: &[Vec<String>], right: &[usize]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut out = String::new();
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, width))| {
                let pad = " ".repeat(width.saturating_sub(cell.width()));
                if right.contains(&column) { format!("{pad}{cell}") } else { format!("{cell}{pad}") }
            })
            .collect();
        out.push_str(cells.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// The last second of the year 9999, since 1970.
pub(super) const LAST_SECOND: u64 = 253_402_300_799;

/// Formats seconds since 1970 as `2020-04-16 12:00:00`, UTC; what lies before 1970 is 1970, what lies after 9999 is its end.
pub(super) fn utc(seconds: i64) -> String {
    let seconds = u64::try_from(seconds).unwrap_or_default().min(LAST_SECOND);
    let since = std::time::Duration::from_secs(seconds);
    let text = humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string();
    text.replace('T', " ").replace('Z', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_in_cells() {
        let rows =
            [["NAME", "SIZE"], ["日本:1", "4 B"], ["a", "16 kB"]].map(|row| row.map(str::to_owned).to_vec());
        assert_eq!(table(&rows, &[1]), "NAME     SIZE\n日本:1    4 B\na       16 kB\n");
    }

    #[test]
    fn known_days() {
        for (seconds, text) in [
            (0, "1970-01-01 00:00:00"),
            (1_587_038_400, "2020-04-16 12:00:00"),
            (1_709_164_799, "2024-02-28 23:59:59"),
            (1_709_164_800, "2024-02-29 00:00:00"),
            (951_868_800, "2000-03-01 00:00:00"),
            (i64::MIN, "1970-01-01 00:00:00"),
            (253_402_300_799, "9999-12-31 23:59:59"),
            (253_402_300_800, "9999-12-31 23:59:59"),
            (i64::MAX, "9999-12-31 23:59:59"),
        ] {
            assert_eq!(utc(seconds), text);
        }
    }
}
