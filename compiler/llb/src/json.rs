//! A graph as JSON, in the shape that BuildKit's tools print: `[{"Digest", "Op", "Metadata"}, …]`.
//!
//! Made from the bytes that came, so nothing typed stands between. As in Go, empty members are left out.

use prost::Message;
use serde_json::{Map, Value, json};

use crate::wire::pb;
use crate::{Graph, VertexMeta};

/// Writes `graph` with its last op as JSON.
pub fn to_json(graph: &Graph) -> Value {
    let head = graph.head().map(|head| (head.digest, &head.bytes));
    let vertices = graph.vertices().map(|vertex| (vertex.digest, &vertex.bytes));
    let entry = |(digest, bytes): (rb_oci::Digest, &bytes::Bytes)| {
        let op = pb::Op::decode(bytes.clone()).expect("the graph decoded these bytes before");
        json!({ "Digest": digest.to_string(), "Op": op_json(&op), "Metadata": meta(graph.meta(&digest)) })
    };
    vertices.chain(head).map(entry).collect()
}

/// An object that leaves empty members out.
#[derive(Default)]
struct Object(Map<String, Value>);

impl Object {
    fn always(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.insert(name.to_owned(), value.into());
        self
    }

    fn some(self, name: &str, value: Option<Value>) -> Self {
        match value {
            Some(value) => self.always(name, value),
            None => self,
        }
    }

    fn text(self, name: &str, value: &str) -> Self {
        self.some(name, (!value.is_empty()).then(|| value.into()))
    }

    fn number<T: Into<Value> + Default + PartialEq>(self, name: &str, value: T) -> Self {
        self.some(name, (value != T::default()).then(|| value.into()))
    }

    fn flag(self, name: &str, value: bool) -> Self {
        self.number(name, value)
    }

    fn list<T>(self, name: &str, items: &[T], json: impl Fn(&T) -> Value) -> Self {
        self.some(name, (!items.is_empty()).then(|| items.iter().map(json).collect()))
    }

    fn texts(self, name: &str, items: &[String]) -> Self {
        self.list(name, items, |item| item.as_str().into())
    }

    fn entries(self, name: &str, items: &[pb::StringEntry]) -> Self {
        let entry = |entry: &pb::StringEntry| {
            (entry.key.clone().unwrap_or_default(), Value::from(entry.value.clone().unwrap_or_default()))
        };
        self.some(name, (!items.is_empty()).then(|| Value::Object(items.iter().map(entry).collect())))
    }

    fn json(self) -> Value {
        Value::Object(self.0)
    }
}

fn op_json(op: &pb::Op) -> Value {
    use pb::op::Op;
    let kind = match &op.op {
        None => Object::default(),
        Some(Op::Exec(exec)) => Object::default().always("exec", exec_json(exec)),
        Some(Op::Source(source)) => Object::default().always(
            "source",
            Object::default().text("identifier", &source.identifier).entries("attrs", &source.attrs).json(),
        ),
        Some(Op::File(file)) => {
            let actions = Object::default().list("actions", &file.actions, action_json);
            Object::default().always("file", actions.json())
        }
        Some(Op::Build(build)) => Object::default().always("build", build_json(build)),
        Some(Op::Merge(merge)) => {
            let inputs = Object::default().list("inputs", &merge.inputs, |input| side(input.input));
            Object::default().always("merge", inputs.json())
        }
        Some(Op::Diff(diff)) => {
            let side = |input: &Option<pb::DiffInput>| input.as_ref().map(|input| side(input.input));
            let sides = Object::default().some("lower", side(&diff.lower)).some("upper", side(&diff.upper));
            Object::default().always("diff", sides.json())
        }
        Some(Op::Passthrough(pass)) => {
            let pass = Object::default()
                .text("id", &pass.id)
                .list("outputs", &pass.outputs, |output| (*output).into());
            Object::default().always("passthrough", pass.json())
        }
    };
    let input = |input: &pb::Input| {
        Object::default().text("digest", &input.digest).number("index", input.index).json()
    };
    let platform = |platform: &pb::Platform| {
        Object::default()
            .text("Architecture", &platform.architecture)
            .text("OS", &platform.os)
            .text("Variant", &platform.variant)
            .text("OSVersion", &platform.os_version)
            .texts("OSFeatures", &platform.os_features)
            .json()
    };
    let constraints =
        |constraints: &pb::WorkerConstraints| Object::default().texts("filter", &constraints.filter).json();
    Object::default()
        .list("inputs", &op.inputs, input)
        .always("Op", kind.json())
        .some("platform", op.platform.as_ref().map(platform))
        .some("constraints", op.constraints.as_ref().map(constraints))
        .json()
}

fn side(input: i64) -> Value {
    Object::default().number("input", input).json()
}

fn exec_json(exec: &pb::ExecOp) -> Value {
    let secret = |secret: &pb::SecretEnv| {
        let secret_json = Object::default().text("ID", &secret.id).text("name", &secret.name);
        secret_json.flag("optional", secret.optional).json()
    };
    let device = |device: &pb::CdiDevice| {
        Object::default().text("name", &device.name).flag("optional", device.optional).json()
    };
    Object::default()
        .some("meta", exec.meta.as_ref().map(process_json))
        .list("mounts", &exec.mounts, mount_json)
        .number("network", exec.network)
        .number("security", exec.security)
        .list("secretenv", &exec.secretenv, secret)
        .list("cdiDevices", &exec.cdi_devices, device)
        .json()
}

fn process_json(meta: &pb::Meta) -> Value {
    let proxy = |proxy: &pb::ProxyEnv| {
        Object::default()
            .text("http_proxy", &proxy.http_proxy)
            .text("https_proxy", &proxy.https_proxy)
            .text("ftp_proxy", &proxy.ftp_proxy)
            .text("no_proxy", &proxy.no_proxy)
            .text("all_proxy", &proxy.all_proxy)
            .json()
    };
    let host = |host: &pb::HostIp| Object::default().text("Host", &host.host).text("IP", &host.ip).json();
    let limit = |limit: &pb::Ulimit| {
        Object::default()
            .text("Name", &limit.name)
            .number("Soft", limit.soft)
            .number("Hard", limit.hard)
            .json()
    };
    Object::default()
        .texts("args", &meta.args)
        .texts("env", &meta.env)
        .text("cwd", &meta.cwd)
        .text("user", &meta.user)
        .some("proxy_env", meta.proxy_env.as_ref().map(proxy))
        .list("extraHosts", &meta.extra_hosts, host)
        .text("hostname", &meta.hostname)
        .list("ulimit", &meta.ulimit, limit)
        .text("cgroupParent", &meta.cgroup_parent)
        .flag("removeMountStubsRecursive", meta.remove_mount_stubs_recursive)
        .list("validExitCodes", &meta.valid_exit_codes, |code| (*code).into())
        .json()
}

fn mount_json(mount: &pb::Mount) -> Value {
    let tmpfs = |options: &pb::TmpfsOpt| Object::default().number("size", options.size).json();
    let cache = |options: &pb::CacheOpt| {
        Object::default().text("ID", &options.id).number("sharing", options.sharing).json()
    };
    let file = |id: &str, uid: u32, gid: u32, mode: u32, optional: bool| {
        let file = Object::default().text("ID", id).number("uid", uid).number("gid", gid);
        file.number("mode", mode).flag("optional", optional).json()
    };
    let secret = mount.secret_opt.as_ref().map(|it| file(&it.id, it.uid, it.gid, it.mode, it.optional));
    let agent = mount.ssh_opt.as_ref().map(|it| file(&it.id, it.uid, it.gid, it.mode, it.optional));
    Object::default()
        .number("input", mount.input)
        .text("selector", &mount.selector)
        .text("dest", &mount.dest)
        .number("output", mount.output)
        .flag("readonly", mount.readonly)
        .number("mountType", mount.mount_type)
        .some("TmpfsOpt", mount.tmpfs_opt.as_ref().map(tmpfs))
        .some("cacheOpt", mount.cache_opt.as_ref().map(cache))
        .some("secretOpt", secret)
        .some("SSHOpt", agent)
        .text("resultID", &mount.result_id)
        .number("contentCache", mount.content_cache)
        .json()
}

fn action_json(action: &pb::FileAction) -> Value {
    use pb::file_action::Action;
    let kind = match &action.action {
        None => Object::default(),
        Some(Action::Copy(copy)) => Object::default().always("copy", copy_json(copy)),
        Some(Action::Mkfile(mkfile)) => Object::default().always(
            "mkfile",
            Object::default()
                .text("path", &mkfile.path)
                .number("mode", mkfile.mode)
                .text("data", &base64(&mkfile.data))
                .some("owner", mkfile.owner.as_ref().map(owner_json))
                .number("timestamp", mkfile.timestamp)
                .json(),
        ),
        Some(Action::Mkdir(mkdir)) => Object::default().always(
            "mkdir",
            Object::default()
                .text("path", &mkdir.path)
                .number("mode", mkdir.mode)
                .flag("makeParents", mkdir.make_parents)
                .some("owner", mkdir.owner.as_ref().map(owner_json))
                .number("timestamp", mkdir.timestamp)
                .json(),
        ),
        Some(Action::Rm(rm)) => Object::default().always(
            "rm",
            Object::default()
                .text("path", &rm.path)
                .flag("allowNotFound", rm.allow_not_found)
                .flag("allowWildcard", rm.allow_wildcard)
                .json(),
        ),
        // BuildKit's own JSON forgets symlinks; a reader needs them.
        Some(Action::Symlink(symlink)) => Object::default().always(
            "symlink",
            Object::default()
                .text("oldpath", &symlink.oldpath)
                .text("newpath", &symlink.newpath)
                .some("owner", symlink.owner.as_ref().map(owner_json))
                .number("timestamp", symlink.timestamp)
                .json(),
        ),
    };
    Object::default()
        .always("input", action.input)
        .always("secondaryInput", action.secondary_input)
        .always("output", action.output)
        .always("Action", kind.json())
        .json()
}

fn copy_json(copy: &pb::FileActionCopy) -> Value {
    Object::default()
        .text("src", &copy.src)
        .text("dest", &copy.dest)
        .some("owner", copy.owner.as_ref().map(owner_json))
        .number("mode", copy.mode)
        .flag("followSymlink", copy.follow_symlink)
        .flag("dirCopyContents", copy.dir_copy_contents)
        .flag("attemptUnpackDockerCompatibility", copy.attempt_unpack_docker_compatibility)
        .flag("createDestPath", copy.create_dest_path)
        .flag("allowWildcard", copy.allow_wildcard)
        .flag("allowEmptyWildcard", copy.allow_empty_wildcard)
        .number("timestamp", copy.timestamp)
        .texts("include_patterns", &copy.include_patterns)
        .texts("exclude_patterns", &copy.exclude_patterns)
        .flag("alwaysReplaceExistingDestPaths", copy.always_replace_existing_dest_paths)
        .text("modeStr", &copy.mode_str)
        .texts("required_paths", &copy.required_paths)
        .json()
}

fn owner_json(owner: &pb::ChownOpt) -> Value {
    let user = |user: &pb::UserOpt| {
        let user = match &user.user {
            None => Object::default(),
            Some(pb::user_opt::User::ById(id)) => Object::default().number("byId", *id),
            Some(pb::user_opt::User::ByName(name)) => {
                let name = Object::default().text("name", &name.name).number("input", name.input);
                Object::default().always("byName", name.json())
            }
        };
        Object::default().always("User", user.json()).json()
    };
    Object::default()
        .some("user", owner.user.as_ref().map(user))
        .some("group", owner.group.as_ref().map(user))
        .json()
}

fn build_json(build: &pb::BuildOp) -> Value {
    let input = |entry: &pb::BuildInputEntry| {
        let number = entry.value.as_ref().map_or(0, |input| input.input);
        (entry.key.clone().unwrap_or_default(), side(number))
    };
    let inputs: Map<String, Value> = build.inputs.iter().map(input).collect();
    Object::default()
        .number("builder", build.builder)
        .some("inputs", (!inputs.is_empty()).then_some(Value::Object(inputs)))
        .some("def", build.def.as_ref().map(|def| base64(def).into()))
        .entries("attrs", &build.attrs)
        .json()
}

fn meta(meta: &VertexMeta) -> Value {
    let VertexMeta { description, ignore_cache, export_cache, caps, progress_group, linux_resources } = meta;
    let group = progress_group.as_ref().map(|group| {
        Object::default().text("id", &group.id).text("name", &group.name).flag("weak", group.weak).json()
    });
    let limits = linux_resources.as_ref().map(|limits| {
        Object::default()
            .number("memory", limits.memory_bytes)
            .number("memorySwap", limits.memory_swap_bytes)
            .number("cpuShares", limits.cpu_shares)
            .number("cpuPeriod", limits.cpu_period_us)
            .number("cpuQuota", limits.cpu_quota_us)
            .text("cpusetCpus", &limits.cpuset_cpus)
            .text("cpusetMems", &limits.cpuset_mems)
            .json()
    });
    let export = export_cache.map(|value| Object::default().flag("Value", value).json());
    Object::default()
        .flag("ignore_cache", *ignore_cache)
        .some("description", (!description.is_empty()).then(|| json!(description)))
        .some("export_cache", export)
        .some("caps", (!caps.is_empty()).then(|| json!(caps)))
        .some("progress_group", group)
        .some("linux_resources", limits)
        .json()
}

/// Standard base64 with padding, as Go writes bytes.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group =
            chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * at) & 63) as usize];
            text.push(if at <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::base64;

    #[test]
    fn base64_known_answers() {
        for (bytes, text) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xff]), "+/8=");
    }
}
