//! One piece of work for each item, several at once.

use std::sync::Mutex;
use std::thread::{self, Builder};

use super::locked;

/// How many requests may be under way at once.
const THREADS: usize = 16;

/// Does `work` for each item, and returns the results in the items' order. As long as `is_safe`
/// says no, one at a time; then up to 16 at once. Items are made one after the other, each only
/// when a thread is ready for it.
pub(super) fn each<T: Send, R: Send>(
    items: impl Iterator<Item = T> + Send,
    is_safe: impl Fn() -> bool,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let mut items = items.fuse();
    let mut alone = Vec::new();
    while !is_safe() {
        match items.next() {
            Some(item) => alone.push(work(item)),
            None => return alone,
        }
    }
    let mut items = items.enumerate().peekable();
    if items.peek().is_none() {
        return alone;
    }
    let items = Mutex::new(items);
    let results = Mutex::new(Vec::new());
    let take_turns = || {
        loop {
            // A statement of its own: the next thread may go on before the work is done.
            let next = locked(&items).next();
            let Some((index, item)) = next else { return };
            let result = work(item);
            locked(&results).push((index, result));
        }
    };
    thread::scope(|scope| {
        for _ in 1..THREADS {
            // Where the system gives no further thread, those that there are do the work.
            let _ = Builder::new().spawn_scoped(scope, take_turns);
        }
        take_turns();
    });
    let mut results = results.into_inner().unwrap_or_else(|poison| poison.into_inner());
    results.sort_by_key(|(index, _)| *index);
    alone.extend(results.into_iter().map(|(_, result)| result));
    alone
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn results_come_in_the_order_of_the_items() {
        for safe in [true, false] {
            let doubled = each(0..1000, || safe, |number| 2 * number);
            assert_eq!(doubled, (0..2000).step_by(2).collect::<Vec<_>>());
        }
        assert!(each(0..0, || true, |number: u8| number).is_empty());
    }

    #[test]
    fn several_are_at_work_at_once_when_that_is_safe() {
        let all_here = Barrier::new(THREADS);
        each(0..THREADS, || true, |_| all_here.wait());
    }

    #[test]
    fn one_at_a_time_until_it_is_safe() {
        let (active, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        each(
            0..100,
            || answered.load(Ordering::SeqCst) >= 50,
            |_| {
                let at_once = active.fetch_add(1, Ordering::SeqCst) + 1;
                let answers = answered.fetch_add(1, Ordering::SeqCst);
                assert!(answers > 50 || at_once == 1 || answers == 50, "{answers}");
                active.fetch_sub(1, Ordering::SeqCst);
            },
        );
    }
}
