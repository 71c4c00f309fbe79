//! File modes as `chmod` takes them: octal digits, or clauses such as `u+x,go-w` and `+X`.
//!
//! Source: POSIX chmod, and the set-mode package BuildKit uses: the umask is 0, and `X` looks at the mode as it was
//! before the first clause.

use crate::error::{Result, SnapshotError};

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;
const STICKY: u32 = 0o1000;

/// A change of mode, to be applied to many files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ModeChange {
    /// All bits are given.
    Absolute(u32),
    /// Clauses in order.
    Symbolic(Vec<Clause>),
}

/// One operator of a clause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clause {
    /// Bits of the named classes; `None` when no class was named, which is all of them.
    who: Option<u32>,
    operator: Operator,
    /// Permission bits, for all three classes at once.
    bits: u32,
    /// `X`: execute, if it is a directory or anyone may execute it already.
    conditional: bool,
    /// The bits of this class (shift 6, 3 or 0) are taken as well.
    copied_from: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Remove,
    Set,
}

impl ModeChange {
    /// Parses `text`.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let error = |reason| SnapshotError::BadMode { mode: text.to_owned(), reason };
        if text.starts_with(|first: char| first.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).map_err(|_| error("octal digits are 0 to 7"))?;
            return if mode <= 0o7777 {
                Ok(Self::Absolute(mode))
            } else {
                Err(error("the largest mode is 7777"))
            };
        }
        let mut clauses = Vec::new();
        for clause in text.split(',') {
            parse_clause(clause, &mut clauses).map_err(error)?;
        }
        Ok(Self::Symbolic(clauses))
    }

    /// Returns what becomes of `mode` (12 bits).
    pub(crate) fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Absolute(mode) => *mode,
            Self::Symbolic(clauses) => {
                let executable = is_directory || mode & 0o111 != 0;
                clauses.iter().fold(mode, |now, clause| clause.apply(now, executable))
            }
        }
    }
}

impl Clause {
    fn apply(&self, mode: u32, executable: bool) -> u32 {
        let who = self.who.unwrap_or(0o777 | SET_UID | SET_GID | STICKY);
        let mut bits = self.bits;
        if self.conditional && executable {
            bits |= 0o111;
        }
        if let Some(shift) = self.copied_from {
            let class = (mode >> shift) & 0o7;
            bits |= class << 6 | class << 3 | class;
        }
        let bits = bits & who;
        match self.operator {
            Operator::Add => mode | bits,
            Operator::Remove => mode & !bits,
            // Copying a class leaves the set-id bits alone, and the sticky bit is touched only where it is named.
            Operator::Set => {
                let replaced = if self.copied_from.is_some() { who & 0o777 } else { who & !STICKY };
                (mode & !(replaced | self.bits & STICKY)) | bits
            }
        }
    }
}

/// `ugoa…` then one or more of `+-=` with its permissions.
fn parse_clause(text: &str, clauses: &mut Vec<Clause>) -> Result<(), &'static str> {
    let classes = text.len() - text.trim_start_matches(['u', 'g', 'o', 'a']).len();
    let mut who = None;
    for class in text[..classes].chars() {
        *who.get_or_insert(0) |= match class {
            'u' => SET_UID | 0o700,
            'g' => SET_GID | 0o070,
            'o' => 0o007,
            _ => SET_UID | SET_GID | 0o777,
        };
    }
    let only_others = who == Some(0o007);
    let mut chars = text[classes..].chars().peekable();
    if chars.peek().is_none() {
        return Err("a clause needs one of `+`, `-` and `=`");
    }
    while let Some(operator) = chars.next() {
        let operator = match operator {
            '+' => Operator::Add,
            '-' => Operator::Remove,
            '=' => Operator::Set,
            _ => {
                return Err(
                    "expected classes (`ugoa`), then `+`, `-` or `=`, then permissions (`rwxXst` or `ugo`)",
                );
            }
        };
        let mut clause = Clause { who, operator, bits: 0, conditional: false, copied_from: None };
        while let Some(permission) = chars.next_if(|next| !matches!(next, '+' | '-' | '=')) {
            match permission {
                'r' => clause.bits |= 0o444,
                'w' => clause.bits |= 0o222,
                'x' => clause.bits |= 0o111,
                'X' if operator == Operator::Remove => clause.bits |= 0o111,
                'X' => clause.conditional = true,
                's' if only_others => {}
                's' => clause.bits |= SET_UID | SET_GID,
                't' if only_others => {}
                't' => {
                    clause.bits |= STICKY;
                    clause.who = clause.who.map(|who| who | STICKY);
                }
                'u' | 'g' | 'o' if clause.copied_from.is_some() => {
                    return Err("only one class can be copied");
                }
                'u' => clause.copied_from = Some(6),
                'g' => clause.copied_from = Some(3),
                'o' => clause.copied_from = Some(0),
                _ => {
                    return Err(
                        "permissions are `r`, `w`, `x`, `X`, `s`, `t`, or a class to copy (`u`, `g`, `o`)",
                    );
                }
            }
        }
        clauses.push(clause);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(text: &str, mode: u32) -> u32 {
        ModeChange::parse(text).unwrap().apply(mode, false)
    }

    #[test]
    fn known_answers() {
        // What GNU chmod with umask 0 makes of them.
        for (text, before, after) in [
            ("755", 0o600, 0o755),
            ("4711", 0o600, 0o4711),
            ("u+x", 0o644, 0o744),
            ("go-w", 0o666, 0o644),
            ("u+x,go-w", 0o666, 0o744),
            ("=rw,+X", 0o600, 0o666),
            ("=rw,+X", 0o700, 0o777),
            ("a+X", 0o644, 0o644),
            ("a+X", 0o744, 0o755),
            ("a-X", 0o755, 0o644),
            ("go=", 0o777, 0o700),
            ("u=rwx,go=u-w", 0o000, 0o755),
            ("go=u-w", 0o700, 0o755),
            ("g=u", 0o640, 0o660),
            ("u+s", 0o755, 0o4755),
            ("g+s", 0o755, 0o2755),
            ("+t", 0o777, 0o1777),
            ("o+s", 0o755, 0o755),
            ("u=rw", 0o4755, 0o655),
            ("go=u-w", 0o2700, 0o2755),
            ("=r", 0o1777, 0o1444),
            ("u+r-x", 0o300, 0o600),
        ] {
            assert_eq!(change(text, before), after, "{text} {before:o}");
        }
        assert_eq!(ModeChange::parse("+X").unwrap().apply(0o600, true), 0o711);
    }

    #[test]
    fn refuses_nonsense() {
        for text in ["", "u", "rwx", "u+q", "99", "77777", "u+x,", "+ug"] {
            assert!(matches!(ModeChange::parse(text), Err(SnapshotError::BadMode { .. })), "{text}");
        }
    }
}
