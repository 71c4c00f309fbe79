//! An error and its causes as one line.

use std::error::Error;

/// Returns an error's message with all its causes, `: ` between them; a cause that its effect repeats is told once.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text = format!("{text}: {more}");
        }
        cause = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Told {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn causes_follow_and_are_told_once() {
        let bottom = Told { text: "disk full", source: None };
        let middle = Told { text: "cannot write f: disk full", source: Some(Box::new(bottom)) };
        let top = Told { text: "export failed", source: Some(Box::new(middle)) };
        assert_eq!(chain(&top), "export failed: cannot write f: disk full");
    }
}
