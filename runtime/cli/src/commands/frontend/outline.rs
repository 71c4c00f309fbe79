//! `docker buildx build --call=outline`: what a target may be given, and what it asks for.
//!
//! In: its summary, its needs, and arguments that the client gives. Out: members and tables as BuildKit's own frontend has them.
//! Source: BuildKit's `frontend/subrequests/outline`.

use std::collections::BTreeMap;

use rb_buildfile::{TargetNeeds, TargetSummary};
use serde_json::{Map, Value, json};

use super::requests::table;

/// A target as its users see it.
pub(super) struct Outline {
    name: String,
    doc: Option<String>,
    args: Vec<Argument>,
    needs: TargetNeeds,
}

struct Argument {
    name: String,
    value: String,
    doc: Option<String>,
}

impl Outline {
    /// Puts it together; what the client gives an argument stands for its default.
    pub(super) fn new(target: &TargetSummary, needs: TargetNeeds, given: &BTreeMap<String, String>) -> Self {
        let args = target.args.iter().map(|arg| {
            let value = given.get(&arg.name).cloned().or_else(|| arg.default.clone()).unwrap_or_default();
            let doc = match (&arg.doc, arg.required) {
                (Some(doc), true) => Some(format!("{doc} (required)")),
                (None, true) => Some("(required)".to_owned()),
                (doc, false) => doc.clone(),
            };
            // Its value is nobody's to see.
            let value = if rb_llb::is_secret(&arg.name) { String::new() } else { value };
            Argument { name: arg.name.clone(), value, doc }
        });
        Self { name: target.name.clone(), doc: target.doc.clone(), args: args.collect(), needs }
    }

    /// For programs.
    pub(super) fn json(&self, source: Option<String>) -> String {
        let mut told = Map::from_iter([("name".to_owned(), json!(self.name))]);
        let mut tell = |key: &str, value: Value| {
            let is_empty = value.as_array().is_some_and(Vec::is_empty) || value.is_null();
            if !is_empty {
                told.insert(key.to_owned(), value);
            }
        };
        tell("description", json!(self.doc));
        let args = self.args.iter().map(|arg| {
            let mut each = Map::from_iter([("name".to_owned(), json!(arg.name))]);
            each.extend(arg.doc.iter().map(|doc| ("description".to_owned(), json!(doc))));
            if !arg.value.is_empty() {
                each.insert("value".to_owned(), json!(arg.value));
            }
            Value::Object(each)
        });
        tell("args", args.collect());
        for (key, ids) in [("secrets", &self.needs.secrets), ("ssh", &self.needs.agents)] {
            let ids = ids.iter().map(|(id, is_required)| match is_required {
                true => json!({ "name": id, "required": true }),
                false => json!({ "name": id }),
            });
            tell(key, ids.collect());
        }
        tell("cache", self.needs.caches.iter().map(|id| json!({ "ID": id })).collect());
        tell("sources", source.into_iter().collect());
        format!("{:#}", Value::Object(told))
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("TARGET: {}\n", self.name);
        if let Some(line) = self.doc.as_deref().and_then(|doc| doc.lines().next()) {
            text.push_str(&format!("DESCRIPTION: {line}\n"));
        }
        text.push('\n');
        let mut tell = |head: &[&str], rows: Vec<Vec<String>>| {
            if !rows.is_empty() {
                let head = head.iter().map(|word| format!("{word}  ")).collect();
                let spaced =
                    rows.into_iter().map(|row| row.into_iter().map(|cell| format!("{cell}  ")).collect());
                let lines = table([head].into_iter().chain(spaced).collect());
                lines.lines().for_each(|line| text.push_str(&format!("{}\n", line.trim_end())));
                text.push('\n');
            }
        };
        let line = |doc: &Option<String>| {
            doc.as_deref().and_then(|doc| doc.lines().next()).unwrap_or_default().to_owned()
        };
        let args = self.args.iter().map(|arg| vec![arg.name.clone(), arg.value.clone(), line(&arg.doc)]);
        tell(&["BUILD ARG", "VALUE", "DESCRIPTION"], args.collect());
        let ids = |ids: &BTreeMap<String, bool>| {
            let row = |(id, required): (&String, &bool)| {
                vec![id.clone(), if *required { "true" } else { "" }.to_owned()]
            };
            ids.iter().map(row).collect::<Vec<_>>()
        };
        tell(&["SECRET", "REQUIRED"], ids(&self.needs.secrets));
        tell(&["SSH", "REQUIRED"], ids(&self.needs.agents));
        text
    }
}

#[cfg(test)]
mod tests {
    use rb_buildfile::ArgSummary;

    use super::*;

    #[test]
    fn it_is_told_as_buildkits_own_frontend_tells_it() {
        let arg = |name: &str, default: Option<&str>, required: bool| ArgSummary {
            name: name.to_owned(),
            kind: None,
            doc: default.map(|_| "Says it.\nMore.".to_owned()),
            default: default.map(str::to_owned),
            required,
            global: false,
        };
        let target = TargetSummary {
            name: "app".to_owned(),
            doc: Some("app runs.".to_owned()),
            args: vec![
                arg("word", Some("one"), false),
                arg("must", None, true),
                arg("TOKEN", Some("x"), false),
            ],
            saves_images: Vec::new(),
            saves_artifacts: Vec::new(),
            is_function: false,
        };
        let needs = TargetNeeds {
            secrets: [("key".to_owned(), true), ("soft".to_owned(), false)].into(),
            agents: [("default".to_owned(), true)].into(),
            caches: ["go".to_owned()].into(),
        };
        let outline = Outline::new(&target, needs, &[("must".to_owned(), "given".to_owned())].into());
        let json: Value = serde_json::from_str(&outline.json(Some("eA==".to_owned()))).expect("JSON");
        let args = json!([
            { "name": "word", "description": "Says it.\nMore.", "value": "one" },
            { "name": "must", "description": "(required)", "value": "given" },
            { "name": "TOKEN", "description": "Says it.\nMore." },
        ]);
        assert_eq!(json["args"], args);
        assert_eq!(json["secrets"], json!([{ "name": "key", "required": true }, { "name": "soft" }]));
        assert_eq!((&json["ssh"][0]["name"], &json["cache"][0]["ID"]), (&json!("default"), &json!("go")));
        assert_eq!((&json["name"], &json["sources"]), (&json!("app"), &json!(["eA=="])));
        assert_eq!(
            outline.text(),
            "TARGET: app\nDESCRIPTION: app runs.\n\n\
             BUILD ARG   VALUE   DESCRIPTION\nword        one     Says it.\nmust        given   (required)\n\
             TOKEN               Says it.\n\n\
             SECRET   REQUIRED\nkey      true\nsoft\n\nSSH       REQUIRED\ndefault   true\n\n"
        );
    }
}
