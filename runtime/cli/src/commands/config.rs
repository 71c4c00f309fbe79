//! `rb config`: what is in force, and who says so.
//!
//! stdout is a `config.toml` with a remark behind each line; [`in_force`] finds it out.

use std::fmt::Write as _;

use rb_diag::nearest;
use serde_json::{Value as Json, json};

use crate::args::{BuildOptions, ConfigArgs};
use crate::environment::Environment;
use crate::report::{self, Failure};
use crate::settings::in_force::{self, InForce, Setting, Value};
use crate::settings::keys;

/// Prints all, or one value.
pub(super) fn execute(
    environment: &Environment,
    typed: &BuildOptions,
    config: &ConfigArgs,
) -> Result<u8, Failure> {
    let key =
        config.key.as_deref().map(|text| in_force::key(text).ok_or_else(|| unknown(text))).transpose()?;
    let found = in_force::find(typed, environment)?;
    let text = match (&key, config.json) {
        (None, false) => as_toml(&found),
        (None, true) => format!("{:#}\n", as_json(&found)),
        (Some(key), json) => match found.settings.iter().find(|setting| setting.key == *key) {
            Some(setting) if json => format!("{:#}\n", setting_json(setting)),
            Some(setting) => alone(&setting.value),
            None if json => "null\n".to_owned(),
            None => String::new(),
        },
    };
    report::print(text.as_bytes()).map(|()| 0)
}

fn unknown(text: &str) -> Failure {
    let paths: Vec<String> = keys::KEYS.iter().map(keys::Key::path).collect();
    let help = match nearest(text, paths.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None => {
            "`rb help config` lists them; those of a registry are written `registry.HOST.mirrors`".to_owned()
        }
    };
    Failure::input(format!("there is no key `{text}`"), Some(help))
}

fn as_toml(found: &InForce) -> String {
    let mut out = String::new();
    for (file, there) in &found.files {
        let _infallible = writeln!(out, "# {}{}", file.display(), if *there { "" } else { " (not there)" });
    }
    out.push('\n');
    let lines: Vec<_> = found
        .settings
        .iter()
        .map(|setting| (format!("{} = {}", setting.key, written(&setting.value)), &setting.from))
        .collect();
    let width = lines
        .iter()
        .map(|(line, _)| line.chars().count())
        .filter(|width| *width <= 60)
        .max()
        .unwrap_or_default();
    for (line, from) in lines {
        let _infallible = writeln!(out, "{line:width$}  # {from}");
    }
    if !found.variables.is_empty() {
        out.push_str("\n# set in the environment:\n");
        for (name, value, in_file) in &found.variables {
            let _infallible = writeln!(out, "# {name}={value}{}", if *in_file { "  (.env)" } else { "" });
        }
    }
    out
}

/// Returns a value as TOML has it; its texts are written as in JSON.
fn written(value: &Value) -> String {
    match value {
        Value::Text(text) => json!(text).to_string(),
        Value::Bare(text) => text.clone(),
        Value::List(texts) => {
            let texts: Vec<String> = texts.iter().map(|text| json!(text).to_string()).collect();
            format!("[{}]", texts.join(", "))
        }
    }
}

fn alone(value: &Value) -> String {
    match value {
        Value::Text(text) | Value::Bare(text) => format!("{text}\n"),
        Value::List(texts) => texts.iter().map(|text| format!("{text}\n")).collect(),
    }
}

fn as_json(found: &InForce) -> Json {
    let files = found.files.iter().map(|(file, there)| json!({ "path": file, "there": there }));
    let variables = found.variables.iter().map(|(name, value, in_file)| {
        json!({ "name": name, "value": value, "from": if *in_file { ".env" } else { "environment" } })
    });
    json!({
        "files": files.collect::<Vec<_>>(),
        "settings": found.settings.iter().map(setting_json).collect::<Vec<_>>(),
        "variables": variables.collect::<Vec<_>>(),
    })
}

fn setting_json(setting: &Setting) -> Json {
    let value = match &setting.value {
        Value::Text(text) => json!(text),
        Value::Bare(text) => serde_json::from_str(text).unwrap_or_else(|_| json!(text)),
        Value::List(texts) => json!(texts),
    };
    json!({ "key": setting.key, "value": value, "from": setting.from })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_a_config_file() {
        let setting = |key: &str, value: Value, from: &str| Setting {
            key: key.to_owned(),
            value,
            from: from.to_owned(),
        };
        let found = InForce {
            files: vec![("/h/config.toml".into(), true), ("/etc/rb/config.toml".into(), false)],
            settings: vec![
                setting("root", Value::Text("/data/\"rb\"".to_owned()), "RB_ROOT"),
                setting("jobs", Value::Bare("4".to_owned()), "/h/config.toml:1"),
                setting("network.ca", Value::List(vec!["/a".to_owned(), "/b".to_owned()]), "--ca"),
            ],
            variables: vec![("RB_STRICT", "true".to_owned(), true)],
        };
        insta::assert_snapshot!(as_toml(&found), @r#"
        # /h/config.toml
        # /etc/rb/config.toml (not there)

        root = "/data/\"rb\""      # RB_ROOT
        jobs = 4                   # /h/config.toml:1
        network.ca = ["/a", "/b"]  # --ca

        # set in the environment:
        # RB_STRICT=true  (.env)
        "#);
        assert_eq!(
            as_json(&found)["settings"][1],
            json!({ "key": "jobs", "value": 4, "from": "/h/config.toml:1" })
        );
        assert_eq!(alone(&found.settings[2].value), "/a\n/b\n");
    }
}
