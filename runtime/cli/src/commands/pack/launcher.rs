//! `--launcher`: the program that starts an image's processes, where it is not to be the builder's.
//!
//! In: what was typed. Out: a program for the image's platform: that of a file, or [`crate::launcher`].

use rb_buildpacks::frontend::{GivenLauncher, LAUNCHER_BYTES};
use rb_oci::Platform;

use crate::args::{PackBuild, PackLauncher, PackLifecycle};
use crate::report::Failure;
use crate::settings::Settings;
use crate::world::read_regular;

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
        Failure::input(format!("--launcher={shown}: {why}"), Some(help.to_owned()))
    };
    let (shown, taken) = match &args.launcher {
        PackLauncher::Builder => return Ok(None),
        PackLauncher::Rb => {
            let program = crate::launcher::own().ok_or_else(|| {
                let help = "`.ci/static` builds one that has; or name a file: `--launcher=FILE`, which is what \
                            `cargo build -p rb-launcher --profile launcher --target ARCHITECTURE-unknown-linux-musl` makes";
                refused("rb", "this build of rb has no launcher with it".to_owned(), help)
            })?;
            ("rb".to_owned(), GivenLauncher::own(program, platform))
        }
        PackLauncher::File(file) => {
            let shown = file.display().to_string();
            let program = read_regular(&settings.cwd.join(file), LAUNCHER_BYTES).map_err(|error| {
                let help = "it is builder, rb, or the path of a program";
                refused(&shown, format!("it cannot be read: {}", rb_diag::chain(&error)), help)
            })?;
            (shown, GivenLauncher::of_file(program, platform))
        }
    };
    taken.map(Some).map_err(|fault| refused(&shown, fault.to_string(), fault.help()))
}
