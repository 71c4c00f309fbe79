//! Patterns of slices: what Go's `filepath.Match` matches.
//!
//! `*` is any run of letters but `/`, `?` one letter but `/`, `[a-z]` and `[^a-z]` one of a class, `\` takes away a meaning.
//! No library has the same: others know `**`, `{}` or `[!…]`. Source: Go's documentation of `path.Match`.

/// A pattern does not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no pattern: a class or an escape has no end")]
pub struct PatternError(pub String);

/// A pattern, by letters.
#[derive(Clone, Debug)]
pub struct Pattern {
    text: String,
    /// Pieces without a star; whether a star stands before each.
    pieces: Vec<(bool, Vec<char>)>,
}

impl Pattern {
    /// Reads a pattern, cleaned as a path is.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let letters: Vec<char> = clean(text).chars().collect();
        let mut rest = letters.as_slice();
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let stars = rest.iter().take_while(|letter| **letter == '*').count();
            let end = end_of_piece(&rest[stars..]) + stars;
            pieces.push((stars > 0, rest[stars..end].to_vec()));
            rest = &rest[end..];
        }
        let pattern = Self { text: text.to_owned(), pieces };
        // Each piece is read once: classes and escapes have an end whatever they are held against.
        for (_, piece) in &pattern.pieces {
            pattern.piece(piece, None)?;
        }
        Ok(pattern)
    }

    /// Whether a path relative to the app fits.
    pub fn fits(&self, path: &str) -> bool {
        let letters: Vec<char> = path.chars().collect();
        self.rest_fits(&letters)
    }

    fn rest_fits(&self, letters: &[char]) -> bool {
        let mut rest = letters;
        'pieces: for (index, (star, piece)) in self.pieces.iter().enumerate() {
            let last = index + 1 == self.pieces.len();
            if *star && piece.is_empty() {
                return !rest.contains(&'/');
            }
            let skips = if *star { rest.iter().take_while(|letter| **letter != '/').count() } else { 0 };
            for skip in 0..=skips {
                if let Ok(Some(used)) = self.piece(piece, Some(&rest[skip..]))
                    && (!last || skip + used == rest.len())
                {
                    rest = &rest[skip + used..];
                    continue 'pieces;
                }
            }
            return false;
        }
        rest.is_empty()
    }

    /// Holds a piece without stars against the beginning of a text; returns how much of it fits. Without a text it is only
    /// read.
    fn piece(&self, piece: &[char], text: Option<&[char]>) -> Result<Option<usize>, PatternError> {
        let error = || PatternError(self.text.clone());
        let mut used = 0;
        let mut fits = text.is_some();
        let mut at = 0;
        while at < piece.len() {
            let letter = text.and_then(|text| text.get(used).copied());
            fits &= letter.is_some();
            match piece[at] {
                '[' => {
                    at += 1;
                    let negated = piece.get(at) == Some(&'^');
                    at += usize::from(negated);
                    let (mut within, mut ranges) = (false, 0);
                    while !(piece.get(at) == Some(&']') && ranges > 0) {
                        let low = class_letter(piece, &mut at).ok_or_else(error)?;
                        let mut high = low;
                        if piece.get(at) == Some(&'-') {
                            at += 1;
                            high = class_letter(piece, &mut at).ok_or_else(error)?;
                        }
                        within |= letter.is_some_and(|letter| low <= letter && letter <= high);
                        ranges += 1;
                    }
                    at += 1;
                    fits &= within != negated;
                }
                '?' => {
                    fits &= letter != Some('/');
                    at += 1;
                }
                plain => {
                    let mut plain = plain;
                    if plain == '\\' {
                        at += 1;
                        plain = *piece.get(at).ok_or_else(error)?;
                    }
                    fits &= letter == Some(plain);
                    at += 1;
                }
            }
            used += 1;
        }
        Ok(fits.then_some(used))
    }
}

/// Reads one letter of a class; nothing if the class ends badly.
fn class_letter(piece: &[char], at: &mut usize) -> Option<char> {
    let mut letter = *piece.get(*at)?;
    if letter == '-' || letter == ']' {
        return None;
    }
    if letter == '\\' {
        *at += 1;
        letter = *piece.get(*at)?;
    }
    *at += 1;
    piece.get(*at).map(|_| letter)
}

/// Returns where a piece ends: at a star outside of classes.
fn end_of_piece(letters: &[char]) -> usize {
    let (mut at, mut within) = (0, false);
    while let Some(letter) = letters.get(at) {
        match letter {
            '\\' => at += 1,
            '[' => within = true,
            ']' => within = false,
            '*' if !within => return at,
            _ => {}
        }
        at += 1;
    }
    letters.len()
}

/// Cleans a path as Go does: no empty parts, no `.`, and `..` takes away the part before it.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if rooted => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    match (rooted, joined.is_empty()) {
        (true, _) => format!("/{joined}"),
        (false, true) => ".".to_owned(),
        (false, false) => joined,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fits(pattern: &str, path: &str) -> bool {
        Pattern::parse(pattern).expect("a pattern").fits(path)
    }

    #[test]
    fn as_go_matches() {
        for (pattern, path, want) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*c", "abc", true),
            ("a*", "a", true),
            ("a*", "ab/c", false),
            ("a*/b", "abc/b", true),
            ("a*/b", "a/c/b", false),
            ("a*b*c*d*e*/f", "axbxcxdxe/f", true),
            ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", false),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[e-g]", "abc", false),
            ("ab[^e-g]", "abc", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "ab", false),
            ("a?b", "aöb", true),
            ("a[^a]b", "aöb", true),
            ("a???b", "aöb", false),
            ("[a-ö]*", "ö", true),
            ("a?b", "a/b", false),
            ("a*b", "a/b", false),
            ("[\\]a]", "]", true),
            ("[\\-x]", "z", false),
            ("*x", "xxx", true),
            ("./a//b/../c/", "a/c", true),
            ("", ".", true),
            ("..", "..", true),
        ] {
            assert_eq!(fits(pattern, path), want, "{pattern} {path}");
        }
        for pattern in ["[]a]", "[-]", "[x-]", "[-x]", "[", "[^", "[^bc", "a[", "\\", "[a-b-c]"] {
            assert!(Pattern::parse(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        /// A text with its letters escaped fits itself and nothing else; stars end soon whatever they stand in.
        #[test]
        fn escaped_text_is_itself(text in "[a-c*?\\[\\]-]{1,8}", other in "[a-c*?\\[\\]-]{1,8}") {
            let escaped: String = text.chars().flat_map(|letter| ['\\', letter]).collect();
            let pattern = Pattern::parse(&escaped).expect("a pattern");
            prop_assert!(pattern.fits(&text));
            prop_assert_eq!(pattern.fits(&other), text == other);
        }
    }
}
