//! What to type, in the words of docker: a secret is lent by its id, and no value of it stands on a command line.

use rb_api::SolveError;

use crate::report::Failure;

/// How a secret is given to a target of a Buildfile, as help has it.
const OF_TARGETS: &str = "`--secret ";

/// Returns a failure whose help names options as `rb build` has them.
pub(super) fn as_docker_has_it(failure: Failure) -> Failure {
    match failure {
        Failure::Diagnostics { mut items, sources } => {
            for item in &mut items {
                // What a gateway helps with stands in the message.
                item.message = told(&item.message);
                item.help = item.help.take().map(|help| told(&help));
            }
            Failure::Diagnostics { items, sources }
        }
        Failure::Solve { mut error, definitions } => {
            of_solve(&mut error);
            Failure::Solve { error, definitions }
        }
        Failure::Said { kind, message, help } => {
            Failure::Said { kind, message: told(&message), help: help.map(|help| told(&help)) }
        }
        Failure::With { failure, about } => {
            Failure::With { failure: Box::new(as_docker_has_it(*failure)), about }
        }
        Failure::Several(failures) => Failure::Several(failures.into_iter().map(as_docker_has_it).collect()),
        Failure::Interrupted(_) | Failure::Unheard => failure,
    }
}

fn of_solve(error: &mut SolveError) {
    match error {
        SolveError::Vertex { help, .. } | SolveError::Job { help, .. } => {
            *help = help.take().map(|help| told(&help));
        }
        SolveError::Several(errors) => errors.iter_mut().for_each(of_solve),
        SolveError::NoSuchFile { .. } | SolveError::Withheld { .. } | SolveError::Cancelled => {}
    }
}

/// What allows something, as help has it, and as docker has it.
const ALLOWED: [(&str, &str); 2] = [
    ("`--allow-privileged` (`-P`)", "`--allow security.insecure`"),
    ("`--allow-host-network`", "`--allow network.host`"),
];

/// Writes `--secret NAME=value` as docker has it, and what allows something. A token is mostly there as a variable of that name, which an id alone lends.
fn told(text: &str) -> String {
    let text = ALLOWED.iter().fold(text.to_owned(), |text, (ours, docker)| text.replace(ours, docker));
    let mut pieces = text.split(OF_TARGETS);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (spec, rest) = piece.split_once('`').unwrap_or((piece, ""));
        let written = match spec.split_once('=') {
            Some(("id", _)) | None => spec.to_owned(),
            Some((name, "TOKEN")) => format!("id={name}"),
            Some((name, _)) => format!("id={name},src=FILE"),
        };
        out.push_str(&format!("{OF_TARGETS}{written}`{rest}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_lent_as_docker_lends_them() {
        for (text, expected) in [
            (
                "give a token: `--secret A=TOKEN`, or `--secret A.h=TOKEN`",
                "give a token: `--secret id=A`, or `--secret id=A.h`",
            ),
            ("give it one: `--secret npm=value`", "give it one: `--secret id=npm,src=FILE`"),
            ("write `--secret id=NAME,src=FILE`", "write `--secret id=NAME,src=FILE`"),
            ("`--ssh default`", "`--ssh default`"),
            ("allow it: `--allow-privileged` (`-P`)", "allow it: `--allow security.insecure`"),
        ] {
            assert_eq!(told(text), expected);
        }
    }
}
