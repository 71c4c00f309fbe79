//! Whether the binary has a launcher for images with it: `RB_LAUNCHER` names the file, packed by gzip (`.ci/static` makes it).

fn main() {
    println!("cargo::rerun-if-env-changed=RB_LAUNCHER");
    println!("cargo::rustc-check-cfg=cfg(rb_launcher)");
    let set = std::env::vars_os().find(|(name, value)| name == "RB_LAUNCHER" && !value.is_empty());
    if let Some((_, file)) = set {
        println!("cargo::rerun-if-changed={}", file.display());
        println!("cargo::rustc-cfg=rb_launcher");
    }
}
