//! What the shell of a build image is told to do around the programs of buildpacks.
//!
//! Places are those of [`super::steps`]. **Invariant:** a script reads its words and what is mounted, and ends with the program's exit code.

/// Runs a program as the kernel would: a shell takes a file of no known format for its own. What cannot be read is left to the kernel.
pub(super) const RUNS: &str = r#"runs() {
  if [ -r "$1" ]; then
    first=
    { IFS= read -r first < "$1"; } 2>/dev/null
    case $first in
      '#!'* | ?ELF*) ;;
      *) echo "$1: exec format error" >&2; return 126 ;;
    esac
  fi
  "$@"
}
"#;

/// Runs a program and writes its exit code down.
pub(super) const DETECT: &str = r#"runs "$@" > /cnb/answer/log 2>&1
echo $? > /cnb/answer/code"#;

/// What the shell's texts have in common: programs of the build image, whatever variables buildpacks set; and how a folder goes
/// of which parts may not be written to.
pub(super) const TOOLS: &str = r#"tool() { PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LD_LIBRARY_PATH= command "$@"; }
wipe() {
  for path; do
    if [ -e "$path" ]; then
      tool chmod -R u+rwX "$path" 2>/dev/null
      tool rm -rf "$path" || return 1
    fi
  done
}
"#;

/// Brings back what was kept, and beside it what is recalled of the previous image; runs a program, and takes launch layers that it
/// speaks of from what was kept, or notes of which layer of the previous image it speaks. What cannot be brought back whole is not
/// brought back.
pub(super) const BUILD: &str = r#"own=$1
shift
kept=/cnb/hint/kept
if [ -d "$kept/layers" ]; then
  tool cp -a "$kept/layers/." "$own/" || wipe "$own"/* || exit 1
fi
recall() { [ -e "$own/$1.toml" ] || tool printf '%b' "$3" > "$own/$1.toml"; }
[ ! -r /cnb/previous ] || . /cnb/previous || exit 1
runs "$@" || exit $?
for layer in "$kept"/reuse/*; do
  name=${layer##*/}
  if [ -d "$layer" ] && [ -f "$own/$name.toml" ] && [ ! -e "$own/$name" ]; then
    tool cp -a "$layer" "$own/$name" || exit 1
  fi
done
recall() {
  if [ -n "$2" ] && [ -f "$own/$1.toml" ] && [ ! -e "$own/$1" ]; then
    tool printf '%s' "$2" > "$own/$1.of-previous"
  fi
}
[ ! -r /cnb/previous ] || . /cnb/previous || exit 1
exit 0"#;

/// Fills a cache, beside what it held: a cache that cannot be filled is emptied, and ends no build.
pub(super) const KEEP: &str = r#"hint=/cnb/hint
fill() {
  wipe "$hint/old" "$hint/new" && tool mkdir -p "$hint/new/layers" "$hint/new/reuse" || return 1
  tool cp -a /cnb/notes/. "$hint/new/layers/" || return 1
  for word in "$@"; do
    tool cp -a "/cnb/left/${word#*:}" "$hint/new/${word%%:*}/" || return 1
  done
  if [ -e "$hint/kept" ]; then
    tool mv "$hint/kept" "$hint/old" || return 1
  fi
  tool mv "$hint/new" "$hint/kept"
}
fill "$@" || { wipe "$hint/kept"; echo "nothing is kept for the next build" >&2; }
wipe "$hint/old" "$hint/new"
exit 0"#;

/// Empties a cache.
pub(super) const FORGET: &str = r#"wipe /cnb/hint/new /cnb/hint/old /cnb/hint/kept"#;
