//! windrow beside other tools on the same work, taking turns, as ratios of medians. Run small by
//! `cargo test`.
//!
//!     cargo bench --bench side_by_side [-- WHICH]
//!
//! WHICH is `layered [N…]`, `chain [N…]`, `sandboxed [N…]`, `plan`, `fidelity`, `idle [N…]`,
//! `hooks [N…]`, `simulate [N…]`, `ticks [N…]`, `store [N]` or `caches [PART…] [N]`.

mod caches;
mod chain;
mod common;
mod fidelity;
mod hooks;
mod idle;
mod layered;
mod plan;
mod sandboxed;
mod simulate;
mod store;
mod ticks;

use common::named;
#[cfg(feature = "huge-pages")]
use windrow::huge_pages::HugePages;

// As the program has it.
#[cfg(feature = "huge-pages")]
#[global_allocator]
static ALLOCATOR: HugePages = HugePages;

fn main() {
    let all = ![
        "layered",
        "chain",
        "sandboxed",
        "plan",
        "fidelity",
        "idle",
        "hooks",
        "simulate",
        "ticks",
        "store",
        "caches",
    ]
    .into_iter()
    .any(named);
    if all || named("layered") {
        layered::run_all();
    }
    if all || named("chain") {
        chain::run_all();
    }
    if all || named("sandboxed") {
        sandboxed::run_all();
    }
    if all || named("plan") {
        plan::run_all();
    }
    if all || named("fidelity") {
        fidelity::run_all();
    }
    if all || named("idle") {
        idle::run_all();
    }
    if all || named("hooks") {
        hooks::run_all();
    }
    if all || named("store") {
        store::run_all();
    }
    if all || named("caches") {
        caches::run_all();
    }
    if all || named("simulate") {
        simulate::run_all();
    }
    if all || named("ticks") {
        ticks::run_all();
    }
}
