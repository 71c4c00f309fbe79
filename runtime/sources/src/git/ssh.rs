//! How git calls ssh.

use super::{Connection, Remote};

/// Ours: it asks nobody, and knows none of the user's settings.
const OURS: &str = "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=30 \
                    -o ServerAliveInterval=20 -o IdentityFile=/dev/null";

/// Returns the command by which git reaches a repository: the user's for its host, or ours. A definition's known hosts hold in
/// both.
pub(super) fn command(connection: &Connection<'_>, remote: &Remote) -> String {
    let own = connection.ssh_command.as_ref().filter(|(origin, _)| *origin == remote.origin());
    let mut ssh = own.map_or(OURS, |(_, command)| command.as_str()).to_owned();
    if let Some(known) = connection.known_hosts {
        // ssh divides at blanks and fills in what stands behind a percent sign.
        let known = known.display().to_string().replace('%', "%%");
        let known = shell_word(&format!("UserKnownHostsFile=\"{known}\""));
        ssh.push_str(&format!(" -o GlobalKnownHostsFile=/dev/null -o {known}"));
    }
    ssh
}

/// Quotes a text for the shell that git hands `GIT_SSH_COMMAND` to.
fn shell_word(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}
