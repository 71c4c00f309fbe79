//! What flags change of an image after its Dockerfile: layers, variables, labels.

use rb_dockerfile::PlannedImage;
use rb_llb::{CopyAction, NodeMeta, State};
use rb_oci::ImageConfig;

use super::order::Changes;

/// Returns filesystem and config as they are exported.
pub(super) fn changed(image: PlannedImage, changes: &Changes) -> (State, ImageConfig) {
    let PlannedImage { state, mut config, .. } = image;
    let Changes { squash, unset_env, unset_labels } = changes;
    config.config.env.retain(|entry| {
        let name = entry.split('=').next().unwrap_or_default();
        !unset_env.iter().any(|unset| unset == name)
    });
    config.config.labels.retain(|key, _| !unset_labels.contains(key));
    if !squash || state.is_scratch() {
        return (state, config);
    }
    let all = CopyAction {
        src: "/".to_owned(),
        dest: "/".to_owned(),
        dir_copy_contents: true,
        create_dest_path: true,
        ..CopyAction::default()
    };
    // What layers the base had is no longer so.
    config.rootfs = Default::default();
    config.history.clear();
    (State::scratch().copy(&state, all, NodeMeta::named("squash")), config)
}
