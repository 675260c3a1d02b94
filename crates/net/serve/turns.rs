//! Who has what there is a limit to: how much of it one client may have, and threads that have
//! their turn as long as they work.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};
use windrow_sys::interrupt::Stop;
use windrow_sys::mutex;

/// Keeps one client from having all of something that there is a limit to.
#[derive(Debug)]
pub(super) struct Clients {
    each: usize,
    known: Mutex<HashMap<IpAddr, Arc<Semaphore>>>,
}

impl Clients {
    /// Where there is so much for all, each may have seven eighths of it. All who come through one
    /// proxy have one address, so less would be too little.
    pub(super) fn sharing(all: usize) -> Self {
        Self {
            each: (all - all / 8).max(1),
            known: Mutex::default(),
        }
    }

    /// What is left for whoever is at that address.
    pub(super) fn share_of(&self, address: IpAddr) -> Arc<Semaphore> {
        let mut known = mutex::lock(&self.known);
        // Whoever has something of it, or waits for it, has the semaphore.
        known.retain(|_, share| Arc::strong_count(share) > 1);
        let share = known.entry(network(address));
        Arc::clone(share.or_insert_with(|| Arc::new(Semaphore::new(self.each))))
    }
}

/// What all addresses have in common that one client has: of IPv6 it has as many as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            const HOST: u32 = 64;
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> HOST << HOST))
        }
        address => address,
    }
}

/// While it lives, somebody wants what threads do for it.
#[derive(Debug, Default)]
pub(super) struct Wanted(Stop);

impl Wanted {
    /// Has a thread do that, which gives its turn back with what came of it. When nobody wants that
    /// any more the thread ends as soon as it can, and its turn with it.
    pub(super) fn spawn<T: Send + 'static, U: Send + 'static>(
        &self,
        turn: T,
        work: impl FnOnce() -> U + Send + 'static,
    ) -> JoinHandle<(U, T)> {
        let stop = self.0.clone();
        spawn_blocking(move || {
            let _entered = stop.enter();
            (work(), turn)
        })
    }
}

impl Drop for Wanted {
    fn drop(&mut self) {
        self.0.set();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use windrow_sys::interrupt;

    use super::*;

    #[test]
    fn one_client_leaves_something_to_others() {
        for (all, each) in [(0, 1), (1, 1), (2, 2), (8, 7), (256, 224), (4096, 3584)] {
            let clients = Clients::sharing(all);
            let share = |address: &str| clients.share_of(address.parse().unwrap());
            let ours = share("192.0.2.1");
            assert_eq!(ours.available_permits(), each);
            let _taken = ours.try_acquire_many(u32::try_from(each).unwrap()).unwrap();
            assert_eq!(share("192.0.2.1").available_permits(), 0);
            assert_eq!(share("::ffff:192.0.2.1").available_permits(), 0);
            assert_eq!(share("192.0.2.2").available_permits(), each);
        }
    }

    #[test]
    fn a_network_of_ipv6_is_one_client_and_who_has_nothing_is_forgotten() {
        let clients = Clients::sharing(8);
        let share = |address: &str| clients.share_of(address.parse().unwrap());
        let taken = share("2001:db8::1").try_acquire_owned().unwrap();
        assert_eq!(share("2001:db8::ffff:1").available_permits(), 6);
        assert_eq!(share("2001:db8:0:1::1").available_permits(), 7);
        assert_eq!(mutex::lock(&clients.known).len(), 2);
        drop(taken);
        share("192.0.2.1");
        assert_eq!(mutex::lock(&clients.known).len(), 1);
    }

    #[test]
    fn a_thread_has_its_turn_until_it_ends_and_ends_when_nobody_wants_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build();
        runtime.unwrap().block_on(async {
            let turns = Arc::new(Semaphore::new(1));
            let turn = Arc::clone(&turns).try_acquire_owned().unwrap();
            let wanted = Wanted::default();
            let (go_on, may_go_on) = mpsc::channel();
            let thread = wanted.spawn(turn, move || {
                while interrupt::check().is_ok() {
                    std::thread::yield_now();
                }
                may_go_on.recv()
            });
            drop((thread, wanted));
            assert!(Arc::clone(&turns).try_acquire_owned().is_err());
            go_on.send(()).unwrap();
            drop(turns.acquire().await.unwrap());
        });
    }
}
