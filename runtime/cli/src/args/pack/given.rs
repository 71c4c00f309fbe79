//! Values of options of `rb pack` that have a form of their own: labels, bindings.

use std::path::PathBuf;
use std::str::FromStr;

use rb_dockerfile::csv_fields;

/// Labels, as one `-l` takes them: `NAME=VALUE,NAME=VALUE`. A field of quotes may hold commas. Source: pflag's StringToString, which reads
/// one pair as it stands, and more than one as a line of CSV.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackLabels(pub(crate) Vec<(String, String)>);

impl FromStr for PackLabels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fields = match text.matches('=').count() {
            0 => return Err("write NAME=VALUE".to_owned()),
            1 => vec![text.trim_matches('"').to_owned()],
            _ => csv_fields(text)?,
        };
        let pair = |field: String| match field.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => Err(format!("`{field}` is to be NAME=VALUE")),
        };
        Ok(Self(fields.into_iter().map(pair).collect::<Result<_, _>>()?))
    }
}

/// A binding, as `--binding` takes it: `NAME=DIR`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PackBinding {
    /// What it is called: the name of its folder.
    pub(crate) name: String,
    /// Where its files lie.
    pub(crate) folder: PathBuf,
}

/// The longest name of a binding.
const NAME_BYTES: usize = 253;

impl FromStr for PackBinding {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, folder) = text.split_once('=').ok_or("write NAME=DIR")?;
        let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
        if name.is_empty() || name.len() > NAME_BYTES || !name.bytes().all(is_plain) || name.starts_with('.')
        {
            return Err(format!(
                "`{name}` is no name of a binding: small letters, digits, `-` and `.` make one"
            ));
        }
        if folder.is_empty() {
            return Err("write NAME=DIR".to_owned());
        }
        Ok(Self { name: name.to_owned(), folder: folder.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_read_as_pflag_reads_them() {
        let read = |text: &str| text.parse::<PackLabels>().map(|labels| labels.0);
        let of = |pairs: &[(&str, &str)]| {
            Ok(pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
        };
        for (text, pairs) in [
            ("a=b", &[("a", "b")][..]),
            ("a=b,c", &[("a", "b,c")]),
            ("a=", &[("a", "")]),
            ("a=b,c=d", &[("a", "b"), ("c", "d")]),
            ("a=b=c,d=e", &[("a", "b=c"), ("d", "e")]),
            (r#""a=b,c",d=e"#, &[("a", "b,c"), ("d", "e")]),
            (r#"d=e,"a=say ""x"", you""#, &[("d", "e"), ("a", "say \"x\", you")]),
            (r#""a=b""#, &[("a", "b")]),
        ] {
            assert_eq!(read(text), of(pairs), "{text}");
        }
        for text in ["", "a", "=b", "a=b,c=d,e", r#""a=b,c=d"#, r#""a=b"c,d=e"#, r#"a="b,c=d""#] {
            read(text).expect_err(text);
        }
    }

    #[test]
    fn bindings_have_names_of_folders() {
        let read = |text: &str| text.parse::<PackBinding>();
        assert_eq!(read("db-1=./x=y"), Ok(PackBinding { name: "db-1".to_owned(), folder: "./x=y".into() }));
        for text in ["db", "=x", "db=", "../x=y", "..=y", "A=y", "a/b=c"] {
            read(text).expect_err(text);
        }
    }
}
