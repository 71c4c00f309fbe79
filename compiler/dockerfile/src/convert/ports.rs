//! `EXPOSE`: which ports an image listens on, from `[[IP:]HOST:]PORT[-PORT][/PROTOCOL]`. What stands before the last
//! colon is checked, and means nothing.

use rb_diag::{Diagnostic, Span};
use rb_oci::Empty;

use super::Work;
use crate::checks::steps;
use crate::failure::Fallible;
use crate::image::Layer;
use crate::words::Expanded;
use crate::{Word, codes, go};

impl Work<'_> {
    pub(super) fn expose(&mut self, words: &[Word]) -> Fallible<()> {
        let mut sorted: Vec<&Word> = words.iter().collect();
        sorted.sort_by(|a, b| a.value.cmp(&b.value));
        let mut exposed = Vec::new();
        for word in sorted {
            let found = self.filled(word, self.shared.lexer);
            let Some(Expanded { words: ports, .. }) = self.heard(found) else { continue };
            for port in ports {
                self.check(steps::exposed_port(self.at(), &port));
                let found = self.heard(ports_of(&port).map_err(|reason| wrong(&reason, word.span)));
                exposed.extend(found.into_iter().flatten());
            }
        }
        self.settled()?;
        for port in &exposed {
            self.state.image.config.exposed_ports.insert(port.clone(), Empty {});
        }
        self.record(format!("EXPOSE {}", go::list(&exposed)), Layer::None);
        Ok(())
    }
}

fn wrong(reason: &str, at: Span) -> Diagnostic {
    Diagnostic::error(codes::BAD_VALUE, reason)
        .with_label(at, "")
        .with_help("write `EXPOSE 80`, `EXPOSE 53/udp` or `EXPOSE 8000-8010`")
}

/// Returns `PORT/PROTOCOL` for each port that a text names.
fn ports_of(text: &str) -> Result<Vec<String>, String> {
    let (before, container) = text.rsplit_once(':').unwrap_or(("", text));
    let (address, host) = before.rsplit_once(':').unwrap_or(("", before));
    let (ports, protocol) = container.split_once('/').unwrap_or((container, ""));
    if ports.is_empty() {
        return Err(format!("invalid port: {}: no port specified", go::quote(text)));
    }
    let protocol = match protocol.to_lowercase().as_str() {
        "" => "tcp".to_owned(),
        known @ ("tcp" | "udp" | "sctp") => known.to_owned(),
        _ => return Err(format!("invalid port: {}: invalid proto: {protocol}", go::quote(text))),
    };
    let inner = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
    if !inner.is_empty() && inner.parse::<std::net::IpAddr>().is_err() {
        return Err(format!("invalid IP address: {inner}"));
    }
    let (first, last) = range(ports).ok_or_else(|| format!("invalid containerPort: {ports}"))?;
    if !host.is_empty() {
        let (host_first, host_last) = range(host).ok_or_else(|| format!("invalid hostPort: {host}"))?;
        if last - first != host_last - host_first && last != first {
            return Err(format!("invalid ranges specified for container and host Ports: {ports} and {host}"));
        }
    }
    Ok((first..=last).map(|port| format!("{port}/{protocol}")).collect())
}

/// Reads `PORT` or `PORT-PORT`.
fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::ports_of;

    #[test]
    fn ports_and_ranges_are_read() {
        for (text, expected) in [
            ("80", vec!["80/tcp"]),
            ("53/UDP", vec!["53/udp"]),
            ("90-92", vec!["90/tcp", "91/tcp", "92/tcp"]),
            ("127.0.0.1:8080:80", vec!["80/tcp"]),
            ("[::1]:8000-8001:80-81/sctp", vec!["80/sctp", "81/sctp"]),
            ("8000-8010:80", vec!["80/tcp"]),
        ] {
            assert_eq!(ports_of(text).expect(text), expected, "{text}");
        }
        for (text, reason) in [
            ("", "invalid port: \"\": no port specified"),
            ("80/http", "invalid port: \"80/http\": invalid proto: http"),
            ("70000", "invalid containerPort: 70000"),
            ("9-8", "invalid containerPort: 9-8"),
            ("x:80", "invalid hostPort: x"),
            ("1.2.3:1:1", "invalid IP address: 1.2.3"),
            ("1-2:80-85", "invalid ranges specified for container and host Ports: 80-85 and 1-2"),
        ] {
            assert_eq!(ports_of(text), Err(reason.to_owned()), "{text}");
        }
    }
}
