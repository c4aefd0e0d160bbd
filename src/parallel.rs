//! Several things at once, on threads that end before the call returns.

use std::thread::{self, Builder};

/// Does `work` for all `items` at once, and returns what came of each, in their order.
///
/// Where the system gives no further thread, the caller's own does the rest, one after the other. A panic in one goes
/// on in the caller.
pub fn map<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let Some((first, others)) = items.split_first() else {
        return Vec::new();
    };
    let work = &work;
    thread::scope(|scope| {
        let started: Vec<_> = others
            .iter()
            .map(|item| (item, Builder::new().spawn_scoped(scope, move || work(item))))
            .collect();
        let mut results = vec![work(first)];
        results.extend(started.into_iter().map(|(item, thread)| {
            match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => work(item),
            }
        }));
        results
    })
}

#[cfg(test)]
mod tests {
    use super::map;
    use std::sync::Barrier;

    #[test]
    fn all_run_at_once_and_keep_their_order() {
        let all_here = Barrier::new(3);
        let doubled = map(&[1, 2, 3], |number| {
            all_here.wait();
            number * 2
        });
        assert_eq!(doubled, [2, 4, 6]);
        assert_eq!(map(&[], |_: &u8| 0), [0; 0]);
    }
}
