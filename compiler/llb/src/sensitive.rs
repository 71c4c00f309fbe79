//! Arguments and variables whose names say that nobody is to see their values.
//!
//! One rule for all that is told and kept of builds: titles of steps, records, statements of provenance. In: names, and texts in
//! which a value may stand. Out: the same texts with [`STRUCK`] in its place, or with a few digits of its digest behind that, where
//! two values have to differ. **Invariant:** of a struck value nothing but digits of a digest is left.
//! What a build is made of is not touched: operations, and an image's config as its Dockerfile says.

use std::borrow::Cow;

use rb_oci::Digest;

/// What stands in the place of a value.
pub const STRUCK: &str = "***";

/// A shorter value is more likely a word that means something else; it is struck out only where its name stands beside it.
const SHORTEST_BYTES: usize = 6;

/// Tells whether a variable's name says that nobody is to see it.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    let anywhere = ["PASSWORD", "PASSWD", "SECRET", "TOKEN", "CREDENTIAL", "PRIVATE", "APIKEY"];
    anywhere.iter().any(|word| name.contains(word)) || name.ends_with("KEY") || name.ends_with("AUTH")
}

/// Returns what of a value may be kept, so that another one is seen to be another: so few digits of a digest that many values have
/// the same, and who tries values does not know which it is.
pub fn struck_digits(value: &str) -> String {
    Digest::of(format!("rb struck out\0{value}")).hex().chars().take(4).collect()
}

/// Values of such variables, to be struck out wherever they stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Struck(Vec<String>);

impl Struck {
    /// Takes the values of those variables whose names say so.
    pub fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let is_taken = |(name, value): &(&str, &str)| value.len() >= SHORTEST_BYTES && is_secret(name);
        let taken = variables.into_iter().filter(is_taken);
        let mut values: Vec<String> = taken.map(|(_, value)| value.to_owned()).collect();
        // The longest first: one may hold another.
        values.sort_by(|one, two| two.len().cmp(&one.len()).then_with(|| one.cmp(two)));
        values.dedup();
        Self(values)
    }

    /// Whether there is nothing to strike out.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether one of the values stands in a text.
    pub fn is_in(&self, text: &str) -> bool {
        self.0.iter().any(|value| text.contains(value.as_str()))
    }

    /// Returns a text for people.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.replaced(text, |_| STRUCK.to_owned())
    }

    /// Returns a text that is compared with others: the values still differ.
    pub fn compared<'t>(&self, text: &'t str) -> Cow<'t, str> {
        self.replaced(text, |value| format!("{STRUCK} ({})", struck_digits(value)))
    }

    fn replaced<'t>(&self, text: &'t str, by: impl Fn(&str) -> String) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for value in &self.0 {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), &by(value)));
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_nobody_is_to_see() {
        for name in ["NPM_TOKEN", "db_password", "AWS_SECRET_ACCESS_KEY", "API_KEY", "REGISTRY_AUTH"] {
            assert!(is_secret(name), "{name}");
        }
        for name in ["KEYBOARD", "AUTHOR", "VERSION"] {
            assert!(!is_secret(name), "{name}");
        }
    }

    #[test]
    fn values_are_struck_out_wherever_they_stand() {
        let struck = Struck::of([
            ("API_TOKEN", "s3cr3t"),
            ("DB_PASSWORD", "s3cr3t-too"),
            ("SIGN_KEY", "true"),
            ("V", "visible"),
        ]);
        assert_eq!(struck.text("curl h?t=s3cr3t true visible"), "curl h?t=*** true visible");
        assert_eq!(struck.text("s3cr3t-too"), "***");
        assert_ne!(struck.compared("s3cr3t"), struck.compared("s3cr3t-too"));
        assert!(struck.is_in("as3cr3tb") && !struck.is_in("true") && Struck::default().is_empty());
    }
}
