//! What happens to a build.
