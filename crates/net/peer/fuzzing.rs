//! A way into what reads the answers of other Nixes, for a fuzz target.

use std::io::{self, Read};
use std::time::Duration;

use windrow_components::store_path::{StoreDir, StorePath};

use super::serve::Serve;
use super::wire::{Transport, Wire};
use super::worker::Worker;
use crate::error::{Fault, Kind};
use crate::narinfo::NarInfo;

/// Answers that are there already; what is sent goes nowhere.
struct Answers(io::Cursor<Vec<u8>>);

impl Read for Answers {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Transport for Answers {
    fn send(&mut self, _bytes: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn has_input(&mut self) -> io::Result<bool> {
        Ok(self.0.position() < self.0.get_ref().len() as u64)
    }

    fn set_limit(&mut self, _limit: Duration) {}
}

/// What is made of answers.
#[derive(Debug)]
pub struct Heard {
    /// What was said of paths.
    pub told: Vec<(StorePath, Option<NarInfo>)>,
    /// The archive of the first of which something was said.
    pub archive: Vec<u8>,
    /// Why nothing more was heard.
    pub failed: Option<(Kind, String)>,
}

/// Asks for these paths, and then for the archive of the first that is told of.
pub fn hear(answers: &[u8], daemon: bool, dir: &StoreDir, paths: &[StorePath]) -> Heard {
    let mut heard = Heard {
        told: Vec::new(),
        archive: Vec::new(),
        failed: None,
    };
    let answers = Answers(io::Cursor::new(answers.to_vec()));
    let wire = Wire::new(Box::new(answers), dir.clone());
    let result = match daemon {
        true => hear_daemon(wire, paths, &mut heard),
        false => hear_serve(wire, paths, &mut heard),
    };
    heard.failed = result.err().map(|fault| (fault.kind, fault.reason));
    heard
}

fn hear_serve(wire: Wire, paths: &[StorePath], heard: &mut Heard) -> Result<(), Fault> {
    let mut serve = Serve::greet(wire)?;
    serve.can_tell()?;
    serve.valid_paths(paths)?;
    serve.infos(paths, &mut |path, told| heard.tell(path, told))?;
    match heard.first() {
        Some(info) => serve.nar(&info.store_path, info.nar_size, &mut heard.archive),
        None => Ok(()),
    }
}

fn hear_daemon(wire: Wire, paths: &[StorePath], heard: &mut Heard) -> Result<(), Fault> {
    let mut worker = Worker::greet(wire)?;
    worker.valid_paths(paths)?;
    worker.infos(paths, &mut |path, told| heard.tell(path, told))?;
    match heard.first() {
        Some(info) => worker.nar(&info.store_path, info.nar_size, &mut heard.archive),
        None => Ok(()),
    }
}

impl Heard {
    fn tell(&mut self, path: &StorePath, told: Result<Option<NarInfo>, Fault>) {
        if let Ok(info) = told {
            self.told.push((path.clone(), info));
        }
    }

    fn first(&self) -> Option<NarInfo> {
        self.told.iter().find_map(|(_, info)| info.clone())
    }
}
