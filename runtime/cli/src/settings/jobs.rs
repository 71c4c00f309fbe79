//! How many steps run at once.
//!
//! In: what is typed, the environment, the user's files, and how many processors there are. Out: a number of steps.

use std::num::NonZeroUsize;

use super::SettingsError;
use super::config::Config;
use crate::args::BuildOptions;
use crate::environment::Environment;

/// Steps at once where nobody says how many and there are fewer processors: most steps wait some of their time, for the
/// network or a disk. What they take of processors the kernel shares out; what they take of memory is held by the budget.
const FEWEST: NonZeroUsize = NonZeroUsize::new(8).expect("is not 0");

/// Settles how many steps may run at once.
pub(super) fn jobs(
    options: &BuildOptions,
    config: &Config,
    environment: &Environment,
) -> Result<NonZeroUsize, SettingsError> {
    let named = match options.jobs {
        Some(jobs) => Some(jobs),
        None => environment.parsed("RB_JOBS", |text| text.parse().ok())?,
    };
    Ok(named.or(config.jobs).unwrap_or(environment.processors.max(FEWEST)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::tests::environment;

    #[test]
    fn few_processors_are_no_reason_to_wait() {
        let settled = |processors: usize, variables: &[(&'static str, &str)]| {
            let processors = NonZeroUsize::new(processors).expect("is not 0");
            let mut environment = environment(variables);
            environment.processors = processors;
            jobs(&BuildOptions::default(), &Config::default(), &environment).expect("settles").get()
        };
        assert_eq!((settled(1, &[]), settled(8, &[]), settled(64, &[])), (8, 8, 64));
        assert_eq!(settled(64, &[("RB_JOBS", "1")]), 1);
    }
}
