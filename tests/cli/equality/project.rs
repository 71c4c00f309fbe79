//! Random projects: a folder of odd files, and a build file that does everything at once with them.
//!
//! In: numbers. Out: files on the disk, and a [`Recipe`], which is the build file in pieces that edits can move. Steps print
//! what they see of their tree (names, modes, owners, contents, link targets), never times or sizes of folders, so that
//! the same tree always gives the same result. Most pieces work on whatever is there; some fail on what an edit may do, and
//! then every build has to fail.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use super::Random;

/// Folders that pieces of the recipe name.
pub(super) const FOLDERS: [&str; 4] = ["src", "src/deep", "lib", "conf"];
/// Files that pieces of the recipe name.
pub(super) const ANCHORS: [&str; 4] = ["conf/a.txt", "src/main.txt", "lib/b.txt", "run.sh"];
/// Names of further files: what shells, patterns, tars and databases trip over.
const NAMES: [&[u8]; 17] = [
    b"a.txt",
    b"b.txt",
    b"c.log",
    b"main.c",
    b"tool",
    b"two words",
    b"-n",
    b".hidden",
    b"qu'ote\"",
    b"st*r",
    b"[x].txt",
    b"back\\slash",
    b"$mode",
    b"l\xc3\xa4nge.txt",
    b"bytes\xff\xfe.txt",
    b"line\nend",
    b"a.txt.d",
];
/// What the arguments of recipes are set to.
pub(super) const WORDS: [&str; 4] = ["blue", "green", "two words", "release"];
/// Lines of ignore files. Nothing of what every recipe needs.
const PATTERNS: [&str; 7] =
    ["*.log", "src/deep", "**/b.txt", "!lib/b.txt", "lib/*", "# remark", "extra/**/.hidden"];

/// Returns a name for a new file.
pub(super) fn name(random: &mut Random) -> &'static OsStr {
    OsStr::from_bytes(NAMES[random.below(NAMES.len())])
}

/// Returns some bytes; often text, seldom none, seldom many.
pub(super) fn content(random: &mut Random) -> Vec<u8> {
    let length = match random.below(12) {
        0 => 0,
        1 => 9_000,
        2 => 70_000,
        _ => 1 + random.below(60),
    };
    let letters = *random.pick(&[&b"ab\n"[..], b"xyz \n", b"0\x00\xff"]);
    (0..length).map(|_| letters[random.below(letters.len())]).collect()
}

/// Fills a folder.
pub(super) fn fill(folder: &Path, random: &mut Random) {
    for name in FOLDERS {
        fs::create_dir_all(folder.join(name)).expect("makes folders");
    }
    for name in ANCHORS {
        fs::write(folder.join(name), content(random)).expect("writes");
    }
    fs::set_permissions(folder.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("modes");
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(PathBuf::from).collect();
    for _ in 0..random.below(3) {
        let new = random.pick(&folders).join(["empty", "extra dir", "x"][random.below(3)]);
        fs::create_dir_all(folder.join(&new)).expect("makes folders");
        folders.push(new);
    }
    for _ in 0..3 + random.below(8) {
        let path = folder.join(random.pick(&folders)).join(name(random));
        if path.symlink_metadata().is_err() {
            add(&path, random);
        }
    }
    if random.one_in(3) {
        // So many that the digests of files are remembered with their times, and that one more changes little.
        let many = folder.join(*random.pick(&["many", "src/many"]));
        fs::create_dir(&many).expect("makes folders");
        for number in 0..80 {
            fs::write(many.join(format!("{number}.txt")), content(random)).expect("writes");
        }
    }
    if random.one_in(3) {
        let name = *random.pick(&[".rbignore", ".earthlyignore", ".earthignore"]);
        fs::write(folder.join(name), ignore_lines(random)).expect("writes");
    }
}

/// Puts a file or a link where nothing is; returns what it is.
pub(super) fn add(path: &Path, random: &mut Random) -> &'static str {
    match random.below(6) {
        0 => {
            symlink(link_target(random), path).expect("links");
            "link"
        }
        1 => {
            fs::write(path, content(random)).expect("writes");
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("modes");
            "program"
        }
        _ => {
            fs::write(path, content(random)).expect("writes");
            "file"
        }
    }
}

/// Where a link leads: inside, outside, nowhere, round.
pub(super) fn link_target(random: &mut Random) -> &'static str {
    const TARGETS: [&str; 10] = [
        "a.txt",
        "../conf/a.txt",
        "main.txt",
        "../lib",
        "nowhere",
        "/etc/passwd",
        "/w/src",
        "../../../..",
        ".",
        "two words",
    ];
    TARGETS[random.below(TARGETS.len())]
}

/// The text of an ignore file.
pub(super) fn ignore_lines(random: &mut Random) -> String {
    (0..1 + random.below(3)).map(|_| format!("{}\n", random.pick(&PATTERNS))).collect()
}

/// A build file, in pieces.
#[derive(Clone)]
pub(super) struct Recipe {
    /// `VERSION 1`; else 0.8.
    pub(super) newest: bool,
    /// Default of the global argument.
    pub(super) mode: &'static str,
    pub(super) targets: Vec<Target>,
    /// A remark that changes and means nothing.
    pub(super) remark: usize,
    next: usize,
}

/// One target; it may use those before it.
#[derive(Clone)]
pub(super) struct Target {
    from: String,
    pub(super) pieces: Vec<String>,
}

impl Recipe {
    pub(super) fn new(random: &mut Random) -> Self {
        let mut recipe =
            Self { newest: random.one_in(2), mode: WORDS[0], targets: Vec::new(), remark: 0, next: 0 };
        for index in 0..2 + random.below(5) {
            let from = match random.below(if index == 0 { 1 } else { 4 }) {
                0 | 1 => "../base+busybox".to_owned(),
                2 => format!("+t{}", random.below(index)),
                _ => format!("+t{} --word={}", random.below(index), WORDS[1]),
            };
            let pieces = (0..2 + random.below(4)).map(|_| recipe.piece(index, random)).collect();
            recipe.targets.push(Target { from, pieces });
        }
        recipe
    }

    /// The target that is built: the last one.
    pub(super) fn main(&self) -> String {
        format!("+t{}", self.targets.len() - 1)
    }

    /// Returns one more piece for a target.
    pub(super) fn piece(&mut self, target: usize, random: &mut Random) -> String {
        self.next += 1;
        let number = self.next;
        match random.below(if target == 0 { 9 } else { 12 }) {
            0..=2 => self.copy(number, random),
            3..=6 => run(number, random),
            7 | 8 => self.question(number, random),
            _ => other_target(number, random.below(target), random),
        }
    }

    fn copy(&self, number: usize, random: &mut Random) -> String {
        let from = *random.pick(&[
            "src",
            "lib",
            "conf",
            "conf/a.txt",
            "src/*",
            "*/*.txt",
            "src/main.txt ./lib/b.txt",
        ]);
        let flag =
            *random.pick(&["--chmod=0640", "--chmod=4755", "--chown=1000:1001", "--symlink-no-follow"]);
        match random.below(11) {
            0 => format!("COPY . all{number}"),
            1 => "COPY --dir src lib .".to_owned(),
            2 => format!("COPY --dir src conf/a.txt d{number}/"),
            3 => "COPY --if-exists conf/b.txt lib/none.txt .".to_owned(),
            4 => "COPY src/ lib/ run.sh ./".to_owned(),
            5 | 6 => format!("COPY {flag} {from} f{number}/"),
            7 if self.newest => format!("COPY //project/lib l{number}/"),
            8 if self.newest => format!("COPY <<h{number} .\nmode $mode\nh{number}"),
            7 => format!("COPY --keep-ts {from} k{number}/"),
            _ => format!("COPY {from} c{number}/"),
        }
    }

    fn question(&self, number: usize, random: &mut Random) -> String {
        match random.below(11) {
            0 => format!(
                "IF grep -q a conf/a.txt\n    RUN echo found > q{number}\nELSE\n    COPY conf/a.txt q{number}\nEND"
            ),
            1 => format!(
                "IF [ \"$mode\" = release ]\n    COPY lib q{number}\nELSE\n    RUN echo \"$mode\" > q{number}\nEND"
            ),
            2 => format!("IF test -x src/main.txt || test -L src/a.txt\n    RUN echo runs > q{number}\nEND"),
            3 => {
                format!("FOR f IN $(ls src 2>/dev/null | sed -n 1,3p)\n    RUN echo \"$f\" >> q{number}\nEND")
            }
            4 => format!(
                "COPY conf/a.txt s{number}\nARG s{number}=$(md5sum < s{number})\nRUN echo \"$s{number}\" > q{number}"
            ),
            5 => format!("ENV S{number}=$(find . | sort | md5sum)\nRUN env | grep ^S > q{number}"),
            6 => format!("DO +DIGEST --name=q{number}"),
            7 => format!(
                "WORKDIR /w/in{number}\nCOPY conf/a.txt .\nRUN md5sum < a.txt > ../q{number}\nWORKDIR /w"
            ),
            8 if self.newest => {
                format!("IF {{{{ exists('conf/b.txt') }}}}\n    COPY conf/b.txt q{number}\nEND")
            }
            9 if self.newest => {
                format!("FOR f IN {{{{ glob('lib/*.txt') }}}}\n    RUN echo \"$f\" >> q{number}\nEND")
            }
            10 if self.newest => {
                format!(
                    "LET l{number}={{{{ sha256(default(read('lib/b.txt'), '')) }}}}\nRUN echo $l{number} > q{number}"
                )
            }
            _ => format!("RUN echo \"$mode $word\" > q{number}"),
        }
    }

    /// The text of the build file. Files for the user go beside the project, so that they do not become part of it.
    pub(super) fn text(&self) -> String {
        let mut text = format!(
            "VERSION {}\nARG --global mode={}\n# remark {}\n\nDIGEST:\n    FUNCTION\n    ARG name\n    {}\n",
            if self.newest { "1" } else { "0.8" },
            self.mode,
            self.remark,
            "RUN find . -type f -print0 | sort -z | xargs -0 md5sum > /tmp/d; cp /tmp/d $name",
        );
        for (index, target) in self.targets.iter().enumerate() {
            text += &format!(
                "\nt{index}:\n    FROM {}\n    WORKDIR /w\n    ARG word={}\n",
                target.from, WORDS[0]
            );
            for piece in &target.pieces {
                // The lines of a heredoc stand as they are.
                let indent = if piece.starts_with("COPY <<") { "" } else { "    " };
                text += &format!("    {}\n", piece.replace('\n', &format!("\n{indent}")));
            }
            text += &format!(
                "    SAVE ARTIFACT --force /w tree AS LOCAL \"../out/t{index} $word\"\n    \
                 SAVE ARTIFACT --if-exists /w/q* some/\n"
            );
        }
        text
    }
}

fn run(number: usize, random: &mut Random) -> String {
    let some = *random.pick(&["src", "lib", "conf", "f1", "c2", "all3"]);
    let command = match random.below(20) {
        0 => format!("find . -type f -print0 | sort -z | xargs -0 md5sum > /tmp/l; mv /tmp/l r{number}"),
        1 => format!(
            "find . -print0 | sort -z | xargs -0 stat -c '%n %a %u %g %F %N' > /tmp/l; cp /tmp/l r{number}"
        ),
        2 => format!("rm -rf {some}; mkdir -p {some}; echo new > {some}/new{number}"),
        3 => format!(
            "mkdir -p m{number}/deep; ln -s ../{some} m{number}/link; ln -s nowhere m{number}/deep/none"
        ),
        4 => format!("echo hard > h{number}; ln h{number} i{number}; chmod 600 i{number}"),
        5 => format!("if [ -e {some} ]; then mv {some} moved{number}; fi"),
        6 => {
            format!("if [ -d {some} ]; then cp -a {some} copied{number}; chmod -R go-rwx copied{number}; fi")
        }
        7 => "find . -name '*.txt' -type f -exec sh -c 'echo more >> \"$1\"' - {} ';'".to_owned(),
        8 => format!("echo old > o{number}; touch -d '2001-02-03 04:05:06' o{number}"),
        9 => "find . -type l -exec rm {} +".to_owned(),
        10 => {
            format!("mkfifo p{number}.fifo; rm p{number}.fifo; chown 1000:1000 . ; mkdir -m 1777 t{number}")
        }
        11 => format!(
            "find . -type f -name '*.txt' | sort | sed -n 1,2p | while read -r f; do rm \"$f\"; mkdir \"$f\"; echo in > \"$f/in{number}\"; done"
        ),
        12 => format!("cat {some}/*.txt > r{number} 2>/dev/null || echo none > r{number}"),
        13 => format!("grep -q xx conf/a.txt lib/b.txt 2>/dev/null && exit 3 || echo \"$word\" > r{number}"),
        14 => "rm -rf ./* ./.[!.]*; echo emptied > emptied".to_owned(),
        15 => format!("rm -rf {some}; ln -s /w {some}"),
        16 => format!("dd if=/dev/zero of=z{number} bs=1k seek=64 count=1 2>/dev/null"),
        17 => {
            return format!(
                "RUN --mount=type=cache,target=/cache echo {number} >> /cache/log; md5sum conf/a.txt > r{number} 2>&1 || true"
            );
        }
        18 => {
            return format!(
                "CACHE /cached{number}\nRUN echo x >> /cached{number}/log; mkdir -p u{number}; echo y > u{number}/y"
            );
        }
        _ => {
            return format!(
                "RUN --mount=type=tmpfs,target=/scratch echo $mode > /scratch/a; cp /scratch/a r{number}"
            );
        }
    };
    format!("RUN {command}")
}

fn other_target(number: usize, other: usize, random: &mut Random) -> String {
    let word = *random.pick(&["green", "release"]);
    match random.below(10) {
        0 => format!("COPY +t{other}/tree a{number}"),
        1 => format!("COPY +t{other}/tree ."),
        2 => format!("COPY --dir +t{other}/tree a{number}/"),
        3 => format!("COPY (+t{other}/tree --word={word}) a{number}"),
        4 => format!("COPY --keep-own +t{other}/tree a{number}"),
        5 => format!("COPY --chmod=0700 +t{other}/tree/ a{number}/"),
        6 => format!("COPY --if-exists +t{other}/tree/src/main.txt +t{other}/tree/emptied a{number}/"),
        7 => format!("COPY +t{other}/* a{number}/"),
        8 => format!("BUILD +t{other} --word={word}"),
        _ => format!("BUILD +t{other}\nCOPY --symlink-no-follow +t{other}/tree a{number}"),
    }
}
