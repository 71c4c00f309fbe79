//! Keys of project descriptors: which of them a schema has.
//!
//! In: the file as a table. Out: the keys in the tables that are ours which its schema does not have, each with its path, `build.env.x`; of
//! lists all entries count as one. What else stands in a file is the user's. Source: pack's project package, of the three schemas.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::Schema;

/// What a key may hold.
enum Shape {
    /// What is read as a whole, or not at all.
    All,
    /// A table, or a list of tables, of these keys.
    Of(&'static [(&'static str, Self)]),
}

use Shape::{All, Of};

const PROJECT: [(&str, Shape); 7] = [
    ("id", All),
    ("name", All),
    ("version", All),
    ("authors", All),
    ("documentation-url", All),
    ("source-url", All),
    ("licenses", Of(&[("type", All), ("uri", All)])),
];
const SCRIPT: Shape = Of(&[("api", All), ("inline", All), ("shell", All)]);
const BUILDPACK: Shape = Of(&[("id", All), ("version", All), ("uri", All), ("script", SCRIPT)]);
const ADDITION: Shape = Of(&[("group", BUILDPACK)]);
const VARIABLE: Shape = Of(&[("name", All), ("value", All)]);
const BUILDPACK_V03: Shape =
    Of(&[("id", All), ("version", All), ("uri", All), ("script", SCRIPT), ("exec-env", All)]);
const ADDITION_V03: Shape = Of(&[("group", BUILDPACK_V03)]);
const VARIABLE_V03: Shape = Of(&[("name", All), ("value", All), ("exec-env", All)]);

const V01: [(&str, Shape); 7] = [
    ("builder", All),
    ("include", All),
    ("exclude", All),
    ("buildpacks", BUILDPACK),
    ("env", VARIABLE),
    ("pre", ADDITION),
    ("post", ADDITION),
];
const V02: [(&str, Shape); 8] = [
    ("builder", All),
    ("include", All),
    ("exclude", All),
    ("group", BUILDPACK),
    ("env", Of(&[("build", VARIABLE)])),
    ("build", Of(&[("env", VARIABLE)])),
    ("pre", ADDITION),
    ("post", ADDITION),
];
const V03: [(&str, Shape); 7] = [
    ("builder", All),
    ("include", All),
    ("exclude", All),
    ("group", BUILDPACK_V03),
    ("build", Of(&[("env", VARIABLE_V03)])),
    ("pre", ADDITION_V03),
    ("post", ADDITION_V03),
];
const OWN: [(&str, Shape); 2] = [("schema-version", All), ("metadata", All)];

/// Names the keys of ours that a schema does not have, in the order of their names.
pub(super) fn unknown(file: &Table, schema: Schema) -> Vec<String> {
    let mut found = BTreeSet::new();
    let table = |name: &str| file.get(name).and_then(Value::as_table);
    let newer = table("io").and_then(|io| io.get("buildpacks")).and_then(Value::as_table);
    let mut look = |path: &str, table: Option<&Table>, shapes: &[&[(&str, Shape)]]| {
        table.into_iter().for_each(|table| walk(path, table, shapes, &mut found));
    };
    match schema {
        Schema::V01 => {
            look("project", table("project"), &[&PROJECT]);
            look("build", table("build"), &[&V01]);
            // Who means a newer schema has to say so.
            look("io.buildpacks", newer, &[]);
        }
        Schema::V02 | Schema::V03 => {
            look("_", table("_"), &[&PROJECT, &OWN]);
            look("io.buildpacks", newer, &[if schema == Schema::V02 { &V02[..] } else { &V03[..] }]);
        }
    }
    found.into_iter().collect()
}

fn walk(path: &str, table: &Table, shapes: &[&[(&str, Shape)]], found: &mut BTreeSet<String>) {
    for (key, value) in table {
        let place = format!("{path}.{key}");
        let shape = shapes.iter().copied().flatten().find(|(name, _)| name == key);
        match (shape, value) {
            (None, _) => drop(found.insert(place)),
            (Some((_, Of(inner))), Value::Table(table)) => walk(&place, table, &[inner], found),
            (Some((_, Of(inner))), Value::Array(all)) => {
                all.iter().filter_map(Value::as_table).for_each(|table| walk(&place, table, &[inner], found));
            }
            // A value of another kind is told as it is read.
            (Some(_), _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_looked_at_however_deep_they_lie() {
        let of = |text: &str, schema: Schema| unknown(&text.parse().expect("TOML"), schema).join(" ");
        let text = "[_]\nschema-version='x'\nmetadata={a=1}\nlicenses=[{type='a',b=1}]\n[io.buildpacks]\nx=1\n\
                    [[io.buildpacks.group]]\nid='a'\nexec-env=['a']\nscript={api='1',y=1}\n\
                    [[io.buildpacks.group]]\nid='b'\nexec-env=['a']\n\
                    [[io.buildpacks.build.env]]\nname='A'\nz=1\n[io.buildpacks.pre]\ngroups=[]\n[mine]\nw=1\n";
        let both = "_.licenses.b io.buildpacks.build.env.z io.buildpacks.group.";
        assert_eq!(
            of(text, Schema::V02),
            format!("{both}exec-env io.buildpacks.group.script.y io.buildpacks.pre.groups io.buildpacks.x")
        );
        assert_eq!(of(text, Schema::V03), format!("{both}script.y io.buildpacks.pre.groups io.buildpacks.x"));
        assert_eq!(
            of(text, Schema::V01),
            "io.buildpacks.build io.buildpacks.group io.buildpacks.pre io.buildpacks.x"
        );
        assert_eq!(of("[[build.buildpacks]]\nid='a'\nuri2='b'\n", Schema::V01), "build.buildpacks.uri2");
    }
}
