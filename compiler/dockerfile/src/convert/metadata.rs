//! Instructions that change the config alone: CMD, ENTRYPOINT, HEALTHCHECK, LABEL, MAINTAINER, SHELL, STOPSIGNAL, USER,
//! VOLUME.

use rb_diag::{Diagnostic, nearest};
use rb_oci::{Empty, Healthcheck as HealthcheckConfig};

use super::Work;
use crate::checks::steps;
use crate::durations::parse_duration;
use crate::failure::Fallible;
use crate::image::{Layer, with_shell};
use crate::{CommandLine, Healthcheck, Pair, Word, codes, go};

/// Signals by name, without `SIG`; real-time ones are `RTMIN+N` and `RTMAX-N`.
const SIGNALS: [&str; 36] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL", "PIPE",
    "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP", "TTIN", "TTOU",
    "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ", "RTMIN", "RTMAX",
];

impl Work<'_> {
    pub(super) fn cmd(&mut self, command: &CommandLine) -> Fallible<()> {
        let earlier = self.state.last.cmd.replace(self.at());
        self.overridden(earlier);
        let words = self.container_command(command);
        self.record(format!("CMD {}", go::quote_list(&words)), Layer::None);
        self.state.image.config.cmd = Some(words).filter(|words| !words.is_empty());
        self.state.image.config.args_escaped = true;
        Ok(())
    }

    /// Sets the entrypoint; a CMD of the base image was meant for its own one.
    pub(super) fn entrypoint(&mut self, command: &CommandLine) -> Fallible<()> {
        let earlier = self.state.last.entrypoint.replace(self.at());
        self.overridden(earlier);
        let words = self.container_command(command);
        self.record(format!("ENTRYPOINT {}", go::quote_list(&words)), Layer::None);
        self.state.image.config.entrypoint = Some(words).filter(|words| !words.is_empty());
        if self.state.last.cmd.is_none() {
            self.state.image.config.cmd = None;
        }
        Ok(())
    }

    fn overridden(&mut self, earlier: Option<rb_diag::Span>) {
        let keyword = self.command.step.keyword.value.clone();
        self.check(earlier.map(|earlier| steps::overridden(earlier, &keyword)));
    }

    fn container_command(&mut self, command: &CommandLine) -> Vec<String> {
        match command {
            CommandLine::Exec(words) => words.iter().map(|word| word.value.clone()).collect(),
            CommandLine::Shell(line) => {
                if self.state.image.config.shell.as_ref().is_none_or(Vec::is_empty) {
                    self.check([steps::json_recommended(self.at(), &self.command.step.keyword.value)]);
                }
                with_shell(&self.state.image, &line.value)
            }
        }
    }

    pub(super) fn healthcheck(&mut self, healthcheck: &Healthcheck) -> Fallible<()> {
        let earlier = self.state.last.healthcheck.replace(self.at());
        self.overridden(earlier);
        let config = health(healthcheck);
        let time = |time: Option<u64>| go::duration(time.unwrap_or(0));
        let told = format!(
            "HEALTHCHECK {{Test:{} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            go::list(&config.test),
            time(config.interval),
            time(config.timeout),
            time(config.start_period),
            time(config.start_interval),
            config.retries.unwrap_or(0)
        );
        self.state.image.config.healthcheck = Some(config);
        self.record(told, Layer::None);
        Ok(())
    }

    pub(super) fn label(&mut self, pairs: &[Pair]) -> Fallible<()> {
        let filled = self.pairs(pairs);
        self.settled()?;
        let mut told = String::from("LABEL");
        for (pair, name, value) in filled {
            let (name, value) = (name.unwrap_or_default(), value.unwrap_or_default());
            if pair.legacy {
                self.check([steps::legacy_pair(self.at(), &self.command.step.keyword.value)]);
            }
            told.push_str(&format!(" {name}={value}"));
            self.state.image.config.labels.insert(name, value);
        }
        self.record(told, Layer::None);
        Ok(())
    }

    pub(super) fn maintainer(&mut self, name: &Word) -> Fallible<()> {
        self.state.image.author = Some(name.value.clone());
        self.record(format!("MAINTAINER {}", name.value), Layer::None);
        Ok(())
    }

    pub(super) fn shell(&mut self, words: &[Word]) -> Fallible<()> {
        let words: Vec<String> = words.iter().map(|word| word.value.clone()).collect();
        self.record(format!("SHELL {}", go::list(&words)), Layer::None);
        self.state.image.config.shell = Some(words).filter(|words| !words.is_empty());
        Ok(())
    }

    pub(super) fn stopsignal(&mut self, signal: &Word) -> Fallible<()> {
        let name = self.word(signal)?;
        if !is_signal(&name) {
            let found = Diagnostic::error(codes::BAD_VALUE, format!("invalid signal: {name}"));
            let found = found.with_label(signal.span, "");
            return Err(match nearest(name.trim_start_matches("SIG"), SIGNALS) {
                Some(near) => found.with_nearest(Some(&format!("SIG{near}"))),
                None => found.with_help("write a name such as `SIGTERM`, or a number"),
            });
        }
        self.record(format!("STOPSIGNAL {name}"), Layer::None);
        self.state.image.config.stop_signal = Some(name);
        Ok(())
    }

    pub(super) fn user(&mut self, user: &Word) -> Fallible<()> {
        let user = self.word(user)?;
        self.state.files.user.clone_from(&user);
        self.record(format!("USER {user}"), Layer::None);
        self.state.image.config.user = Some(user).filter(|user| !user.is_empty());
        Ok(())
    }

    pub(super) fn volume(&mut self, volumes: &[Word]) -> Fallible<()> {
        let mut paths = Vec::new();
        for volume in volumes {
            let Some(path) = self.heard_word(volume) else { continue };
            if path.is_empty() {
                let message = "VOLUME specified can not be an empty string";
                let help = "name a folder of the image, such as `VOLUME /data`";
                let found = Diagnostic::error(codes::BAD_VALUE, message).with_label(volume.span, "");
                self.wrong.push(found.with_help(help));
                continue;
            }
            self.state.image.config.volumes.insert(path.clone(), Empty {});
            paths.push(path);
        }
        self.settled()?;
        self.record(format!("VOLUME {}", go::list(&paths)), Layer::None);
        Ok(())
    }
}

/// Returns the config of a health check. Times and retries were checked when the file was read; 0 is the default.
fn health(healthcheck: &Healthcheck) -> HealthcheckConfig {
    let Healthcheck::Command { command, interval, timeout, start_period, start_interval, retries } =
        healthcheck
    else {
        return HealthcheckConfig { test: vec!["NONE".to_owned()], ..HealthcheckConfig::default() };
    };
    let time = |word: &Option<Word>| {
        let time = word.as_ref().and_then(|word| parse_duration(&word.value));
        time.and_then(|time| u64::try_from(time).ok()).filter(|time| *time > 0)
    };
    let (kind, words): (_, Vec<String>) = match command {
        CommandLine::Exec(words) => ("CMD", words.iter().map(|word| word.value.clone()).collect()),
        CommandLine::Shell(line) => ("CMD-SHELL", vec![line.value.clone()]),
    };
    let retries = retries.as_ref().and_then(|retries| retries.value.parse::<u32>().ok());
    HealthcheckConfig {
        test: std::iter::once(kind.to_owned()).chain(words).collect(),
        interval: time(interval),
        timeout: time(timeout),
        start_period: time(start_period),
        start_interval: time(start_interval),
        retries: retries.filter(|retries| *retries > 0),
    }
}

fn is_signal(text: &str) -> bool {
    if let Ok(number) = text.parse::<u32>() {
        return number > 0;
    }
    let upper = text.to_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let within = |number: Option<&str>, most: u32| {
        number
            .and_then(|number| number.parse::<u32>().ok())
            .is_some_and(|number| (1..=most).contains(&number))
    };
    SIGNALS.contains(&name)
        || within(name.strip_prefix("RTMIN+"), 15)
        || within(name.strip_prefix("RTMAX-"), 14)
}
