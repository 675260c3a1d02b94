//! What clients send to the collector's socket.

use windrow_store::Layout;
use windrow_store::fuzzing::answers_to_client;

use crate::shared::{path, seeds as seeds_of};

/// The longest line that is taken, in bytes, without its end.
const LINE_LEN_MAX: usize = 4095;

/// Every line gets one byte, up to the first that is too long.
pub fn check(bytes: &[u8]) {
    // A socket takes no more at once.
    let bytes = &bytes[..bytes.len().min(100_000)];
    let layout = Layout {
        store_dir: "/nix/store".to_owned(),
        real_store_dir: "/nonexistent/store".into(),
        state_dir: "/nonexistent/var".into(),
        log_dir: "/nonexistent/log".into(),
    };
    let answers = answers_to_client(&layout, bytes).expect("there are sockets");
    let mut lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    lines.pop();
    let taken = lines.iter().take_while(|line| line.len() <= LINE_LEN_MAX);
    assert_eq!(answers, vec![b'1'; taken.count()]);
}

/// Roots, nonsense, and lines as long as they may be.
pub fn seeds() -> Vec<Vec<u8>> {
    let (a, b) = (path("a"), path("b"));
    seeds_of([
        format!("{a}\n{b}\n{a}\n"),
        format!("{a}/bin\n\n\u{fffd}\n/x\n{b}"),
        format!("{}\n{a}\n", "x".repeat(4095)),
        format!("{}\n{a}\n", "x".repeat(4096)),
        "\n".repeat(5000),
    ])
}
