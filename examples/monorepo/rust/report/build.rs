//! Links the C library `text`, which lies where the tree of the repository has it.

fn main() {
    println!("cargo:rustc-link-search=native=../../c/text");
    println!("cargo:rustc-link-lib=static=text");
    println!("cargo:rerun-if-changed=../../c/text/libtext.a");
}
