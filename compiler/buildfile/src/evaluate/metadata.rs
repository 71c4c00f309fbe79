//! Statements that change what an image says of itself: ENV, WORKDIR, USER, ENTRYPOINT, CMD, SHELL, EXPOSE, VOLUME,
//! LABEL, HEALTHCHECK, STOPSIGNAL, HOST. Only WORKDIR changes files: it makes the directory.
//!
//! Source: earthly-language section 4; image-spec config.md.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rb_diag::{Diagnostic, Spanned};
use rb_llb::HostAddress;
use rb_oci::Empty;
use rb_syntax::{
    Assignment, CommandLine, Edition, Healthcheck, HostEntry, Label, Probe, Stmt, StmtKind, Word,
};

use super::frame::{Frame, Layer};
use super::run::plain_shell;
use super::variables::mentions;
use super::{Evaluator, Fallible};
use crate::codes;
use crate::describe::keyword;
use crate::lower::{self, paths};
use crate::resolve::Resolved;
use crate::word::Escapes;

/// The widest range of ports that EXPOSE takes.
const MAX_PORTS: u32 = 1 << 16;

impl Evaluator<'_> {
    /// Evaluates one of these statements.
    pub(super) async fn metadata(&self, frame: &mut Frame, stmt: &Stmt<Resolved>) -> Fallible<()> {
        if frame.locally.is_some()
            && !matches!(stmt.kind, StmtKind::Env(_) | StmtKind::Workdir(_) | StmtKind::Host(_))
        {
            return Err(Diagnostic::error(
                codes::IN_LOCALLY,
                format!("{} has no meaning in LOCALLY", keyword(&stmt.kind)),
            )
            .with_label(stmt.span, "there is no image that it could be said of")
            .with_help("drop it, or begin anew with a FROM"));
        }
        match &stmt.kind {
            StmtKind::Env(pairs) => self.environment(frame, pairs).await?,
            StmtKind::Workdir(path) => return self.workdir(frame, stmt, path).await,
            StmtKind::User(user) => {
                let user = self.expand(frame, user, Escapes::Remove).await?;
                frame.config.config.user = Some(user);
            }
            StmtKind::Entrypoint(line) => {
                let args = self.image_command(frame, line).await?;
                frame.config.config.entrypoint = Some(args);
                // A CMD of the base was meant for another program.
                if !frame.command_set {
                    frame.config.config.cmd = None;
                }
            }
            StmtKind::Cmd(line) => {
                let args = self.image_command(frame, line).await?;
                frame.config.config.cmd = Some(args);
                frame.command_set = true;
            }
            StmtKind::Shell(words) => self.shell(frame, stmt, words)?,
            StmtKind::Expose(words) => self.expose(frame, words).await?,
            StmtKind::Volume(words) => {
                for word in words {
                    let path = self.expand(frame, word, Escapes::Remove).await?;
                    frame.config.config.volumes.insert(path, Empty {});
                }
            }
            StmtKind::Label(labels) => self.labels(frame, labels).await?,
            StmtKind::Healthcheck(check) => self.healthcheck(frame, check).await?,
            StmtKind::StopSignal(word) => {
                let signal = self.expand(frame, word, Escapes::Remove).await?;
                frame.config.config.stop_signal = Some(signal);
            }
            StmtKind::Host(entry) => return self.host(frame, entry).await,
            _ => return Err(super::internal("a statement that is no metadata was taken for one")),
        }
        frame.remember(stmt, Layer::None);
        Ok(())
    }

    async fn environment(&self, frame: &mut Frame, pairs: &[Assignment]) -> Fallible<()> {
        // All values are those from before the line.
        let mut values = Vec::new();
        for pair in pairs {
            values.push((&pair.name.value, self.value(frame, &pair.value).await?.to_string()));
        }
        for (name, value) in values {
            frame.config.config.set_env(name, &value);
        }
        Ok(())
    }

    async fn workdir(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, path: &Word) -> Fallible<()> {
        let text = self.expand(frame, path, Escapes::Remove).await?;
        if frame.locally.is_some() {
            return self.workdir_locally(frame, path, &text);
        }
        let path = paths::absolute(frame.cwd(), &text);
        frame.config.config.working_dir = Some(path.clone());
        if path == "/" {
            frame.remember(stmt, Layer::None);
            return Ok(());
        }
        let user = frame.config.config.user.as_deref().filter(|user| !user.is_empty());
        frame.state = lower::make_directory(&frame.state, &path, user, frame.meta(stmt));
        frame.remember(stmt, Layer::One);
        Ok(())
    }

    /// SHELL of `VERSION 1`; Earthfiles always use `/bin/sh -c`.
    fn shell(&self, frame: &mut Frame, stmt: &Stmt<Resolved>, words: &[Spanned<String>]) -> Fallible<()> {
        if frame.edition() < Edition::One {
            return Err(Diagnostic::error(codes::EDITION, "SHELL is of VERSION 1")
                .with_label(stmt.span, "")
                .with_help("an Earthfile's commands run in `/bin/sh -c`; write `RUN bash -c '…'`"));
        }
        frame.config.config.shell = Some(words.iter().map(|word| word.value.clone()).collect());
        Ok(())
    }

    /// `EXPOSE [address:][port:]port[-port][/protocol]…`: what stands before the last port is Docker's to map.
    async fn expose(&self, frame: &mut Frame, words: &[Word]) -> Fallible<()> {
        for word in words {
            let text = self.expand(frame, word, Escapes::Remove).await?;
            for text in text.split_whitespace() {
                let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
                let ports = ports.rsplit(':').next().unwrap_or(ports);
                let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
                let range = first
                    .parse::<u16>()
                    .ok()
                    .zip(last.parse::<u16>().ok())
                    .filter(|(first, last)| first <= last);
                let protocol = protocol.to_ascii_lowercase();
                let (Some((first, last)), true) =
                    (range, ["tcp", "udp", "sctp"].contains(&protocol.as_str()))
                else {
                    return Err(Diagnostic::error(codes::BAD_PORT, format!("`{text}` is not a port"))
                        .with_label(word.span, "")
                        .with_help("write `EXPOSE 8080`, `EXPOSE 53/udp` or `EXPOSE 8000-8010`"));
                };
                let ports = &mut frame.config.config.exposed_ports;
                ports.extend((first..=last).map(|port| (format!("{port}/{protocol}"), Empty {})));
                if ports.len() as u32 > MAX_PORTS {
                    return Err(super::internal("more ports than there are"));
                }
            }
        }
        Ok(())
    }

    async fn labels(&self, frame: &mut Frame, labels: &[Label]) -> Fallible<()> {
        let mut pairs = Vec::new();
        for label in labels {
            let key = self.expand(frame, &label.key, Escapes::Remove).await?;
            if key.is_empty() {
                return Err(Diagnostic::error(codes::BAD_LABEL, "the label has no name")
                    .with_label(label.key.span, "")
                    .with_help("write `LABEL name=value`"));
            }
            if key.starts_with("dev.earthly.") && frame.edition() < Edition::One {
                return Err(Diagnostic::error(
                    codes::BAD_LABEL,
                    format!("labels that start with `dev.earthly.` are reserved, such as `{key}`"),
                )
                .with_label(label.key.span, "")
                .with_help("give the label another name"));
            }
            pairs.push((key, self.expand(frame, &label.value, Escapes::Remove).await?));
        }
        frame.config.config.labels.extend(pairs);
        Ok(())
    }

    async fn healthcheck(&self, frame: &mut Frame, check: &Healthcheck) -> Fallible<()> {
        let check = match check {
            Healthcheck::None => {
                rb_oci::Healthcheck { test: vec!["NONE".to_owned()], ..rb_oci::Healthcheck::default() }
            }
            Healthcheck::Probe(probe) => self.probe(frame, probe).await?,
        };
        frame.config.config.healthcheck = Some(check);
        Ok(())
    }

    /// Reads a probe; what is not said is as Earthly has it: 30 s, 30 s, 0 s, 5 s and 3 retries.
    async fn probe(&self, frame: &Frame, probe: &Probe) -> Fallible<rb_oci::Healthcheck> {
        let test = match &probe.command {
            CommandLine::Shell(text) => vec!["CMD-SHELL".to_owned(), text.raw.clone()],
            CommandLine::Exec(args) => {
                std::iter::once("CMD".to_owned()).chain(args.iter().map(|arg| arg.value.clone())).collect()
            }
            CommandLine::Script(script) => vec!["CMD-SHELL".to_owned(), script.body.raw.clone()],
        };
        let second = |seconds| Duration::from_secs(seconds);
        let retries = match &probe.retries {
            None => 3,
            Some(word) => {
                let text = self.expand(frame, word, Escapes::Remove).await?;
                text.parse().map_err(|_| {
                    Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not a number of retries"))
                        .with_label(word.span, "")
                        .with_help("write `--retries=3`")
                })?
            }
        };
        Ok(rb_oci::Healthcheck {
            test,
            interval: Some(self.nanoseconds(frame, probe.interval.as_ref(), second(30)).await?),
            timeout: Some(self.nanoseconds(frame, probe.timeout.as_ref(), second(30)).await?),
            start_period: Some(self.nanoseconds(frame, probe.start_period.as_ref(), second(0)).await?),
            start_interval: Some(self.nanoseconds(frame, probe.start_interval.as_ref(), second(5)).await?),
            retries: Some(retries),
        })
    }

    async fn nanoseconds(&self, frame: &Frame, word: Option<&Word>, default: Duration) -> Fallible<u64> {
        let Some(word) = word else { return Ok(default.as_nanos() as u64) };
        let text = self.expand(frame, word, Escapes::Remove).await?;
        let bad = || {
            Diagnostic::error(codes::BAD_FLAG, format!("`{text}` is not a length of time"))
                .with_label(word.span, "")
                .with_help("write `30s`, `1m30s` or `500ms`")
        };
        let read = humantime::parse_duration(&text).map_err(|_| bad())?;
        u64::try_from(read.as_nanos()).map_err(|_| bad())
    }

    /// `HOST name address`: an entry of `/etc/hosts` for the steps that follow.
    async fn host(&self, frame: &mut Frame, entry: &HostEntry) -> Fallible<()> {
        if frame.locally.is_some() {
            return Err(Diagnostic::error(codes::IN_LOCALLY, "HOST has no meaning in LOCALLY")
                .with_label(entry.name.span, "")
                .with_help("this machine's own /etc/hosts counts there"));
        }
        let host = self.expand(frame, &entry.name, Escapes::Remove).await?;
        let ip = self.expand(frame, &entry.address, Escapes::Remove).await?;
        if ip.parse::<IpAddr>().is_err() {
            return Err(Diagnostic::error(codes::BAD_HOST, format!("`{ip}` is not an IP address"))
                .with_label(entry.address.span, "invalid HOST ip")
                .with_help("write `HOST name 192.0.2.1` or `HOST name 2001:db8::1`"));
        }
        if host.is_empty() || host.contains(char::is_whitespace) {
            return Err(Diagnostic::error(codes::BAD_HOST, format!("`{host}` is not a host's name"))
                .with_label(entry.name.span, "")
                .with_help("write `HOST name 192.0.2.1`"));
        }
        frame.hosts.retain(|have| have.host != host);
        frame.hosts.push(HostAddress { host, ip });
        Ok(())
    }

    /// Makes the command of an image. In Earthfiles the words of a shell form are expanded one by one; in `VERSION 1`
    /// the text is left to the shell that runs it, as it is in RUN.
    async fn image_command(&self, frame: &Frame, line: &CommandLine) -> Fallible<Vec<String>> {
        let text = match line {
            CommandLine::Exec(args) => return Ok(args.iter().map(|arg| arg.value.clone()).collect()),
            CommandLine::Script(script) => return Ok(plain_shell(&script.body.raw)),
            CommandLine::Shell(text) => text,
        };
        if frame.edition() == Edition::One {
            self.warn_of_arguments(frame, line, text);
            return Ok(match frame.config.config.shell.as_deref() {
                Some(shell) if !shell.is_empty() => shell.iter().cloned().chain([text.raw.clone()]).collect(),
                _ => plain_shell(&text.raw),
            });
        }
        Ok(plain_shell(&self.words(frame, text).await?.join(" ")))
    }

    fn warn_of_arguments(&self, frame: &Frame, line: &CommandLine, text: &Word) {
        let variables = &frame.scope.variables;
        let known = variables.local.keys().chain(variables.global.keys());
        let missing = known.filter(|name| mentions(line, name) && frame.config.config.env(name).is_none());
        let missing: BTreeSet<_> = missing.cloned().collect();
        for name in missing {
            let message = format!("`${name}` is an ARG, and the image does not have it when this runs");
            let help = format!("`ENV {name}=${name}` keeps its value in the image");
            let warning = Diagnostic::warning(codes::ARGUMENT_AT_RUN_TIME, message);
            self.warn(warning.with_label(text.span, "runs in the finished image").with_help(help));
        }
    }
}
