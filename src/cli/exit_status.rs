//! What the exit statuses mean, for the manual pages and the reference of commands.

/// Exit statuses of every command, and when a command ends with them. Those of `nix-store` are the
/// same; that of `shell` is the program's, once that runs.
pub(super) const EXIT_STATUSES: &[(&str, &str)] = &[
    ("0", "everything asked for is valid, or done"),
    (
        "1",
        "an error; a transient build failure, a log over its limit, a missing or rejected output",
    ),
    (
        "100",
        "a builder failed, was killed by a signal, cannot be executed, or is known to fail",
    ),
    ("101", "a build took too long, or was silent for too long"),
    (
        "102",
        "a fixed output has another hash than it should (103: and something timed out)",
    ),
    (
        "104",
        "with --check, an output came out different; together with other failures 96 plus 1 for \
         timeouts, 2 for hashes, 4 for any failure above, 8 for differences",
    ),
    (
        "any",
        "with shell, that of the program that ran, or 128 and the number of the signal that ended it",
    ),
    (
        "129, 130, 143",
        "interrupted by SIGHUP, SIGINT, SIGTERM; serve-cache by the second of them, while after \
         the first it ends in good order, with 0",
    ),
];
