//! Who is asked, who is waited for, and who gives a path in the end.

use super::*;

const START: Duration = Duration::ZERO;

fn paths<const N: usize>() -> [PathId; N] {
    std::array::from_fn(PathId::from_index)
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn programs(count: usize) -> Substituters {
    Substituters::new(names(&["a", "b", "c"][..count]), [])
}

/// Caches with these priorities, which are known.
fn caches(priorities: &[i64]) -> Substituters {
    let urls = (0..priorities.len()).map(|nth| format!("file:///{nth}"));
    let mut caches = Substituters::new([], urls);
    for (sub, &priority) in priorities.iter().enumerate() {
        caches.set_priority(sub, priority);
    }
    caches
}

impl Substituters {
    /// A substituter has a path.
    fn have(&mut self, sub: usize, path: PathId) {
        self.answer(sub, &[path], [(path, SubstituteInfo::default())], START);
    }

    /// A substituter lacks a path.
    fn lack(&mut self, sub: usize, path: PathId) {
        let nothing: [(PathId, Offer); 0] = [];
        self.answer(sub, &[path], nothing, START);
    }
}

#[test]
fn all_are_asked_at_once_and_once() {
    let [one, two] = paths();
    let mut known = programs(2);
    assert_eq!(known.find(one, START), Find::Asked);
    assert_eq!(known.find(one, START), Find::Asked);
    assert_eq!(known.find(two, START), Find::Asked);
    let all = vec![one, two];
    assert_eq!(known.take_questions(), [(0, all.clone()), (1, all)]);
    assert!(known.take_questions().is_empty() && known.is_waiting());
    known.answer(0, &[one, two], [(one, SubstituteInfo::default())], START);
    assert!(known.is_waiting());
    assert_eq!(known.find(one, START), Find::At(0));
    assert_eq!(known.find(two, START), Find::Asked);
    assert_eq!(known.disable(1), [one, two]);
    assert!(!known.is_waiting());
    assert_eq!(known.find(two, START), Find::Nobody);
}

#[test]
fn programs_are_tried_in_their_order_however_slow() {
    let [path] = paths();
    let mut known = programs(3);
    assert_eq!(known.find(path, START), Find::Asked);
    known.have(1, path);
    known.have(2, path);
    let late = Duration::from_secs(9);
    assert_eq!(known.find(path, late), Find::Asked);
    assert_eq!(known.next_end_of_grace(), None);
    known.lack(0, path);
    assert_eq!(known.find(path, late), Find::At(1));
    known.could_not_deliver(1, path);
    assert_eq!(known.find(path, late), Find::At(2));
    known.could_not_deliver(2, path);
    let program = true;
    assert_eq!(known.find(path, late), Find::Failed { program });
    known.retry(path, START);
    assert_eq!(known.find(path, late), Find::At(1));
}

#[test]
fn the_cache_of_the_best_priority_gives_a_path() {
    let [path] = paths();
    let mut known = caches(&[40, 30, 30]);
    assert_eq!(known.find(path, START), Find::Asked);
    for sub in [2, 0, 1] {
        known.have(sub, path);
    }
    assert_eq!(known.find(path, START), Find::At(1));
    for (failed, next) in [(1, 2), (2, 0)] {
        known.could_not_deliver(failed, path);
        assert_eq!(known.find(path, START), Find::At(next));
    }
    known.could_not_deliver(0, path);
    let program = false;
    assert_eq!(known.find(path, START), Find::Failed { program });
}

#[test]
fn a_better_cache_that_is_slow_is_waited_for_a_little() {
    let [path, other] = paths();
    let mut known = caches(&[10, 20]);
    assert_eq!(known.find(path, START), Find::Asked);
    known.have(1, path);
    assert_eq!(known.find(path, START), Find::Asked);
    assert_eq!(known.next_end_of_grace(), Some(GRACE));
    assert_eq!(known.pop_end_of_grace(GRACE / 2), None);
    assert_eq!(known.find(path, GRACE / 2), Find::Asked);
    assert_eq!(known.pop_end_of_grace(GRACE), Some(path));
    assert_eq!(known.find(path, GRACE), Find::At(1));
    // It may answer too late to be chosen, and is there when the other fails.
    known.have(0, path);
    known.could_not_deliver(1, path);
    assert_eq!(known.find(path, GRACE), Find::At(0));
    // Nobody waits for one that is worse.
    assert_eq!(known.find(other, START), Find::Asked);
    known.have(0, other);
    assert_eq!(known.find(other, START), Find::At(0));
    assert_eq!(known.next_end_of_grace(), None);
}

#[test]
fn one_that_was_waited_for_in_vain_is_waited_for_again_when_it_has_answered() {
    let [path, second, third] = paths();
    let mut known = caches(&[10, 20]);
    for path in [path, second, third] {
        assert_eq!(known.find(path, START), Find::Asked);
        known.have(1, path);
    }
    assert_eq!(known.find(path, START), Find::Asked);
    assert_eq!(known.find(path, GRACE), Find::At(1));
    assert_eq!(known.find(second, GRACE), Find::At(1));
    known.lack(0, path);
    assert_eq!(known.find(third, GRACE), Find::Asked);
}

#[test]
fn a_cache_that_has_not_told_its_priority_may_be_better() {
    let [path] = paths();
    let mut known = Substituters::new([], names(&["x:", "y:"]));
    known.set_priority(0, 0);
    assert_eq!(known.find(path, START), Find::Asked);
    known.have(0, path);
    assert_eq!(known.find(path, START), Find::Asked);
    known.set_priority(1, 5);
    assert_eq!(known.find(path, START), Find::At(0));
}

#[test]
fn one_that_fails_again_and_again_is_left_out() {
    let [one, two, three] = paths();
    let mut known = caches(&[10, 20]);
    for path in [one, two, three] {
        assert_eq!(known.find(path, START), Find::Asked);
    }
    known.give_no_answer(0, one);
    assert_eq!(known.note_failure(0, false, START), None);
    known.give_no_answer(0, two);
    assert_eq!(known.note_failure(0, false, START), None);
    assert_eq!(
        known.note_failure(0, false, START),
        Some(Duration::from_secs(60))
    );
    assert_eq!(known.stop_waiting(0), [three]);
    known.have(1, one);
    known.lack(1, two);
    known.lack(1, three);
    assert_eq!(known.find(one, START), Find::At(1));
    assert_eq!(known.find(two, START), Find::Nobody);
    assert_eq!(known.find(three, START), Find::Nobody);
    // What it gave no answer for is asked once more for whoever asks anew.
    let later = Duration::from_secs(60);
    assert_eq!(known.find(two, later), Find::Nobody);
    known.retry(two, START);
    assert_eq!(known.find(two, later), Find::Asked);
    assert_eq!(known.find(three, later), Find::Asked);
    assert_eq!(known.take_questions()[0], (0, vec![two, three]));
}

#[test]
fn that_a_cache_lacks_a_path_is_not_believed_for_ever() {
    let [path] = paths();
    let second = Duration::from_secs;
    let mut known = Substituters::new(names(&["a"]), names(&["x:"])).lacking_for(second(10));
    assert_eq!(known.find(path, START), Find::Asked);
    known.lack(0, path);
    known.lack(1, path);
    known.take_questions();
    known.retry(path, second(9));
    assert_eq!(known.find(path, second(9)), Find::Nobody);
    // Who looks for it now has an answer.
    assert_eq!(known.find(path, second(10)), Find::Nobody);
    known.retry(path, second(10));
    assert_eq!(known.find(path, second(10)), Find::Asked);
    assert_eq!(known.take_questions(), [(1, vec![path])]);
    known.have(1, path);
    assert_eq!(known.find(path, second(99)), Find::At(1));
    known.forget(1, path);
    assert_eq!(known.find(path, second(99)), Find::Asked);
}

#[test]
fn an_answer_that_is_not_believed_for_any_time_is_one_nevertheless() {
    let [path] = paths();
    let mut known = Substituters::new(names(&[]), names(&["x:"])).lacking_for(Duration::ZERO);
    known.retry(path, START);
    assert_eq!(known.find(path, START), Find::Asked);
    known.lack(0, path);
    assert_eq!(known.find(path, START), Find::Nobody);
    assert_eq!(known.find(path, Duration::MAX), Find::Nobody);
    known.retry(path, START);
    assert_eq!(known.find(path, START), Find::Asked);
}
