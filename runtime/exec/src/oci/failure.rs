//! What a runtime says when the command did not start.
//!
//! In: its log, a JSON object per line. Out: the error that our own sandbox would give, where the words tell which that is.
//! **Invariant:** a command that ran and failed leaves no error in the log, so none is made of it.

use std::io;

use rustix::io::Errno;
use serde::Deserialize;

use crate::error::ExecError;

#[derive(Deserialize)]
struct Entry {
    #[serde(default)]
    level: String,
    #[serde(default)]
    msg: String,
}

/// Returns the last error of a log.
pub(super) fn read(log: &[u8]) -> Option<String> {
    let lines = String::from_utf8_lossy(log);
    // gVisor's processes end no lines.
    let of_line = |line| serde_json::Deserializer::from_str(line).into_iter::<Entry>().map_while(Result::ok);
    let is_error = |entry: &Entry| matches!(entry.level.as_str(), "error" | "fatal" | "panic");
    lines.lines().flat_map(of_line).filter(is_error).last().map(|entry| entry.msg)
}

/// Returns the error of the execution, if that is all that was written on standard error: by then a runtime is in the
/// sandbox, and has no other way to say it. Of a command that writes the same by itself only the code would be lost.
pub(super) fn of_execution(words: &[u8]) -> Option<String> {
    let words = std::str::from_utf8(words).ok()?;
    let line = words.strip_suffix('\n').filter(|line| !line.contains('\n'))?;
    let message = match serde_json::from_str::<Entry>(line) {
        Ok(entry) => Some(entry).filter(|entry| entry.level == "error")?.msg,
        Err(_) => line.to_owned(),
    };
    let endings = ["exec format error", "permission denied", "no such file or directory"];
    let is_meant = message.starts_with("exec ")
        && endings.iter().any(|ending| message.to_ascii_lowercase().ends_with(&format!(": {ending}")));
    is_meant.then_some(message)
}

/// Returns what a message means for a program that exists.
pub(super) fn meaning(runtime: &str, name: &str, message: String) -> ExecError {
    let words = message.to_ascii_lowercase();
    let has = |text: &str| words.contains(text);
    let program = name.to_owned();
    // As gVisor says it: `creating process: failed to load /x: permission denied`.
    let is_of_execution = has(": failed to load /") || (has("exec") && !has("mount") && !has("cgroup"));
    let not_executable =
        |errno: Errno| ExecError::NotExecutable { program: name.to_owned(), source: io::Error::from(errno) };
    match is_of_execution {
        true if has("exec format error") => not_executable(Errno::NOEXEC),
        true if has("permission denied") || has("not found in $path") => not_executable(Errno::ACCESS),
        true if has("no such file or directory") => ExecError::InterpreterNotFound { program },
        _ => ExecError::Runtime { runtime: runtime.to_owned(), message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_of_a_log_counts() {
        let log =
            b"{\"level\":\"warning\",\"msg\":\"w\"}\nnot json\n{\"msg\":\"first\",\"level\":\"error\"}\n\
            {\"level\":\"error\",\"msg\":\"last\",\"time\":\"t\"}\n{\"level\":\"inf";
        assert_eq!(read(log).as_deref(), Some("last"));
        let joined =
            b"{\"msg\":\"of a part\",\"level\":\"error\"}{\"msg\":\"of the whole\",\"level\":\"error\"}{\"l";
        assert_eq!(read(joined).as_deref(), Some("of the whole"));
        assert_eq!(read(b"{\"level\":\"warning\",\"msg\":\"w\"}\n"), None);
        assert_eq!(read(b""), None);
    }

    #[test]
    fn an_execution_that_failed_is_all_that_is_said() {
        let crun = "{\"msg\":\"exec container process `/x`: Exec format error\",\"level\":\"error\"}\n";
        let said = of_execution(crun.as_bytes());
        assert_eq!(said.as_deref(), Some("exec container process `/x`: Exec format error"));
        let runc = b"exec /lost: no such file or directory\n";
        assert_eq!(of_execution(runc).as_deref(), Some("exec /lost: no such file or directory"));
        for other in [
            "",
            "\n",
            "more\nexec /x: permission denied\n",
            "exec /x: permission denied",
            "exec: x\n",
            "{}\n",
        ] {
            assert_eq!(of_execution(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn what_is_about_the_program_becomes_our_own_error() {
        let of = |message: &str| meaning("crun 1", "/x", message.to_owned());
        for message in ["exec container process `/x`: Exec format error", "exec /x: exec format error"] {
            assert!(matches!(of(message), ExecError::NotExecutable { .. }), "{message}");
        }
        for message in [
            "open executable: Permission denied",
            "runc run failed: unable to start container process: exec: \"/x\": permission denied",
            "executable file `x` not found in $PATH: No such file or directory",
            "starting root container: starting sandbox: creating process: failed to load /x: permission denied",
        ] {
            assert!(matches!(of(message), ExecError::NotExecutable { .. }), "{message}");
        }
        let missing = of("exec /x: no such file or directory");
        assert!(matches!(missing, ExecError::InterpreterNotFound { .. }), "{missing}");
        let other = of("mount `proc` to `proc`: Permission denied");
        assert!(matches!(&other, ExecError::Runtime { message, .. } if message.contains("proc")), "{other}");
    }

    proptest::proptest! {
        #[test]
        fn any_log_is_an_answer(log in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            read(&log);
            of_execution(&log);
        }
    }
}
