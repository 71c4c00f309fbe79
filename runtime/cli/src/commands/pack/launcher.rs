//! `--launcher`: the program that starts an image's processes, where it is not to be the builder's.
//!
//! In: what was typed. Out: a program for the image's platform. The one of rb's own (`runtime/launcher`) is in binaries that
//! `.ci/static` builds, packed by gzip, for the architecture that they are of.

use std::io::Read as _;

use flate2::read::GzDecoder;
use rb_buildpacks::LauncherMetadata;
use rb_buildpacks::frontend::GivenLauncher;
use rb_oci::Platform;

use crate::args::{PackBuild, PackLauncher, PackLifecycle};
use crate::report::Failure;
use crate::settings::Settings;
use crate::world::read_regular;

/// The launcher of rb's own, packed.
#[cfg(rb_launcher)]
const OWN: Option<&[u8]> = Some(include_bytes!(env!("RB_LAUNCHER")));
#[cfg(not(rb_launcher))]
const OWN: Option<&[u8]> = None;

/// Largest launcher.
const MOST: u64 = 16 << 20;

/// Returns the launcher that is asked for, unless it is the builder's.
pub(super) fn given(
    settings: &Settings,
    args: &PackBuild,
    platform: &Platform,
) -> Result<Option<GivenLauncher>, Failure> {
    if args.launcher != PackLauncher::Builder && args.lifecycle == PackLifecycle::Builder {
        let help = Some("leave `--lifecycle=builder` out".to_owned());
        return Err(Failure::input("--lifecycle=builder takes the builder's launcher", help));
    }
    let refused = |shown: &str, why: String, help: &str| {
        Err(Failure::input(format!("--launcher={shown}: {why}"), Some(help.to_owned())))
    };
    let (program, metadata, shown): (Vec<u8>, _, _) = match &args.launcher {
        PackLauncher::Builder => return Ok(None),
        PackLauncher::Rb => {
            let Some(packed) = OWN else {
                let help = "`.ci/static` builds one that has; or name a file: `--launcher=FILE`, which is what \
                            `cargo build -p rb-launcher --profile launcher --target ARCHITECTURE-unknown-linux-musl` makes";
                return refused("rb", "this build of rb has no launcher with it".to_owned(), help);
            };
            let mut program = Vec::new();
            GzDecoder::new(packed)
                .take(MOST)
                .read_to_end(&mut program)
                .map_err(|error| Failure::environment("the launcher of this build of rb", &error))?;
            let version = env!("CARGO_PKG_VERSION").to_owned();
            (program, LauncherMetadata { version, ..LauncherMetadata::default() }, "rb".to_owned())
        }
        PackLauncher::File(file) => {
            let shown = file.display().to_string();
            match read_regular(&settings.cwd.join(file), MOST) {
                Ok(program) => (program, LauncherMetadata::default(), shown),
                Err(error) => {
                    let help = "it is builder, rb, or the path of a program";
                    return refused(&shown, format!("it cannot be read: {}", rb_diag::chain(&error)), help);
                }
            }
        }
    };
    // A script says nothing of where it runs.
    match architecture(&program) {
        Some(is) if is != platform.architecture => {
            let why = format!("it is for {is}, and the image for {}", platform.architecture);
            refused(&shown, why, "name one for that: `--launcher=FILE`; or take the builder's")
        }
        None if !program.starts_with(b"#!") => refused(
            &shown,
            "it is no program of Linux".to_owned(),
            "it is builder, rb, or the path of a program",
        ),
        _ => Ok(Some(GivenLauncher { program, metadata })),
    }
}

/// Returns the architecture that a program is for, by the names that images have; the number where there is none.
fn architecture(program: &[u8]) -> Option<String> {
    if program.len() < 20 || !program.starts_with(b"\x7fELF") {
        return None;
    }
    let (little, number) = (program[5] == 1, [program[18], program[19]]);
    let number = if little { u16::from_le_bytes(number) } else { u16::from_be_bytes(number) };
    let name = match (number, little, program[4]) {
        (3, ..) => "386",
        (20 | 21, true, 2) => "ppc64le",
        (22, ..) => "s390x",
        (40, ..) => "arm",
        (62, ..) => "amd64",
        (183, ..) => "arm64",
        (243, _, 2) => "riscv64",
        (258, ..) => "loong64",
        _ => return Some(format!("machine {number}")),
    };
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_is_for() {
        let program = |class: u8, order: u8, machine: [u8; 2]| {
            let mut bytes = b"\x7fELF".to_vec();
            bytes.extend([class, order]);
            bytes.resize(18, 0);
            bytes.extend(machine);
            architecture(&bytes)
        };
        assert_eq!(program(2, 1, [62, 0]).as_deref(), Some("amd64"));
        assert_eq!(program(2, 1, [183, 0]).as_deref(), Some("arm64"));
        assert_eq!(program(2, 2, [0, 22]).as_deref(), Some("s390x"));
        assert_eq!(program(1, 1, [9, 1]).as_deref(), Some("machine 265"));
        assert!(architecture(b"#!/bin/sh").is_none() && architecture(b"\x7fELF").is_none());
    }
}
