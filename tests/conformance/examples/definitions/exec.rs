//! Cases of exec, as far as they are about trees: what a step leaves of its mounts.

use rb_llb::{ExecBuilder, ExecMeta, MountOptions, NetworkMode};

use super::{Cases, none, platform, run};

pub(super) fn add(cases: &mut Cases) {
    let (busybox, rich) = (cases.busybox(), cases.rich());
    cases.add("exec-write", &run(&busybox, "mkdir -p /new/a; echo x > /new/a/file; rm /bin/vi"));
    let meta = |script: &str| ExecMeta {
        args: ["/bin/sh", "-euc", script].map(ToOwned::to_owned).to_vec(),
        env: vec!["PATH=/bin".to_owned()],
        ..ExecMeta::default()
    };
    let selected = MountOptions { selector: "/d".to_owned(), readonly: true, ..MountOptions::default() };
    let step = ExecBuilder::new(&busybox, meta("cp -r /from /to")).network(NetworkMode::None);
    let step = step.mount("/from", &rich, selected).finish(Some(&platform()), none());
    cases.add("exec-selector", &step.root());
    let step = ExecBuilder::new(&busybox, meta("touch /mnt/deep/er/new")).network(NetworkMode::None);
    let step = step.mount("/mnt/deep/er", &rich, MountOptions::default()).finish(Some(&platform()), none());
    cases.add("exec-mount-stubs", &step.root());
    cases.add("exec-mount-output", &step.mount("/mnt/deep/er").expect("it is mounted to be written"));
}
