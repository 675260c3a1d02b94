//! windrow beside other tools on the same work, taking turns, as ratios of medians. Run small by `cargo test`.
//!
//!     cargo bench --bench side_by_side [-- layered [N…] | plan]

mod common;
mod layered;
mod plan;

use common::named;

fn main() {
    let all = !named("layered") && !named("plan");
    if all || named("layered") {
        layered::run_all();
    }
    if all || named("plan") {
        plan::run_all();
    }
}
