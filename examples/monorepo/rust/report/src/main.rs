//! Reads an article and reports how long it is. Its first line is its title.

use std::io::Read;

mod text;

fn report(article: &str) -> String {
    let title = article.lines().next().unwrap_or_default();
    let words = text::words(article);
    let verdict = match text::fits_title(title) {
        true => "fits",
        false => "too long",
    };
    let (short, minutes) = (units::short(words), words.div_ceil(200));
    format!("words: {short}, minutes to read: {minutes}, title: {verdict}")
}

fn main() -> std::io::Result<()> {
    let mut article = String::new();
    std::io::stdin().read_to_string(&mut article)?;
    println!("{}", report(&article));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::report;

    #[test]
    fn a_long_article_is_measured() {
        let article = format!("Title\n{}", "word ".repeat(1999));
        let expected = "words: 2.0k, minutes to read: 10, title: fits";
        assert_eq!(report(&article), expected);
    }

    #[test]
    fn a_title_has_a_limit() {
        let title = "long".repeat(16);
        assert!(report(&title).ends_with("title: too long"));
    }
}
