//! A binary cache that paths are copied into: what it is, what it has, and what the file of answers
//! is to know of it.

use std::fs;
use std::path::{Path, PathBuf};

use crossbeam_channel::{RecvTimeoutError, unbounded};
use windrow_components::store_path::StoreDir;
use windrow_store::signer::Signer;
use windrow_store::{Layout, PathInfo};
use windrow_sys::interrupt;

use super::budget::Budget;
use super::pack::{MEMORY, Packing, much_memory};
use super::uploads::{Beside, Uploads};
use super::{CopyError, Destination, Event, Outcome};
use crate::cache_info::CacheInfo;
use crate::client::{self, Client};
use crate::compression::Compression;
use crate::content_type;
use crate::lookup::{CacheRow, Known, Lookup, Ttl};
use crate::narinfo::NarInfo;
use crate::params::Params;
use crate::remote::{Remote, Source};
use crate::store_url::{Kind, StoreUrl};

/// How long the file that a cache has about itself may be, in bytes.
const CACHE_INFO_MAX: u64 = 64 << 10;
/// How many questions are under way at a time.
const ASKED_AT_ONCE: usize = 500;
/// How many answers are written down at once.
const WRITTEN_TOGETHER: usize = 500;

/// How a cache is reached and written.
#[derive(Debug, Clone)]
pub struct Config {
    /// How it is reached.
    pub client: client::Config,
    /// The store directory of the paths.
    pub store_dir: StoreDir,
    /// The directory with what caches are known to have; nothing is written down without one.
    pub lookup_dir: Option<PathBuf>,
    /// How long that is believed.
    pub ttl: Ttl,
    /// Where there is room for archives until they are uploaded.
    pub scratch_dir: PathBuf,
}

/// A binary cache that can be written.
pub struct BinaryCache {
    remote: Remote,
    packing: Packing,
    beside: Beside,
    /// Where it is kept what it has, if that is.
    answers: Option<Answers>,
}

impl BinaryCache {
    /// Opens the cache of that URL, and makes it one if nothing is there yet. The URL's parameters
    /// say how paths are compressed and who signs them.
    ///
    /// # Errors
    /// When it can't be reached or written, is one for other stores, or a parameter is no good.
    pub fn open(url: &StoreUrl, config: &Config) -> Result<Self, CopyError> {
        let client = Client::new(config.client.clone())?;
        let remote = Remote::open(url, &client)?;
        let mut packing = packing(url, config)?;
        if let Kind::File(dir) = &url.kind {
            prepare(dir)?;
            packing.scratch_dir = dir.join("nar");
            packing.cache_dir = Some(dir.clone());
        }
        let info = introduce(&remote, url, &config.store_dir);
        let info = info.map_err(CopyError::or_interrupted)?;
        let answers = match (&url.kind, &config.lookup_dir) {
            (Kind::File(_), _) | (_, None) => None,
            (_, Some(dir)) => Some(Answers::open(dir, config, (&url.key(), &info))),
        };
        Ok(Self {
            remote,
            beside: Beside {
                listings: url.params.write_nar_listing,
                debug_info: url.params.index_debug_info,
            },
            packing,
            answers,
        })
    }

    fn narinfo(&self, path: &str) -> Result<String, CopyError> {
        let path = self.packing.store_dir.parse(path)?;
        Ok(format!("{}.narinfo", path.hash_part()))
    }

    /// Which of the paths the cache itself says that it has: what is known from before does not
    /// count, for somebody may have deleted it.
    fn look_for(&self, paths: &[&str]) -> Result<Vec<bool>, CopyError> {
        let mut has = vec![false; paths.len()];
        let (tell, told) = unbounded();
        let mut tickets = Vec::with_capacity(paths.len());
        let mut answered = 0;
        while answered < paths.len() {
            while tickets.len() < paths.len() && tickets.len() - answered < ASKED_AT_ONCE {
                let (at, tell) = (tickets.len(), tell.clone());
                let name = self.narinfo(paths[at])?;
                let done = move |there| drop(tell.send((at, there)));
                tickets.push(Some(self.remote.exists(&name, done)));
            }
            match told.recv_timeout(interrupt::SLICE) {
                Ok((at, there)) => {
                    has[at] = there.map_err(|error| CopyError::from(error).or_interrupted())?;
                    tickets[at] = None;
                    answered += 1;
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            interrupt::check().map_err(CopyError::Interrupted)?;
        }
        Ok(has)
    }
}

impl Destination for BinaryCache {
    fn has(&mut self, paths: &[&str]) -> Result<Vec<bool>, CopyError> {
        let has = self.look_for(paths)?;
        if let Some(answers) = &mut self.answers {
            let there = paths.iter().zip(&has).filter(|(_, has)| **has);
            let parts = there.filter_map(|(path, _)| self.packing.store_dir.parse(path).ok());
            let parts: Vec<String> = parts.map(|it| it.hash_part().to_owned()).collect();
            answers.are_there(&parts);
        }
        Ok(has)
    }

    fn take(
        &mut self,
        paths: &[PathInfo],
        lacking: Vec<(usize, String)>,
        from: &Layout,
        outcome: &mut Outcome,
        tell: &mut dyn FnMut(Event<'_>),
    ) {
        let mut answers = self.answers.as_mut();
        let uploads = Uploads {
            remote: &self.remote,
            packing: &self.packing,
            beside: self.beside,
            paths,
            from,
            lacking,
            told: &mut |info| {
                if let Some(answers) = &mut answers {
                    answers.note(info);
                }
            },
            tell,
        };
        uploads.run(outcome);
        if let Some(answers) = &mut self.answers {
            answers.write_down();
            for warning in answers.lookup.take_warnings() {
                tell(Event::Warning(&warning));
            }
        }
    }
}

/// How paths are packed for the cache of that URL.
fn packing(url: &StoreUrl, config: &Config) -> Result<Packing, CopyError> {
    let Params {
        compression,
        compression_level,
        parallel_compression,
        ..
    } = url.params;
    let compression = compression.unwrap_or(Compression::Xz);
    let levels = compression.levels();
    if let Some(level) = compression_level
        && compression != Compression::None
        && !levels.contains(&level)
    {
        let (least, most) = levels.into_inner();
        return Err(CopyError::BadParameter {
            url: url.to_string(),
            reason: format!(
                "its parameter 'compression-level' is {level}, and {compression} has levels from \
                 {least} to {most}"
            ),
        });
    }
    let mut signer = Signer::new(&url.params.secret_keys);
    let memory = Budget::new(match parallel_compression {
        Some(true) => much_memory(),
        // Nobody has said that it may take much.
        Some(false) | None => MEMORY,
    });
    let is_parallel = parallel_compression.unwrap_or(compression == Compression::Zstd);
    Ok(Packing {
        store_dir: config.store_dir.clone(),
        compression,
        level: compression_level.filter(|_| compression != Compression::None),
        parallel: is_parallel.then_some(memory.total()),
        memory,
        scratch_dir: config.scratch_dir.clone(),
        cache_dir: None,
        keys: signer.load()?.to_vec(),
        lists: url.params.write_nar_listing || url.params.index_debug_info,
    })
}

/// Makes a directory what a cache is written into.
fn prepare(dir: &Path) -> Result<(), CopyError> {
    let nar = dir.join("nar");
    let made = fs::create_dir_all(&nar);
    made.map_err(|error| windrow_sys::Error::io("create", nar)(error))
        .map_err(windrow_store::Error::from)?;
    Ok(())
}

/// What the cache says of itself; one that says nothing is told for which store it is, as by Nix.
fn introduce(
    remote: &Remote,
    url: &StoreUrl,
    store_dir: &StoreDir,
) -> Result<CacheInfo, CopyError> {
    let Some(file) = remote.get_now(CacheInfo::NAME, CACHE_INFO_MAX)? else {
        let text = format!("StoreDir: {store_dir}\n");
        remote.put_now(
            CacheInfo::NAME,
            Source::Bytes(text.into()),
            content_type::CACHE_INFO,
        )?;
        return Ok(CacheInfo {
            store_dir: Some(store_dir.as_str().to_owned()),
            ..CacheInfo::default()
        });
    };
    let info = CacheInfo::parse(&file).map_err(|error| CopyError::NoCache {
        url: url.to_string(),
        reason: format!("its file {}: {error}", CacheInfo::NAME),
    })?;
    match &info.store_dir {
        Some(theirs) if theirs != store_dir.as_str() => Err(CopyError::OtherStore {
            url: url.to_string(),
            theirs: theirs.clone(),
            ours: store_dir.as_str().to_owned(),
        }),
        _ => Ok(info),
    }
}

/// What the cache is known to have, for later runs.
struct Answers {
    lookup: Lookup,
    row: CacheRow,
    unwritten: Vec<NarInfo>,
}

impl Answers {
    fn open(dir: &Path, config: &Config, (key, info): (&str, &CacheInfo)) -> Self {
        let mut lookup = Lookup::open(dir, &config.store_dir, config.ttl);
        let known = lookup.cache(key).filter(|row| row.info == *info);
        let row = known.unwrap_or_else(|| lookup.put_cache(key, info));
        Self {
            lookup,
            row,
            unwritten: Vec::new(),
        }
    }

    /// Paths with these hash parts are there, whatever was known before.
    fn are_there(&mut self, parts: &[String]) {
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let known = self.lookup.narinfos(&self.row, &parts);
        for (part, known) in parts.iter().zip(known) {
            if known == Known::Absent {
                self.lookup.forget(&self.row, part);
            }
        }
    }

    /// The cache has been told of a path.
    fn note(&mut self, info: &NarInfo) {
        self.unwritten.push(info.clone());
        if self.unwritten.len() >= WRITTEN_TOGETHER {
            self.write_down();
        }
    }

    fn write_down(&mut self) {
        let infos = std::mem::take(&mut self.unwritten);
        let rows = infos
            .iter()
            .map(|info| (info.store_path.hash_part(), Some(info)));
        let rows: Vec<_> = rows.collect();
        if !rows.is_empty() {
            self.lookup.put(&self.row, &rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compressing_takes_little_memory_unless_it_may_take_much() {
        let config = Config {
            client: client::Config::default(),
            store_dir: StoreDir::new("/s"),
            lookup_dir: None,
            ttl: Ttl::default(),
            scratch_dir: PathBuf::new(),
        };
        let of = |parameters: &str| {
            let url = StoreUrl::parse(&format!("file:///c?{parameters}")).unwrap();
            packing(&url, &config).unwrap()
        };
        for (parameters, much, parallel) in [
            ("", false, false),
            ("compression=zstd", false, true),
            ("compression=zstd&parallel-compression=false", false, false),
            ("parallel-compression=true", true, true),
        ] {
            let packing = of(parameters);
            let total = packing.memory.total();
            let expected = if much { much_memory() } else { MEMORY };
            assert_eq!(total, expected, "{parameters}");
            assert_eq!(packing.parallel, parallel.then_some(total), "{parameters}");
        }
    }
}
