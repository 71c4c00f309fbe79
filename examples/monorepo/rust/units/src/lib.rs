//! Numbers for people.

/// Writes a number short: `999`, `1.2k`, `3.4M`.
pub fn short(number: usize) -> String {
    match number {
        0..=999 => number.to_string(),
        1_000..=999_999 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.1}M", number as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn numbers_are_short() {
        assert_eq!(short(999), "999");
        assert_eq!(short(1_234), "1.2k");
        assert_eq!(short(3_400_000), "3.4M");
    }
}
