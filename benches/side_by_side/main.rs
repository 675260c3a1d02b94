//! windrow beside other tools on the same work, taking turns, as ratios of medians. Run small by `cargo test`.
//!
//!     cargo bench --bench side_by_side [-- layered [N…] | plan]

mod common;
mod layered;
mod plan;

fn main() {
    let named = |name: &str| std::env::args().any(|arg| arg == name);
    let all = !named("layered") && !named("plan");
    if all || named("layered") {
        layered::run_all();
    }
    if all || named("plan") {
        plan::run_all();
    }
}
