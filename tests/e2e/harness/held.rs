//! The write lock of a world's database, held by sqlite3: nothing is registered or deleted
//! while it is held.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::World;

/// The lock, until it is released.
pub(crate) struct HeldDatabase {
    holder: Child,
    orders: ChildStdin,
}

impl HeldDatabase {
    /// Takes the lock, which nobody may hold.
    #[track_caller]
    pub(crate) fn new(world: &World) -> Self {
        let mut holder = Command::new("sqlite3")
            .arg(world.database())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sqlite3");
        let mut orders = holder.stdin.take().expect("a pipe");
        writeln!(orders, ".timeout 60000\nbegin immediate; select 'held';").expect("a pipe");
        let mut answer = String::new();
        let mut answers = BufReader::new(holder.stdout.take().expect("a pipe"));
        answers.read_line(&mut answer).expect("an answer");
        assert_eq!(answer, "held\n");
        Self { holder, orders }
    }

    /// Gives it back.
    pub(crate) fn release(mut self) {
        writeln!(self.orders, "commit;").expect("a pipe");
        drop(self.orders);
        self.holder.wait().expect("sqlite3");
    }
}
