//! `WORKDIR`: where what follows starts; the folder is made if there is none.

use rb_llb::{MkdirAction, NodeMeta};

use super::Work;
use super::transfer::owner;
use crate::checks::steps;
use crate::failure::Fallible;
use crate::image::Layer;
use crate::{Word, paths};

impl Work<'_> {
    pub(super) fn workdir(&mut self, path: &Word) -> Fallible<()> {
        let path = self.word(path)?;
        if !self.state.has_workdir && !path.starts_with('/') {
            self.check([steps::relative_workdir(self.at(), &path)]);
        }
        self.state.has_workdir = true;
        let before = self.state.image.config.working_dir.clone().unwrap_or_default();
        let folder = paths::absolute(if before.is_empty() { "/" } else { &before }, &path);
        self.state.image.config.working_dir = Some(folder.clone());
        self.state.files.folder.clone_from(&folder);
        let layer = if folder == "/" { Layer::None } else { Layer::Silent };
        if layer != Layer::None {
            self.make_folder(&folder);
        }
        self.record(format!("WORKDIR {folder}"), layer);
        Ok(())
    }

    fn make_folder(&mut self, folder: &str) {
        let name = self.shown_code(self.shared.lexer);
        let name = self.next_name(&name);
        let user = self.state.image.config.user.as_deref().filter(|user| !user.is_empty());
        let action = MkdirAction {
            path: rb_llb::absolute_path("/", folder, false),
            mode: 0o755,
            make_parents: true,
            owner: user.map(owner),
            timestamp: self.shared.epoch.map(|seconds| seconds.saturating_mul(1_000_000_000)),
        };
        let files = &mut self.state.files;
        files.tree = files.tree.mkdir(action, NodeMeta::named(name).at(self.command.at));
        files.platform = Some(self.state.platform.clone());
    }
}
