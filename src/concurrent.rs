//! Work on several threads, all of which end before the call returns.
//!
//! Where the system refuses a further thread, the existing ones do the work, at worst the caller's own alone.

use std::panic;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Builder};

/// How many requests may be under way at once.
const REQUESTS: usize = 16;

/// Does `work` for all `items` at once, and returns the results in the items' order. An item is dropped as soon as its
/// own work is done. A panic in one thread is resumed in the caller.
pub(crate) fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = items.len();
    map_on(threads, items, work)
}

/// Does `work` for all `items` like [`map`], where each is a request to a server: one at a time until `may_parallelise`
/// returns true, then up to 16 at once. So a server that does not answer costs one timeout, not one for each thread.
pub(crate) fn map_requests<T: Send, R: Send>(
    items: Vec<T>,
    may_parallelise: impl Fn() -> bool,
    work: impl Fn(T) -> R + Sync,
) -> Vec<R> {
    let mut items = items.into_iter();
    let mut results = Vec::new();
    while !may_parallelise() {
        match items.next() {
            Some(item) => results.push(work(item)),
            None => return results,
        }
    }
    results.extend(map_on(REQUESTS, items.collect(), work));
    results
}

/// Does `work` for the items on at most this many threads, the caller's own among them.
fn map_on<T: Send, R: Send>(threads: usize, items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    let threads = threads.min(items.len());
    let items = Mutex::new(items.into_iter().enumerate());
    let work_off = || {
        let mut results = Vec::new();
        loop {
            // A statement of its own, so that the lock is not held during the work.
            let next = locked(&items).next();
            let Some((index, item)) = next else { return results };
            results.push((index, work(item)));
        }
    };
    let mut results = thread::scope(|scope| {
        let started: Vec<_> = (1..threads)
            .filter_map(|_| Builder::new().spawn_scoped(scope, work_off).ok())
            .collect();
        let mut results = work_off();
        for thread in started {
            results.extend(thread.join().unwrap_or_else(|panic| panic::resume_unwind(panic)));
        }
        results
    });
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Locks a mutex, even after a thread that held it has panicked: only for values that are never half changed.
pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Barrier;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn all_run_at_once_and_keep_their_order() {
        let all_here = Barrier::new(40);
        let doubled = map((0..40).collect(), |number| {
            all_here.wait();
            number * 2
        });
        assert_eq!(doubled, (0..80).step_by(2).collect::<Vec<_>>());
        assert_eq!(map(Vec::new(), |_: u8| 0), [0; 0]);
    }

    #[test]
    fn results_of_requests_come_in_the_order_of_the_items() {
        for parallel in [true, false] {
            let doubled = map_requests((0..1000).collect(), || parallel, |number| 2 * number);
            assert_eq!(doubled, (0..2000).step_by(2).collect::<Vec<_>>());
        }
        assert!(map_requests(Vec::new(), || true, |number: u8| number).is_empty());
    }

    #[test]
    fn several_requests_are_under_way_at_once_when_that_is_safe() {
        let all_here = Barrier::new(REQUESTS);
        map_requests((0..REQUESTS).collect(), || true, |_| all_here.wait());
    }

    #[test]
    fn one_request_at_a_time_until_it_is_safe() {
        let (active, answered) = (AtomicUsize::new(0), AtomicUsize::new(0));
        map_requests(
            (0..100).collect(),
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
