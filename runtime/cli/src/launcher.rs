//! The launcher of rb's own (`runtime/launcher`), which starts what buildpacks built.
//!
//! Out: the program, for the architecture that this binary is of. It is in binaries that `.ci/static` builds, packed by gzip.

/// What there is of it, packed.
#[cfg(rb_launcher)]
const OWN: Option<&[u8]> = Some(include_bytes!(env!("RB_LAUNCHER")));
#[cfg(not(rb_launcher))]
const OWN: Option<&[u8]> = None;

/// Returns it, if this binary has it.
pub(crate) fn own() -> Option<Vec<u8>> {
    let mut program = Vec::new();
    let mut unpacked = flate2::read::GzDecoder::new(OWN?);
    std::io::Read::read_to_end(&mut unpacked, &mut program).expect("`.ci/static` packed it by gzip");
    Some(program)
}
