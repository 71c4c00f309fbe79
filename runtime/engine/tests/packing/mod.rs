//! Layers of images are packed while later steps run, and come out as they would at the end.

use rb_api::{ExportResult, ImageFormat, ImageName, PlatformImage};
use rb_oci::{Compression, ImageConfig, Platform};

use super::*;

const SLOW: &str = "sleep 4; echo done > /slow";

fn image(compression: Compression) -> Export {
    Export::Image {
        images: vec![PlatformImage { root: 0, config: ImageConfig::scratch(&Platform::host()) }],
        names: vec![ImageName::Plain("app".to_owned())],
        format: ImageFormat { compression, ..ImageFormat::default() },
        push: None,
    }
}

fn blobs(bench: &Bench) -> usize {
    std::fs::read_dir(bench.dir.path().join("state/blobs/sha256")).map_or(0, Iterator::count)
}

/// Solves with an export; returns the image, and how many blobs there were when the slow step ended.
fn build(bench: &Bench, export: Export) -> (String, usize) {
    let first = copy(&context(&["a"]), "/a", &State::scratch(), "/a");
    let state = copy(&run(&host(), SLOW), "/slow", &first, "/slow");
    let request = SolveRequest { exports: vec![export], ..bench.request(&state) };
    let slow = Mutex::new(None);
    let counted = Arc::new(Mutex::new(0));
    let folder = bench.dir.path().join("state/blobs/sha256");
    let told = Arc::clone(&counted);
    let events: EventSink = Arc::new(move |event: Event| {
        let mut slow = slow.lock().expect("no panics");
        match event.kind {
            EventKind::Added { name, .. } if name == SLOW => *slow = Some(event.vertex),
            EventKind::Done { .. } if *slow == Some(event.vertex) => {
                *told.lock().expect("no panics") = std::fs::read_dir(&folder).map_or(0, Iterator::count);
            }
            _ => {}
        }
    });
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let engine = open(bench.dir.path());
    let solved = runtime.block_on(async { engine.job(bench.options(), events).solve(request).await });
    let digest = match &solved.expect("solves").exports[..] {
        [ExportResult::Image { digest, .. }] => digest.to_string(),
        other => panic!("{other:?}"),
    };
    let counted = *counted.lock().expect("no panics");
    (digest, counted)
}

#[test]
fn a_layer_is_there_before_the_last_step_ends() {
    if !is_root() {
        return;
    }
    for compression in [Compression::default(), Compression::Zstd { level: 3 }] {
        let ahead = Bench::new();
        ahead.write("a", "text\n");
        let (image_ahead, counted) = build(&ahead, image(compression));
        assert_eq!(counted, 1, "the layer of the first copy");
        assert_eq!(blobs(&ahead), 4, "two layers, config, manifest: nothing was packed twice");

        // Where all is cached the export packs by itself.
        let late = Bench::new();
        late.write("a", "text\n");
        let first = copy(&context(&["a"]), "/a", &State::scratch(), "/a");
        late.solve(&copy(&run(&host(), SLOW), "/slow", &first, "/slow"));
        assert_eq!(blobs(&late), 0, "no image is wanted");
        assert_eq!(build(&late, image(compression)).0, image_ahead);
    }
}
