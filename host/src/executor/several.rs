//! Work that several devices share: each has as much of it, in a row, as the next, so that no result depends on which of
//! them is faster.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Which of `count` pieces of work device `index` of so many `devices` has.
pub fn share(count: usize, devices: usize, index: usize) -> Range<usize> {
    count * index / devices..count * (index + 1) / devices
}

/// Runs `serve` for each device on a thread of its own. What they found is in their order; of several errors the first one
/// in that order is returned. A thread that panics counts as `ended`. The flag is set once one of them has failed: the
/// others may then return at once whatever they have, which nobody reads.
pub fn serve_each<D: Sync, T: Send, E: Send>(
    devices: &[D],
    serve: impl Fn(usize, &D, &AtomicBool) -> Result<T, E> + Sync,
    ended: impl Fn() -> E,
) -> Result<Vec<T>, E> {
    let failed = &AtomicBool::new(false);
    let serve = &|index: usize, device: &D| {
        let mut guard = SetUnlessDone { flag: failed, done: false };
        let found = serve(index, device, failed);
        guard.done = found.is_ok();
        found
    };
    let found: Vec<Result<T, E>> = std::thread::scope(|scope| {
        let threads = devices.iter().enumerate().map(|(index, device)| scope.spawn(move || serve(index, device)));
        // All of them run before the first is waited for.
        let threads: Vec<_> = threads.collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(ended()))).collect()
    });
    found.into_iter().collect()
}

/// Sets a flag when it is dropped, by a panic too, unless all went well.
struct SetUnlessDone<'a> {
    flag: &'a AtomicBool,
    done: bool,
}

impl Drop for SetUnlessDone<'_> {
    fn drop(&mut self) {
        self.flag.fetch_or(!self.done, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_is_one_device_s() {
        for (count, devices) in [(0, 1), (1, 3), (7, 3), (6, 3), (5, 1)] {
            let pieces: Vec<usize> = (0..devices).flat_map(|index| share(count, devices, index)).collect();
            assert_eq!(pieces, (0..count).collect::<Vec<_>>());
        }
    }

    #[test]
    fn what_is_found_is_in_the_order_of_the_devices_and_so_are_errors() {
        let serve = |index: usize, &device: &u8, _: &AtomicBool| match device {
            0 => Err("failed"),
            1 => panic!("on purpose"),
            _ => Ok(index),
        };
        assert_eq!(serve_each(&[2, 2, 3], serve, || "ended"), Ok(vec![0, 1, 2]));
        assert_eq!(serve_each(&[2, 1, 0], serve, || "ended"), Err("ended"));
        assert_eq!(serve_each(&[2, 0, 1], serve, || "ended"), Err("failed"));
    }

    #[test]
    fn what_fails_is_known_to_the_others() {
        let serve = |_: usize, &device: &u8, failed: &AtomicBool| match device {
            0 => Err("failed"),
            1 => panic!("on purpose"),
            _ => {
                while !failed.load(Ordering::Relaxed) {
                    std::thread::yield_now();
                }
                Ok(())
            }
        };
        assert_eq!(serve_each(&[2, 0, 2], serve, || "ended"), Err("failed"));
        assert_eq!(serve_each(&[2, 1, 2], serve, || "ended"), Err("ended"));
    }
}
