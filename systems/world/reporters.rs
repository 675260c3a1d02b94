//! Who is told what: one reporter for all of the engine, and one for each request under way, which
//! hears of the goals that this request needs.

use bevy_ecs::prelude::Entity;
use hashbrown::HashMap;
use smallvec::SmallVec;

use crate::report::{Event, Level, Reporter};
use crate::world::goal_set::GoalSet;

/// The goals that a request needs.
#[derive(Debug)]
enum Needs {
    /// All there are, for there has been no other request.
    All,
    /// These.
    These(GoalSet),
}

/// A request under way.
struct Hearer {
    request: Entity,
    needs: Needs,
    reporter: Option<Box<dyn Reporter>>,
}

impl Hearer {
    fn needs(&self, goal: Entity) -> bool {
        match &self.needs {
            Needs::All => true,
            Needs::These(goals) => goals.contains(goal),
        }
    }
}

/// All reporters, and which goals each request under way needs.
pub struct Reporters {
    engine: Box<dyn Reporter>,
    /// Those of requests that have not begun.
    expected: Vec<(Entity, Box<dyn Reporter>)>,
    requests: Vec<Hearer>,
    /// Which goals wait, or have waited, for which others, beside derivations for their inputs.
    waits: HashMap<Entity, SmallVec<[Entity; 2]>>,
}

impl Reporters {
    /// One for all that happens.
    pub fn new(engine: Box<dyn Reporter>) -> Self {
        Self {
            engine,
            expected: Vec::new(),
            requests: Vec::new(),
            waits: HashMap::new(),
        }
    }

    /// A request is to begin some time.
    pub fn expect(&mut self, request: Entity, reporter: Option<Box<dyn Reporter>>) {
        self.expected.extend(reporter.map(|it| (request, it)));
    }

    /// A request begins. If it is the `first` of all, every goal is there for it.
    pub fn begin(&mut self, request: Entity, first: bool) {
        let needs = match first {
            true => Needs::All,
            false => Needs::These(GoalSet::default()),
        };
        let mut own = self.expected.extract_if(.., |(other, _)| *other == request);
        let reporter = own.next().map(|(_, reporter)| reporter);
        drop(own);
        self.requests.push(Hearer {
            request,
            needs,
            reporter,
        });
    }

    /// A request has ended, and hears nothing more. The goals that it needed; `None` for all there
    /// are.
    pub fn end(&mut self, request: Entity) -> Option<Vec<Entity>> {
        self.expected.retain(|(other, _)| *other != request);
        let mut ended = self.requests.extract_if(.., |it| it.request == request);
        match ended.next().map(|hearer| hearer.needs) {
            None => Some(Vec::new()),
            Some(Needs::All) => None,
            Some(Needs::These(goals)) => Some(goals.iter().collect()),
        }
    }

    /// Begins to tell apart the goals of a request that needed all there were, because another
    /// begins. The request, if there is such a one.
    pub fn tell_apart(&mut self) -> Option<Entity> {
        let mut all = self.requests.iter_mut();
        let all = all.find(|hearer| matches!(hearer.needs, Needs::All))?;
        all.needs = Needs::These(GoalSet::default());
        Some(all.request)
    }

    /// Notes that a request needs a goal; tells whether that is new.
    pub fn add(&mut self, request: Entity, goal: Entity) -> bool {
        let mut requests = self.requests.iter_mut();
        let hearer = requests.find(|hearer| hearer.request == request);
        match hearer.map(|hearer| &mut hearer.needs) {
            Some(Needs::These(goals)) => goals.insert(goal),
            _ => false,
        }
    }

    /// Whether a request under way needs a goal.
    pub fn needs(&self, request: Entity, goal: Entity) -> bool {
        let mut requests = self.requests.iter();
        requests.any(|hearer| hearer.request == request && hearer.needs(goal))
    }

    /// The requests under way that need a goal.
    pub fn who_needs(&self, goal: Entity) -> impl Iterator<Item = Entity> {
        let needing = self.requests.iter().filter(move |it| it.needs(goal));
        needing.map(|hearer| hearer.request)
    }

    /// Notes whom a goal waits for, if that is not an input of its derivation.
    pub fn note_wait(&mut self, waiter: Entity, goal: Entity) {
        let waits = self.waits.entry(waiter).or_default();
        if !waits.contains(&goal) {
            waits.push(goal);
        }
    }

    /// Whom a goal waits for, or has waited for, beside inputs of its derivation.
    pub fn waits_of(&self, waiter: Entity) -> &[Entity] {
        self.waits.get(&waiter).map_or(&[], |waits| waits)
    }

    /// Tells everybody whom it concerns what has happened.
    pub fn report(&mut self, event: &Event<'_>) {
        self.engine.report(event);
        let goal = event.build().map(|build| Entity::from_bits(build.id));
        for hearer in &mut self.requests {
            let concerned = goal.is_none_or(|goal| hearer.needs(goal));
            if concerned && let Some(reporter) = &mut hearer.reporter {
                reporter.report(event);
            }
        }
    }

    /// Reports a message, which is put into words only if somebody looks at builds.
    pub fn say(&mut self, level: Level, text: impl FnOnce() -> String) {
        if self.wants_builds() {
            let text = &text();
            self.report(&Event::Message { level, text });
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Reporter> {
        let requests = self.requests.iter();
        let own = requests.filter_map(|hearer| hearer.reporter.as_deref());
        std::iter::once(&*self.engine).chain(own)
    }

    /// Whether anybody looks at single builds.
    pub fn wants_builds(&self) -> bool {
        self.all().any(|reporter| reporter.wants_builds())
    }

    /// Whether somebody has not taken so much of what was reported that output should wait.
    pub fn is_behind(&self) -> bool {
        self.all().any(|reporter| reporter.is_behind())
    }
}
