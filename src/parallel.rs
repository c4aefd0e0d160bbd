//! Several things at once, on threads that end before the call returns.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, Builder};

/// Does `work` for all `items` at once, and returns what came of each, in their order. An item is given up as soon as
/// its own work is done.
///
/// Where the system gives no further thread, the caller's own does the rest, one after the other. A panic in one goes
/// on in the caller.
pub fn map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Sync) -> Vec<R> {
    // Whoever comes first takes the item: its thread, or the caller where there is none.
    let items: Vec<_> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
    let do_one = |item: &Mutex<Option<T>>| {
        let taken = item.lock().unwrap_or_else(PoisonError::into_inner).take();
        taken.map(&work)
    };
    let Some((first, others)) = items.split_first() else {
        return Vec::new();
    };
    thread::scope(|scope| {
        let started: Vec<_> = others
            .iter()
            .map(|item| (item, Builder::new().spawn_scoped(scope, || do_one(item))))
            .collect();
        let mut results: Vec<Option<R>> = vec![do_one(first)];
        results.extend(started.into_iter().map(|(item, thread)| match thread {
            Ok(thread) => thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => do_one(item),
        }));
        results.into_iter().flatten().collect()
    })
}

#[cfg(test)]
mod tests {
    use super::map;
    use std::sync::Barrier;

    #[test]
    fn all_run_at_once_and_keep_their_order() {
        let all_here = Barrier::new(3);
        let doubled = map(vec![1, 2, 3], |number| {
            all_here.wait();
            number * 2
        });
        assert_eq!(doubled, [2, 4, 6]);
        assert_eq!(map(Vec::new(), |_: u8| 0), [0; 0]);
    }
}
