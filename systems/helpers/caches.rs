//! Binary caches in the real world: the thread that asks them, and what their answers mean for the
//! substituters of a run.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use windrow_components::count::count;
use windrow_components::graph::BuildGraph;
use windrow_components::ids::PathId;
use windrow_components::substitution::SubstituteInfo;
use windrow_net::asker::{self, Answer, Asker, AtFault, DownloadError, Failing, Question};
use windrow_net::narinfo::NarInfo;
use windrow_net::trust::Distrust;
use windrow_sys::limits;
use windrow_sys::mutex::lock;

use crate::helpers::{CacheConfig, Offer, Speeds, Substituters};

/// Which share of the descriptors that are left connections to servers may take.
const CONNECTIONS_SHARE: usize = 4;

/// Called after each answer is there to be taken.
type Wake = Arc<dyn Fn() + Send + Sync>;

/// The caches of a run.
pub struct Caches {
    asker: Asker,
    wake: Arc<Mutex<Wake>>,
    /// Of which it has been told that it has paths which are not to be trusted.
    distrusted: Vec<bool>,
}

/// What an answer changed, beside what substituters are known to have.
#[derive(Debug, Default)]
pub struct News {
    /// Goals that wait for what is said of these paths may go on.
    pub wake: Vec<PathId>,
    /// What people are told.
    pub warning: Option<String>,
}

/// Has no more connections at a time than there are descriptors for.
fn bound_connections(asking: &mut asker::Config, caches: usize) {
    let most = limits::spare_descriptors() / caches.max(1) / CONNECTIONS_SHARE;
    let connections = &mut asking.client.connections;
    if *connections == 0 || *connections > most {
        *connections = most.max(1);
    }
}

fn call(wake: &Mutex<Wake>) {
    let wake = Arc::clone(&lock(wake));
    wake();
}

impl Caches {
    /// Caches that nobody has asked yet; `wake` is called after each answer is there to be taken.
    ///
    /// # Errors
    /// When there are no threads left.
    pub fn new(
        config: &CacheConfig,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let wake: Arc<Mutex<Wake>> = Arc::new(Mutex::new(Arc::new(wake)));
        let woken = Arc::clone(&wake);
        let mut asking = config.asker.clone();
        bound_connections(&mut asking, config.urls.len());
        let asker = Asker::new(asking, config.urls.clone(), move || call(&woken))?;
        Ok(Self {
            asker,
            wake,
            distrusted: vec![false; config.urls.len()],
        })
    }

    /// Has something else woken from now on, also by what has come and was not taken.
    pub(crate) fn wake_by(&self, wake: impl Fn() + Send + Sync + 'static) {
        *lock(&self.wake) = Arc::new(wake);
        self.look_again();
    }

    /// The thread that asks them.
    pub fn asker(&self) -> &Asker {
        &self.asker
    }

    /// Sees to it that there is another look at the answers soon, because some are left.
    pub fn look_again(&self) {
        if !self.asker.is_empty() {
            call(&self.wake);
        }
    }

    /// Asks one for paths.
    pub fn ask(&self, cache: usize, graph: &BuildGraph, paths: &[PathId]) {
        let question = |&path: &PathId| Question {
            token: token(path),
            path: graph.paths.store_path(path),
        };
        self.asker.ask(cache, paths.iter().map(question).collect());
    }

    /// Takes in what a cache says.
    pub fn hear(
        &mut self,
        answer: Answer,
        (substituters, graph): (&mut Substituters, &mut BuildGraph),
        now: Duration,
    ) -> News {
        let lacks: [(PathId, Offer); 0] = [];
        match answer {
            Answer::Opened { cache, priority } => {
                substituters.set_priority(substituters.of_cache(cache), priority);
                News::default()
            }
            Answer::Useless { cache, reason } => {
                let sub = substituters.of_cache(cache);
                let wake = substituters.disable(sub);
                let name = substituters.name(sub);
                let text = format!("binary cache '{name}' is not used: {reason}");
                News::new(wake, text)
            }
            Answer::Has {
                cache,
                token,
                info,
                remembered,
            } => {
                let path = path_of(token);
                let offer = Offer::of_cache(understand(graph, &info), info, remembered);
                let sub = substituters.of_cache(cache);
                substituters.answer(sub, &[path], [(path, offer)], now);
                News::of(path)
            }
            Answer::Lacks { cache, token } => {
                let path = path_of(token);
                substituters.answer(substituters.of_cache(cache), &[path], lacks, now);
                News::of(path)
            }
            Answer::Distrusted {
                cache,
                token,
                reason,
            } => {
                let path = path_of(token);
                substituters.give_no_answer(substituters.of_cache(cache), path);
                self.distrust((substituters, graph), (cache, path), &reason)
            }
            Answer::Failed {
                cache,
                tokens,
                reason,
                failing,
            } => {
                let sub = substituters.of_cache(cache);
                let mut wake: Vec<PathId> = tokens.into_iter().map(path_of).collect();
                for &path in &wake {
                    substituters.give_no_answer(sub, path);
                }
                let (owed, text) = note_failure(substituters, sub, (&reason, failing), now);
                wake.extend(owed);
                News::new(wake, text)
            }
            Answer::Warning(text) => News::new(Vec::new(), text),
            // Only a build downloads.
            Answer::Downloaded { .. } => News::default(),
        }
    }

    /// A cache has a path that is not to be trusted, which is told of once for each cache.
    fn distrust(
        &mut self,
        (substituters, graph): (&Substituters, &BuildGraph),
        (cache, path): (usize, PathId),
        reason: &Distrust,
    ) -> News {
        if std::mem::replace(&mut self.distrusted[cache], true) {
            return News::of(path);
        }
        let name = substituters.name(substituters.of_cache(cache));
        let full = graph.full_path(path);
        let text =
            format!("binary cache '{name}' has '{full}', which is not taken from there: {reason}");
        News::new(vec![path], text)
    }
}

impl News {
    fn new(wake: Vec<PathId>, warning: String) -> Self {
        let warning = Some(warning);
        Self { wake, warning }
    }

    fn of(path: PathId) -> Self {
        Self {
            wake: vec![path],
            warning: None,
        }
    }
}

/// A cache has not delivered a path that it has: what to say if it is left out for that, and for
/// which paths it owes answers that are not waited for any more.
pub fn note_undelivered(
    substituters: &mut Substituters,
    sub: usize,
    now: Duration,
) -> Option<(Vec<PathId>, String)> {
    let pause = substituters.fail_to_deliver(sub, now)?;
    let owed = substituters.stop_waiting(sub);
    let text = left_out(
        substituters.name(sub),
        pause,
        "it has paths and delivers none",
    );
    Some((owed, text))
}

fn left_out(name: &str, pause: Duration, reason: &str) -> String {
    let seconds = count(pause.as_millis().div_ceil(1000), "second");
    format!("binary cache '{name}' is left out for {seconds}: {reason}")
}

/// A cache has failed: what to say of that, and for which paths it owes answers that are not waited
/// for any more.
pub fn note_failure(
    substituters: &mut Substituters,
    sub: usize,
    (reason, failing): (&str, Failing),
    now: Duration,
) -> (Vec<PathId>, String) {
    let pause = match failing {
        Failing::Busy(time) => substituters.leave_alone(sub, time, now),
        Failing::Once | Failing::Dead => {
            substituters.note_failure(sub, failing == Failing::Dead, now)
        }
    };
    let owed = pause.map(|_| substituters.stop_waiting(sub));
    let name = substituters.name(sub);
    let text = match pause {
        None => format!("binary cache '{name}': {reason}"),
        Some(pause) => left_out(name, pause, reason),
    };
    (owed.unwrap_or_default(), text)
}

/// A download has failed. If the cache is left out for that: for which paths it owes answers that
/// are not waited for any more, and what to say. The failure itself is told with the path.
pub fn blame(
    substituters: &mut Substituters,
    sub: usize,
    error: &DownloadError,
    now: Duration,
) -> Option<(Vec<PathId>, String)> {
    if error.at_fault != AtFault::Cache || !substituters.is_good(sub, now) {
        return None;
    }
    let reason = (error.message.as_str(), Failing::Once);
    let news = note_failure(substituters, sub, reason, now);
    (!substituters.is_good(sub, now)).then_some(news)
}

/// Takes the time of an answer to a question; of one that failed there is none.
pub fn note_time(
    answer: &Answer,
    (substituters, speeds): (&Substituters, &mut Speeds),
    now: Duration,
) {
    let (cache, token, remembered) = match answer {
        Answer::Has {
            cache,
            token,
            remembered,
            ..
        } => (*cache, *token, *remembered),
        Answer::Lacks { cache, token } | Answer::Distrusted { cache, token, .. } => {
            (*cache, *token, false)
        }
        Answer::Failed { cache, tokens, .. } => {
            let sub = substituters.of_cache(*cache);
            let paths = tokens.iter().map(|&token| path_of(token));
            return paths.for_each(|path| speeds.give_up(sub, path));
        }
        _ => return,
    };
    speeds.hear(
        substituters.of_cache(cache),
        path_of(token),
        remembered,
        now,
    );
}

/// The number by which the thread knows a path.
pub fn token(path: PathId) -> u32 {
    u32::try_from(path.index()).expect("ids have 32 bits")
}

/// The path of such a number.
pub fn path_of(token: u32) -> PathId {
    PathId::from_index(token as usize)
}

/// What a cache says of a path, with the paths that it names as ids.
pub fn understand(graph: &mut BuildGraph, info: &NarInfo) -> SubstituteInfo {
    let paths = &mut graph.paths;
    let references = info.references.iter();
    let mut references: Vec<PathId> = references.map(|path| paths.intern_path(path)).collect();
    references.sort_unstable();
    SubstituteInfo {
        deriver: info.deriver.as_ref().map(|path| paths.intern_path(path)),
        references: references.into(),
        download_size: info.file_size.unwrap_or(0),
        nar_size: info.nar_size,
    }
}
