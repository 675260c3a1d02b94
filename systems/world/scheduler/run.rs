//! The requests under way, and how the run stands.

use std::collections::VecDeque;

use bevy_ecs::prelude::Entity;
use windrow_components::goal::{BuildMode, Outcome};
use windrow_components::request::{ChildLimits, Request, RequestEnd};

use crate::error::Error;
use crate::failure::FailureKinds;
use crate::world::goal_set::GoalSet;

/// A request under way.
#[derive(Debug)]
struct Active {
    request: Entity,
    /// The goals that it asks for itself, without those that have ended.
    top: GoalSet,
    keep_going: bool,
    limits: Option<ChildLimits>,
}

/// How the run stands.
#[derive(Debug, Default)]
pub struct RunState {
    active: Vec<Active>,
    /// Requests that begin when those under way have ended, in their order.
    waiting: VecDeque<(Entity, BuildMode)>,
    /// Requests that have ended, until their goals have been given up.
    ended: Vec<(Entity, RequestEnd)>,
    /// What the requests under way ask of their goals, all of them the same.
    mode: BuildMode,
    /// Whether one of the requests under way is to keep going.
    keep_going: bool,
    /// Nothing is left that could wake anybody, though goals have not ended.
    pub is_stuck: bool,
    /// An error that ends the run whatever its goals.
    pub fatal: Option<Error>,
    /// The signal that interrupted the run.
    pub interrupted: Option<i32>,
    /// The signal after which nothing more is started, and the run ends with what runs.
    pub finishing: Option<i32>,
    /// Kinds of failures seen, for the exit status.
    pub failures: FailureKinds,
}

impl RunState {
    /// Whether a request of that mode can be under way together with those that are, or were last.
    /// One of another mode would see their goals half done; those that check or repair are alone.
    fn goes_with(&self, mode: BuildMode) -> bool {
        mode == BuildMode::Normal && self.mode == BuildMode::Normal
    }

    /// A request is to begin, after those that wait already.
    pub fn enqueue(&mut self, request: Entity, mode: BuildMode) {
        self.waiting.push_back((request, mode));
    }

    /// Whether the next request can begin now, given whether everything that earlier ones had
    /// under way `is_over`: what they gave up would be taken for what one of another mode asks for.
    pub fn can_begin(&self, is_over: impl FnOnce() -> bool) -> bool {
        let next = self.waiting.front();
        next.is_some_and(|&(_, mode)| self.goes_with(mode) || (self.active.is_empty() && is_over()))
    }

    /// Takes the next request.
    pub fn next_waiting(&mut self) -> Option<Entity> {
        self.waiting.pop_front().map(|(request, _)| request)
    }

    /// Begins a request, whose goals are still to be named.
    ///
    /// # Panics
    /// If it can't begin now.
    pub fn begin(&mut self, request: Entity, asked: &Request) {
        assert!(self.active.is_empty() || self.goes_with(asked.mode));
        self.mode = asked.mode;
        self.keep_going |= asked.keep_going;
        self.active.push(Active {
            request,
            top: GoalSet::default(),
            keep_going: asked.keep_going,
            limits: asked.limits,
        });
    }

    /// A goal that the request begun last asks for itself.
    pub fn add_top(&mut self, goal: Entity) {
        if let Some(active) = self.active.last_mut() {
            active.top.insert(goal);
        }
    }

    /// A goal has ended: so has each request of which it was the last, or which does not go on with
    /// a failure.
    #[inline]
    pub fn goal_ended(&mut self, goal: Entity, outcome: Outcome) {
        let mut over = false;
        for active in &mut self.active {
            if active.top.remove(goal) {
                let gives_up = outcome == Outcome::Failed && !active.keep_going;
                over |= gives_up || active.top.is_empty();
                if gives_up {
                    self.ended.push((active.request, RequestEnd::GivenUp));
                }
            }
        }
        if over {
            self.end_done();
        }
    }

    /// A goal has failed that these requests need: those that are not to keep going end.
    pub fn give_up(&mut self, needing: impl Fn(Entity) -> bool) {
        for active in &self.active {
            if !active.keep_going && needing(active.request) {
                self.ended.push((active.request, RequestEnd::GivenUp));
            }
        }
        self.end_done();
    }

    /// Ends a request that is not wanted any more, unless it has ended.
    pub fn cancel(&mut self, request: Entity) {
        let waiting = self.waiting.len();
        self.waiting.retain(|(other, _)| *other != request);
        let is_active = self.active.iter().any(|active| active.request == request);
        if is_active || self.waiting.len() < waiting {
            self.ended.push((request, RequestEnd::Cancelled));
            self.end_done();
        }
    }

    /// Ends all requests that have no goal left.
    pub fn end_done(&mut self) {
        let ended = &mut self.ended;
        self.active.retain(|active| {
            let has_ended = ended.iter().any(|(other, _)| *other == active.request);
            if !has_ended && active.top.is_empty() {
                ended.push((active.request, RequestEnd::Done));
            }
            !has_ended && !active.top.is_empty()
        });
        self.keep_going = self.active.iter().any(|active| active.keep_going);
    }

    /// Whether a request has ended whose goals have not been given up.
    #[inline]
    pub fn has_ended(&self) -> bool {
        !self.ended.is_empty()
    }

    /// Takes the requests that have ended.
    pub fn take_ended(&mut self) -> Vec<(Entity, RequestEnd)> {
        std::mem::take(&mut self.ended)
    }

    /// The requests under way.
    pub fn requests(&self) -> impl Iterator<Item = Entity> {
        self.active.iter().map(|active| active.request)
    }

    /// When a request has its children killed, if it says so.
    pub fn limits(&self, request: Entity) -> Option<ChildLimits> {
        let mut active = self.active.iter();
        active.find(|active| active.request == request)?.limits
    }

    /// When the only request under way has children killed, if there is one and it says so.
    pub fn sole_limits(&self) -> Option<ChildLimits> {
        match &self.active[..] {
            [sole] => sole.limits,
            _ => None,
        }
    }

    /// Whether a request under way asks for a goal itself.
    pub fn is_top(&self, goal: Entity) -> bool {
        self.active.iter().any(|active| active.top.contains(goal))
    }

    /// Whether one of the requests under way goes on with what does not depend on a failure: then
    /// every goal does.
    #[inline]
    pub fn keep_going(&self) -> bool {
        self.keep_going
    }

    /// Whether one of the requests under way does not.
    pub fn gives_up(&self) -> bool {
        self.active.iter().any(|active| !active.keep_going)
    }

    /// What all requests under way ask of their goals.
    pub fn mode(&self) -> BuildMode {
        self.mode
    }

    /// What is asked of a goal. What is to be repaired may have any of its inputs broken; a check
    /// is about what was asked for.
    #[inline]
    pub fn mode_of(&self, goal: Entity) -> BuildMode {
        match self.mode {
            BuildMode::Check if !self.is_top(goal) => BuildMode::Normal,
            mode => mode,
        }
    }

    /// Whether nothing more is started.
    #[inline]
    pub fn is_closing(&self) -> bool {
        self.finishing.is_some() || self.has_stopped()
    }

    /// Whether the run ends, whatever was asked for.
    #[inline]
    pub fn has_stopped(&self) -> bool {
        self.is_stuck || self.fatal.is_some() || self.interrupted.is_some()
    }

    /// Whether nothing more is to be done for anybody.
    pub fn is_over(&self) -> bool {
        (self.active.is_empty() && self.waiting.is_empty()) || self.has_stopped()
    }
}
