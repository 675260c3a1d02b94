//! Orders tasks behind their predecessors, or finds the way around that makes it impossible. Works
//! on the bare arrays; depth-first with a stack of its own, so deep graphs cost memory and never
//! the call stack.

use super::TaskId;

const UNSEEN: u8 = 0;
const OPEN: u8 = 1;
const DONE: u8 = 2;

/// All tasks, each behind its predecessors; or the tasks of a cycle, each needing the next.
pub(super) fn topological_order(
    starts: &[u32],
    predecessors: &[TaskId],
) -> Result<Vec<TaskId>, Vec<TaskId>> {
    let count = starts.len() - 1;
    let mut order = Vec::with_capacity(count);
    let mut state = vec![UNSEEN; count];
    // A task under way, and its next edge to look at.
    let mut stack: Vec<(TaskId, u32)> = Vec::new();
    for root in 0..count {
        if state[root] != UNSEEN {
            continue;
        }
        state[root] = OPEN;
        stack.push((TaskId::from_index(root), starts[root]));
        while let Some((task, next)) = stack.last_mut() {
            if *next == starts[task.index() + 1] {
                state[task.index()] = DONE;
                order.push(*task);
                stack.pop();
                continue;
            }
            let pred = predecessors[*next as usize];
            *next += 1;
            match state[pred.index()] {
                UNSEEN => {
                    state[pred.index()] = OPEN;
                    stack.push((pred, starts[pred.index()]));
                }
                OPEN => {
                    let from = stack.iter().position(|&(task, _)| task == pred);
                    let from = from.expect("an open task is on the stack");
                    return Err(stack[from..].iter().map(|&(task, _)| task).collect());
                }
                _ => {}
            }
        }
    }
    Ok(order)
}

/// Whether every task stands behind its predecessors already.
pub(super) fn is_in_order(starts: &[u32], predecessors: &[TaskId]) -> bool {
    starts.windows(2).enumerate().all(|(index, row)| {
        predecessors[row[0] as usize..row[1] as usize]
            .iter()
            .all(|pred| pred.index() < index)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(raw: &[u32]) -> Vec<TaskId> {
        raw.iter().copied().map(TaskId).collect()
    }

    #[test]
    fn predecessors_come_first() {
        // 0 needs 2, 2 needs 1.
        let order = topological_order(&[0, 1, 1, 2], &ids(&[2, 1]));
        assert_eq!(order, Ok(ids(&[1, 2, 0])));
        assert!(!is_in_order(&[0, 1, 1, 2], &ids(&[2, 1])));
    }

    #[test]
    fn a_cycle_is_found_without_what_leads_to_it() {
        // 0 needs 1, 1 needs 2, 2 needs 1.
        let order = topological_order(&[0, 1, 2, 3], &ids(&[1, 2, 1]));
        assert_eq!(order, Err(ids(&[1, 2])));
        let of_itself = topological_order(&[0, 1], &ids(&[0]));
        assert_eq!(of_itself, Err(ids(&[0])));
    }

    #[test]
    fn a_million_deep_chain_does_not_use_the_call_stack() {
        let count = 1_000_000u32;
        let starts: Vec<u32> = (0..=count).map(|index| index.min(count - 1)).collect();
        let edges: Vec<TaskId> = (1..count).map(TaskId).collect();
        let order = topological_order(&starts, &edges).unwrap();
        assert_eq!(order[0], TaskId(count - 1));
    }
}
