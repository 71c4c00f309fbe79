//! What each name of an image stands for.
//!
//! In: images with their names, as they are saved. Out: groups of names that stand for the same: an image, or the images of
//! several platforms, of which the engine makes an index. Each name is in one group. Of two images for one platform
//! a name stands for the later one.

use std::collections::BTreeMap;

use rb_api::{PlatformImage, Push};
use rb_oci::index::config_platform;
use rb_oci::{Platform, Reference};

/// Names and images.
#[derive(Debug, Default)]
pub(super) struct Names {
    images: Vec<PlatformImage>,
    names: Vec<Name>,
}

#[derive(Debug)]
struct Name {
    name: String,
    /// By platform, places among the images.
    images: BTreeMap<Option<Platform>, usize>,
    push: Option<Push>,
    /// Where it was saved last; nowhere for what was saved earlier.
    place: Option<usize>,
}

/// Names that stand for the same.
#[derive(Debug, PartialEq)]
pub(super) struct Group {
    /// One, or those of several platforms.
    pub(super) images: Vec<PlatformImage>,
    pub(super) names: Vec<String>,
    /// One of the images is to be pushed under these names.
    pub(super) push: Option<Push>,
}

impl Names {
    /// Adds an image with names, saved at a place; without one it was saved earlier, and takes part in what its names become.
    pub(super) fn add(
        &mut self,
        image: PlatformImage,
        names: &[String],
        push: Option<Push>,
        place: Option<usize>,
    ) {
        let platform = config_platform(&image.config);
        let index = self.images.iter().position(|known| *known == image).unwrap_or_else(|| {
            self.images.push(image);
            self.images.len() - 1
        });
        for name in names {
            let at = self.position(name).unwrap_or_else(|| {
                let name = name.clone();
                self.names.push(Name { name, images: BTreeMap::new(), push: None, place: None });
                self.names.len() - 1
            });
            let known = &mut self.names[at];
            known.images.insert(platform.clone(), index);
            known.push = known.push.or(push);
            known.place = place.or(known.place);
        }
    }

    /// Says whether a name is known.
    pub(super) fn has(&self, name: &str) -> bool {
        self.position(name).is_some()
    }

    fn position(&self, name: &str) -> Option<usize> {
        self.names.iter().position(|known| known.name == name || familiar(&known.name) == familiar(name))
    }

    /// Says whether a name stands for images of several platforms.
    pub(super) fn has_index(&self) -> bool {
        self.names.iter().any(|name| name.images.len() > 1)
    }

    /// Returns the groups of the names that were last saved at a place.
    pub(super) fn groups(&self, place: usize) -> Vec<Group> {
        let mut groups: Vec<Group> = Vec::new();
        for name in self.names.iter().filter(|name| name.place == Some(place)) {
            let images: Vec<PlatformImage> =
                name.images.values().filter_map(|index| self.images.get(*index).cloned()).collect();
            match groups.iter_mut().find(|group| group.push == name.push && group.images == images) {
                Some(group) => group.names.push(name.name.clone()),
                None => groups.push(Group { images, names: vec![name.name.clone()], push: name.push }),
            }
        }
        groups
    }
}

/// Returns a name with what is filled in where it says nothing.
fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

#[cfg(test)]
mod tests {
    use rb_oci::ImageConfig;

    use super::*;

    fn image(root: usize, platform: &str) -> PlatformImage {
        PlatformImage { root, config: ImageConfig::scratch(&platform.parse().expect("a platform")) }
    }

    fn texts(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn names_of_the_same_images_go_together() {
        let (amd, arm) = (image(0, "linux/amd64"), image(1, "linux/arm64"));
        let mut names = Names::default();
        let push = Some(Push::default());
        names.add(amd.clone(), &texts(&["app:1", "app", "amd"]), None, Some(0));
        names.add(arm.clone(), &texts(&["app:latest", "app:1"]), None, Some(1));
        names.add(arm.clone(), &texts(&["arm"]), push, Some(2));
        assert!(names.has_index() && names.has("docker.io/library/arm"));
        let group = |images: &[&PlatformImage], names: &[&str], push| Group {
            images: images.iter().map(|image| (*image).clone()).collect(),
            names: texts(names),
            push,
        };
        assert_eq!(names.groups(0), [group(&[&amd], &["amd"], None)]);
        assert_eq!(names.groups(1), [group(&[&amd, &arm], &["app:1", "app"], None)]);
        assert_eq!(names.groups(2), [group(&[&arm], &["arm"], push)]);
    }

    #[test]
    fn what_was_saved_earlier_takes_part_and_gives_way() {
        let (old, amd, arm) = (image(0, "linux/amd64"), image(1, "linux/amd64"), image(2, "linux/arm64"));
        let mut names = Names::default();
        names.add(old.clone(), &texts(&["app", "other"]), None, None);
        names.add(arm.clone(), &texts(&["app"]), Some(Push::default()), Some(0));
        let groups = names.groups(0);
        assert_eq!(groups.len(), 1);
        assert_eq!((&groups[0].images, groups[0].push), (&vec![old, arm.clone()], Some(Push::default())));
        names.add(amd.clone(), &texts(&["app"]), None, Some(1));
        assert!(names.groups(0).is_empty());
        assert_eq!(names.groups(1)[0].images, [amd, arm]);
    }
}
