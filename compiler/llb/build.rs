//! Compiles `proto/ops.proto` without protoc.

use std::io;

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=proto/ops.proto");
    let descriptors = protox::compile(["proto/ops.proto"], ["proto"]).map_err(io::Error::other)?;
    prost_build::Config::new().bytes(["."]).compile_fds(descriptors)
}
