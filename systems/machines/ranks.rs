//! Upward ranks: how far each goal is from the end of the graph, by mean times.

use windrow_components::ids::DrvId;

use super::Workload;

/// The longest path from the start of each goal to the end of the graph, its own time included,
/// where goals take as long as `time` says, and data of some size as long as `transfer` says.
pub fn upward_ranks(
    workload: &Workload,
    time: impl Fn(DrvId) -> f64,
    transfer: impl Fn(u64) -> f64,
) -> Vec<f64> {
    let mut ranks = vec![0.0_f64; workload.len()];
    for drv in workload.in_order().rev() {
        let plain = workload.successors(drv).map(|next| ranks[next.index()]);
        let mut longest = plain.fold(0.0, f64::max);
        for &data in workload.outputs(drv) {
            let sent = transfer(workload.size(data));
            for next in workload.consumers(data) {
                longest = longest.max(ranks[next.index()] + sent);
            }
        }
        ranks[drv.index()] = longest + time(drv);
    }
    ranks
}
