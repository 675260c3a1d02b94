//! windrow.
