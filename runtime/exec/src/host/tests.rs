use super::*;
use crate::probe::Verdict;

/// A machine of files that are made up.
struct Made {
    dir: tempfile::TempDir,
}

impl Made {
    /// Has user namespaces, and nothing else.
    fn new() -> Self {
        let made = Self { dir: tempfile::tempdir().expect("a temporary folder") };
        made.with("proc/self/ns/user", "")
            .with("proc/self/status", "Name:\trb\nSeccomp:\t0\nSeccomp_filters:\t0\n")
    }

    fn with(self, path: &str, text: &str) -> Self {
        let path = self.dir.path().join(path);
        std::fs::create_dir_all(path.parent().expect("lies below")).expect("makes folders");
        std::fs::write(path, text).expect("writes");
        self
    }

    fn filtered(self) -> Self {
        self.with("proc/self/status", "Name:\trb\nNoNewPrivs:\t1\nSeccomp:\t2\nSeccomp_filters:\t1\n")
    }

    fn running(self, program: &str) -> Self {
        std::os::unix::fs::symlink(program, self.dir.path().join("proc/self/exe")).expect("links");
        self
    }

    /// Ubuntu's, from 23.10 on.
    fn with_apparmor(self, profile: &str) -> Self {
        self.with("sys/module/apparmor/parameters/enabled", "Y\n")
            .with("proc/self/attr/apparmor/current", profile)
    }

    fn with_selinux(self, enforce: &str, context: &str) -> Self {
        self.with("sys/fs/selinux/enforce", enforce).with("proc/self/attr/current", context)
    }

    fn with_program(self, name: &str, mode: u32) -> Self {
        let path = format!("usr/bin/{name}");
        let made = self.with(&path, "");
        let permissions = std::fs::Permissions::from_mode(mode);
        std::fs::set_permissions(made.dir.path().join(path), permissions).expect("modes");
        made
    }

    fn host(&self) -> Host {
        Host::below(self.dir.path())
    }

    fn cause(&self, what: Refused) -> Cause {
        self.host().cause(what)
    }
}

#[test]
fn settings_of_the_kernel_that_forbid_namespaces_are_named_with_the_command() {
    let made = Made::new().with(MAX_NAMESPACES, "0\n");
    let Cause { reason, remedy } = made.cause(Refused::Namespaces);
    assert_eq!(reason, "user.max_user_namespaces is 0");
    assert_eq!(
        remedy,
        "echo user.max_user_namespaces=15000 | sudo tee -a /etc/sysctl.d/60-rb.conf && sudo sysctl --system"
    );
    // There it is not for the container to set.
    let made = made.with(".dockerenv", "");
    assert!(
        made.cause(Refused::Namespaces).remedy.starts_with("on the machine around this container: echo ")
    );
    let made = Made::new().with(MAX_NAMESPACES, "63000\n").with(CLONE_ALLOWED, "0\n");
    let Cause { reason, remedy } = made.cause(Refused::Namespaces);
    assert_eq!(reason, "kernel.unprivileged_userns_clone is 0");
    assert!(remedy.contains("kernel.unprivileged_userns_clone=1"), "{remedy}");
    // It has nothing to do with mounts.
    assert_eq!(made.cause(Refused::Mounts).reason, "the kernel gives no reason");
    let made = Made { dir: tempfile::tempdir().expect("a temporary folder") };
    assert!(made.cause(Refused::Namespaces).remedy.contains("CONFIG_USER_NS=y"));
}

#[test]
fn apparmor_that_restricts_namespaces_gets_a_profile_for_this_program() {
    let made =
        Made::new().with_apparmor("unconfined\n").with(APPARMOR_RESTRICTS, "1\n").running("/opt/rb-1.0/rb");
    for what in [Refused::Namespaces, Refused::Mounts] {
        let Cause { reason, remedy } = made.cause(what);
        assert!(reason.contains("kernel.apparmor_restrict_unprivileged_userns is 1"), "{reason}");
        assert_eq!(
            remedy,
            "printf 'abi <abi/4.0>,\\nprofile rb /opt/rb-1.0/rb flags=(unconfined) {\\n  userns,\\n}\\n' | sudo tee \
             /etc/apparmor.d/rb && sudo apparmor_parser -r /etc/apparmor.d/rb"
        );
    }
    let check = made.host().security(false, true);
    assert_eq!((check.verdict, check.remedy.is_some()), (Verdict::Limited, true), "{check:?}");
    let check = made.host().security(true, true);
    assert_eq!((check.verdict, check.remedy), (Verdict::Works, None));
    // What would mean something else in a profile or a shell is not put there.
    let made = Made::new().with_apparmor("unprivileged_userns (enforce)\n").with(APPARMOR_RESTRICTS, "1\n");
    let made = made.running("/home/o'neil/rb*");
    assert!(made.cause(Refused::Mounts).remedy.contains("apparmor_restrict_unprivileged_userns=0"));
    let free = Made::new().with_apparmor("unconfined\n").with(APPARMOR_RESTRICTS, "0\n");
    assert_eq!(free.host().security(false, true).verdict, Verdict::Works);
}

#[test]
fn a_profile_of_a_container_confines_and_one_of_rb_does_not() {
    let made = Made::new().with_apparmor("docker-default (enforce)\n").with(APPARMOR_RESTRICTS, "1\n");
    let of_rb = Made::new().with_apparmor("rb (unconfined)\n").with(APPARMOR_RESTRICTS, "1\n");
    assert_eq!(of_rb.host().security(false, true).verdict, Verdict::Works);
    // One that only notes what it would refuse is not the cause of anything.
    let noted = Made::new().with_apparmor("rb (complain)\n");
    assert_eq!(noted.host().security(true, false).verdict, Verdict::Works);
    assert_eq!(noted.cause(Refused::Mounts).reason, "the kernel gives no reason");
    // One of this machine's that refuses something is told, too.
    let check = made.host().security(true, false);
    assert!(check.verdict == Verdict::Limited && check.reason.contains("docker-default"), "{check:?}");
    assert_eq!(made.host().security(true, true).verdict, Verdict::Works);
    // Outside of any there is nobody to start it with an option.
    let cause = made.cause(Refused::Mounts);
    assert!(
        cause.reason.contains("docker-default") && cause.remedy.contains("sudo aa-complain docker-default"),
        "{cause:?}"
    );
    let made = made.with(".dockerenv", "").filtered();
    assert!(
        made.host().security(true, true).remedy.is_some_and(|remedy| remedy.contains("apparmor=unconfined"))
    );
    let check = made.host().security(true, true);
    assert!(check.verdict == Verdict::Limited && check.reason.contains("docker-default"), "{check:?}");
}

#[test]
fn selinux_is_told_with_the_domain_it_put_us_into() {
    let host = |enforce: &str, domain: &str| {
        Made::new().with_selinux(enforce, &format!("system_u:system_r:{domain}:s0:c1,c2\0"))
    };
    let free = host("1", "unconfined_t").host().security(false, true);
    assert_eq!(free.reason, "SELinux enforces, and lets unconfined_t do what steps need");
    assert_eq!(free.verdict, Verdict::Works);
    let confined = host("1", "container_t");
    let check = confined.host().security(false, true);
    assert!(check.verdict == Verdict::Limited && check.reason.contains("container_t"), "{check:?}");
    assert!(check.remedy.is_some_and(|remedy| remedy.contains("semanage login")));
    let remedy = host("1", "container_t").with("run/.containerenv", "").host().security(false, true).remedy;
    assert!(remedy.is_some_and(|remedy| remedy.contains("label=disable") && remedy.contains("spc_t")));
    assert!(confined.cause(Refused::Proc).reason.contains("container_t"));
    // Permissive: it only writes down what it would refuse.
    assert_eq!(host("0", "container_t").host().security(false, true).reason, "none that bears on steps");
    let unreadable = Made::new().with("sys/fs/selinux/enforce", "1");
    assert_eq!(unreadable.host().security(false, true).verdict, Verdict::Limited);
}

#[test]
fn each_container_is_known_and_told_how_it_has_to_be_started() {
    let shown = |made: Made| {
        let host = made.host();
        let container = host.container().expect("is in one");
        assert_eq!(host.cause(Refused::Mounts).remedy, container.remedy());
        assert_eq!(host.surroundings(true).verdict, Verdict::Works);
        let check = host.surroundings(false);
        assert_eq!((check.verdict, check.remedy), (Verdict::Limited, Some(container.remedy())));
        format!("{} / {}", host.cause(Refused::Proc).reason, container.remedy())
    };
    let docker = shown(Made::new().with(".dockerenv", "").filtered());
    assert!(docker.starts_with("refused by a container of Docker and its system call filter / "), "{docker}");
    assert!(docker.contains("systempaths=unconfined"), "{docker}");
    let podman = shown(Made::new().with("run/.containerenv", "").filtered());
    assert!(podman.contains("Podman") && podman.contains("unmask=ALL"), "{podman}");
    let pod =
        shown(Made::new().with(".dockerenv", "").with("run/secrets/kubernetes.io/serviceaccount/token", "x"));
    assert!(
        pod.starts_with("refused by a pod of Kubernetes / ") && pod.contains("hostUsers: false"),
        "{pod}"
    );
    let lxc = shown(Made::new().with("run/systemd/container", "lxc\n"));
    assert!(lxc.contains("a container of lxc") && lxc.contains("privileged"), "{lxc}");
    assert_eq!(Made::new().host().container(), None);
    assert_eq!(Made::new().host().surroundings(false).verdict, Verdict::Works);
}

#[test]
fn a_system_call_filter_without_a_container_is_told() {
    let cause = Made::new().filtered().cause(Refused::Namespaces);
    assert_eq!(cause.reason, "a system call filter is around this process");
    assert!(!Made::new().host().is_filtered());
    assert!(!Made::new().with("proc/self/status", "Seccomp:\t1\n").host().is_filtered());
}

/// A machine of somebody who has subordinate ids and the programs for them.
fn with_ids(first_mode: u32) -> Made {
    Made::new()
        .with("etc/passwd", "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/home/ann:/bin/sh\n")
        .with("etc/subuid", "ann:100000:65536\nbob:165536:65536\n")
        .with("etc/subgid", "ann:100000:65536\n")
        .with_program("newuidmap", first_mode)
        .with_program("newgidmap", 0o4755)
}

#[test]
fn subordinate_ids_are_found_with_the_programs() {
    let made = with_ids(0o4755);
    let plan = made.host().sub_ids(1000, 1000).expect("all is there");
    let IdMapPlan::Programs { newuidmap, uids, .. } = plan else { panic!("{plan:?}") };
    assert_eq!(newuidmap, made.dir.path().join("usr/bin/newuidmap"));
    let ranges: Vec<_> = uids.iter().map(|range| (range.inside, range.outside, range.count)).collect();
    assert_eq!(ranges, [(0, 1000, 1), (1, 100_000, 65_536)]);
}

#[test]
fn who_has_no_ids_gets_the_first_that_are_nobodys() {
    let made = with_ids(0o4755).with("etc/passwd", "eve:x:1002:1002::/home/eve:/bin/sh\n");
    let Cause { reason, remedy } = made.host().sub_ids(1002, 1002).expect_err("has none");
    assert_eq!(reason, "/etc/subuid gives no ids to user eve");
    assert_eq!(remedy, "sudo usermod --add-subuids 231072-296607 --add-subgids 231072-296607 eve");
    let remedy = made.host().sub_ids(4242, 4242).expect_err("has none").remedy;
    assert_eq!(remedy, "echo 4242:231072:65536 | sudo tee -a /etc/subuid /etc/subgid");
    // Those of groups are missing alone.
    let made = with_ids(0o4755).with("etc/subgid", "");
    assert!(made.host().sub_ids(1000, 1000).expect_err("has none").reason.starts_with("/etc/subgid"));
}

#[test]
fn a_missing_program_is_named_with_the_package_of_the_distribution() {
    for (release, expected) in [
        ("ID=ubuntu\nID_LIKE=debian\n", "sudo apt-get install uidmap"),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "sudo apt-get install uidmap"),
        ("NAME=Fedora\nID=fedora\n", "sudo dnf install shadow-utils"),
        ("ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "sudo dnf install shadow-utils"),
        ("ID=alpine\n", "sudo apk add shadow-uidmap"),
        ("ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "sudo zypper install shadow"),
        ("ID=arch\n", "sudo pacman -S shadow"),
        ("ID=other\n", "install the package with newuidmap and newgidmap (uidmap, or shadow)"),
    ] {
        let made = with_ids(0o4755).with("etc/os-release", release);
        std::fs::remove_file(made.dir.path().join("usr/bin/newgidmap")).expect("removes");
        let Cause { reason, remedy } = made.host().sub_ids(1000, 1000).expect_err("is missing");
        assert_eq!((reason.as_str(), remedy.as_str()), ("the program newgidmap is not installed", expected));
    }
}

#[test]
fn a_program_without_rights_is_told() {
    let made = with_ids(0o755);
    let Cause { reason, remedy } = made.host().sub_ids(1000, 1000).expect_err("may not map");
    assert_eq!(reason, "the program newuidmap has no right to map ids");
    assert_eq!(remedy, format!("sudo chmod u+s {}", made.dir.path().join("usr/bin/newuidmap").display()));
}

#[test]
fn versions_of_control_groups_are_told_apart() {
    let two = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
    let one = "31 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n32 31 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";
    let named = "36 31 0:32 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd\n";
    for (mounts, expected) in [
        (two.to_owned(), Cgroups::Two),
        (one.to_owned(), Cgroups::One),
        (format!("{one}{two}"), Cgroups::Hybrid),
        // A hierarchy without controllers limits nothing.
        (format!("{named}{two}"), Cgroups::Two),
        (String::new(), Cgroups::None),
    ] {
        let found = Made::new().with("proc/self/mountinfo", &mounts).host().cgroups();
        assert_eq!(found, expected, "{mounts}");
        assert_eq!(found.remedy_for_users().is_none(), expected == Cgroups::Two);
        assert!(found.name().contains("mounted"));
    }
}
