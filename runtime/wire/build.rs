//! Makes Rust of the `.proto` files, without a compiler installed.

use std::io;

use tonic_build::manual;

fn main() -> io::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let files = [
        "control.proto",
        "gateway.proto",
        "files.proto",
        "auth.proto",
        "secrets.proto",
        "ssh.proto",
        "upload.proto",
        "health.proto",
        "content.proto",
    ];
    let descriptors = protox::compile(files, ["proto"]).map_err(io::Error::other)?;
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .include_file("all.rs")
        .compile_fds(descriptors)?;
    // What the daemon sends here are packets or plain bytes, by what it exports: messages are taken as they come.
    let send = manual::Method::builder()
        .name("diff_copy")
        .route_name("DiffCopy")
        .input_type("::bytes::Bytes")
        .output_type("::bytes::Bytes")
        .codec_path("crate::frame::FrameCodec")
        .client_streaming()
        .server_streaming()
        .build();
    let service =
        manual::Service::builder().name("FileSend").package("moby.filesync.v1").method(send).build();
    manual::Builder::new().build_transport(false).compile(&[service]);
    Ok(())
}
