//! Where the parts of a word end, and the words of a text.
//!
//! In: a text. Out: words, or the end of a `$(…)`. Both look at the same things: quotes, escapes, `$(…)`, `${…}`, and
//! the comments of a command that runs over several lines.
//! **Invariant:** one pass without recursion, so neither depth nor length costs more than it should.

/// Divides a text at spaces that are not quoted, not escaped and not inside `$(…)` or `${…}`; each word comes with
/// where it starts.
pub(crate) fn split(text: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut start, mut at) = (None, 0);
    while let Some(next) = text[at..].chars().next() {
        if next.is_whitespace() {
            words.extend(start.take().map(|start| (start, &text[start..at])));
            at += next.len_utf8();
        } else {
            start.get_or_insert(at);
            at = part_end(text, at).unwrap_or(text.len());
        }
    }
    words.extend(start.map(|start| (start, &text[start..])));
    words
}

/// Returns the end of the character, escape, quote, `$(…)` or `${…}` that starts at `start`, or `None` if it is open.
pub(super) fn part_end(text: &str, start: usize) -> Option<usize> {
    // What closes what is open, innermost last.
    let mut closers: Vec<char> = Vec::new();
    let mut at = start;
    loop {
        let next = text[at..].chars().next()?;
        let here = at;
        at += next.len_utf8();
        let closer = closers.last().copied();
        let follower = text[at..].chars().next();
        match (closer, next) {
            (Some(closer), next) if closer == next => _ = closers.pop(),
            (Some('\''), _) => {}
            (_, '\\') => at += follower.map_or(0, char::len_utf8),
            (_, '$') if matches!(follower, Some('(' | '{')) => {
                closers.push(if follower == Some('(') { ')' } else { '}' });
                at += 1;
            }
            (_, '"') => closers.push('"'),
            (Some(')' | '}') | None, '\'') => closers.push('\''),
            (Some(')'), '(') => closers.push(')'),
            (Some(')'), '#') if text[..here].trim_end_matches([' ', '\t']).ends_with('\n') => {
                at = text[at..].find('\n').map_or(text.len(), |length| at + length);
            }
            _ => {}
        }
        if closers.is_empty() {
            return Some(at);
        }
    }
}
