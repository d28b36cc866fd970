// SPDX-License-Identifier: BSD-2-Clause
//! The life of an open: who may end it, and what is left afterwards.
//!
//! devfs(5) and the VFS are modelled as FreeBSD's sources have them: `d_close`
//! comes 0, 1, 2 or more times for an open, in several threads at once,
//! revoke(2) goes over the vnodes of all mounts and waits for no reader. The
//! driver is modelled step by step after `src/dev.rs` and `src/bpf_d.rs`; the
//! names of the steps are those of its functions.
//!
//! Memory is sequentially consistent here; weak memory is loom's part. What is
//! not modelled: callouts, buffers' contents, I6, I8 and I9. The return of a
//! destructor after it gave its reference back is part of that step.

mod broken;
mod scene;
mod step;
mod world;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use stateright::{Checker, HasDiscoveries, Model, Property};

pub use broken::Broken;
use scene::Role;
pub use scene::{LARGE, STANDARD, Scene};

use step::{Log, ready, step};
use world::{Cause, FileState, Memory, Pc, Phase, VnodeState, World};

/// The invariants of docs/design.md that this is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// I1
    Memory,
    /// I2
    Identity,
    /// I3
    OneEnd,
    /// I4
    Order,
    /// I5
    Opening,
    /// I7
    Unload,
}

impl Invariant {
    /// All of them.
    pub const ALL: [Invariant; 6] = [
        Invariant::Memory,
        Invariant::Identity,
        Invariant::OneEnd,
        Invariant::Order,
        Invariant::Opening,
        Invariant::Unload,
    ];

    /// Number and what it says.
    pub fn name(self) -> &'static str {
        match self {
            Invariant::Memory => "I1 memory: nobody touches a freed descriptor",
            Invariant::Identity => "I2 identity: a call is about its own file's open",
            Invariant::OneEnd => "I3 one end: an open dies once, and its node is free then",
            Invariant::Order => "I4 order of the end: nothing is left behind on a dead open",
            Invariant::Opening => "I5 opening: who was revoked is not alive",
            Invariant::Unload => "I7 unload: refused while an open is live, then nothing is left",
        }
    }

    fn holds(self, scene: &Scene, w: &World) -> bool {
        w.fault != Some(self)
            && match self {
                Invariant::Memory => true,
                Invariant::Identity => w.live_are_published(),
                Invariant::OneEnd => w.closed_are_dead(),
                Invariant::Order => w.dead_are_left_alone() && !is_stuck(scene, w),
                Invariant::Opening => w.revoked_are_dead(),
                Invariant::Unload => w.unload_is_clean(scene),
            }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl World {
    fn live(&self) -> impl Iterator<Item = (usize, &world::BpfD)> {
        self.opens.iter().enumerate().filter(|(_, open)| open.phase == Phase::Live)
    }

    /// `si_drv1` is the one open that is live.
    fn live_are_published(&self) -> bool {
        self.live().all(|(d, _)| self.nodes.iter().any(|node| node.slot == Some(d as u8)))
    }

    /// An open whose file is gone is not live, and does not keep its node.
    fn closed_are_dead(&self) -> bool {
        self.files.iter().zip(&self.opens).enumerate().all(|(d, (file, open))| {
            file.state != FileState::Closed
                || open.phase != Phase::Live
                    && self.nodes.iter().all(|node| node.slot != Some(d as u8))
        })
    }

    /// After death nobody sleeps and nobody selects; after the end nothing is
    /// attached.
    fn dead_are_left_alone(&self) -> bool {
        let dead = |d: usize| self.opens[d].phase == Phase::Dead;
        let asleep = |t: &world::Thread| t.pc == Pc::Asleep && t.d.is_some_and(|d| dead(d.into()));
        !self.threads.iter().any(asleep)
            && self.opens.iter().all(|open| {
                (open.phase != Phase::Dead || open.selecting == 0) && !(open.ended && open.attached)
            })
    }

    /// A vnode that is dead gets no `d_close` any more.
    fn revoked_are_dead(&self) -> bool {
        self.live().all(|(d, _)| self.vnode(self.files[d].vnode).state != VnodeState::Dead)
    }

    fn unload_is_clean(&self, scene: &Scene) -> bool {
        // Nothing that is live is torn down.
        let destroying =
            |(d, _): (usize, _)| self.nodes[usize::from(self.vnode(self.files[d].vnode).node)].gone;
        if self.live().any(destroying) {
            return false;
        }
        // Who was not told to force it went on because nothing was live.
        let polite = scene.roles.iter().zip(&self.threads).any(|(role, thread)| {
            *role == Role::Unloader { force: false }
                && matches!(thread.pc, Pc::UnloadTaps | Pc::Load | Pc::Count)
        });
        if polite && self.live().next().is_some() {
            return false;
        }
        !self.unloaded
            || self.live == 0
                && self.nodes.iter().all(|node| node.slot.is_none())
                && self.opens.iter().all(|o| matches!(o.memory, Memory::None | Memory::Freed))
                && !self.threads.iter().any(|t| t.pinned || t.pc.in_driver())
    }
}

/// Nothing can happen any more, but somebody waits, other than for packets of
/// an open that is live. Signals do not count: nobody need send one.
fn is_stuck(scene: &Scene, w: &World) -> bool {
    let waits = |t: &world::Thread| match t.pc {
        Pc::Start | Pc::Done | Pc::Idle => false,
        Pc::Asleep | Pc::Selecting => {
            t.d.is_none_or(|d| w.opens[usize::from(d)].phase != Phase::Live)
        }
        _ => true,
    };
    w.threads.iter().any(waits)
        && !actions(scene).any(|a| !matches!(a, Action::Signal(_)) && ready(scene, w, a))
}

/// What can happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A thread goes one step further.
    Step(u8),
    /// A sleeping thread gets a signal.
    Signal(u8),
    /// The epoch callback of a descriptor.
    Callback(u8),
}

/// Whoever can choose goes on before a signal comes.
fn actions(scene: &Scene) -> impl Iterator<Item = Action> + '_ {
    let numbered = || (0u8..).zip(scene.roles);
    let steps = numbered().map(|(thread, _)| Action::Step(thread));
    let signals = numbered().filter(|(_, role)| matches!(role, Role::Reader { .. }));
    let callbacks = numbered().filter(|(_, role)| matches!(role, Role::File { .. }));
    steps
        .chain(callbacks.map(|(d, _)| Action::Callback(d)))
        .chain(signals.map(|(thread, _)| Action::Signal(thread)))
}

/// What really happens, and so must happen here: a name, and whether a world
/// shows it.
type Sight = (&'static str, fn(&Scene, &World) -> bool);

fn ended_with(w: &World, closes: u8) -> bool {
    w.files
        .iter()
        .zip(&w.opens)
        .any(|(file, open)| file.state == FileState::Closed && open.lived && open.closes == closes)
}

fn threads<'a>(
    scene: &'a Scene,
    w: &'a World,
) -> impl Iterator<Item = (Role, &'a world::Thread)> + Clone {
    scene.roles.iter().copied().zip(&w.threads)
}

const SIGHTS: &[Sight] = &[
    ("an open ends with 0 d_close", |_, w| ended_with(w, 0)),
    ("an open ends with 1 d_close", |_, w| ended_with(w, 1)),
    ("an open ends with 2 d_close", |_, w| ended_with(w, 2)),
    ("an open ends with 3 d_close or more", |_, w| ended_with(w, 3)),
    ("a d_close that is about no open", |scene, w| {
        threads(scene, w).any(|(_, t)| t.pc == Pc::CloseLeave && t.d.is_none())
    }),
    ("a revocation that is not about the node's open", |scene, w| {
        threads(scene, w).any(|(_, t)| {
            t.pc == Pc::CloseRelease
                && !t.first
                && t.d.is_some_and(|d| w.open(d).phase == Phase::Live)
        })
    }),
    ("two d_close of one open at the same time", |scene, w| {
        let mut busy = threads(scene, w).filter(|(_, t)| {
            matches!(t.pc, Pc::EndMark | Pc::EndWithdraw)
                && matches!(t.cause, Cause::Close | Cause::Revoke)
        });
        let first = busy.next();
        first.is_some_and(|(_, one)| busy.any(|(_, other)| other.d == one.d))
    }),
    ("a file's own d_close with FREVOKE", |scene, w| {
        (0u8..).zip(threads(scene, w)).any(|(d, (_, t))| t.pc == Pc::CloseOwn && w.is_doomed(d))
    }),
    ("an open that a revocation overtook before it published", |_, w| {
        (0u8..).zip(&w.threads).any(|(d, t)| {
            t.cause == Cause::Overtaken && t.pc == Pc::EndMark && w.open(d).phase == Phase::Opening
        })
    }),
    ("an open that a revocation ended before it was live", |_, w| {
        (0u8..).zip(&w.threads).any(|(d, t)| {
            t.cause == Cause::Overtaken && t.pc == Pc::EndMark && w.open(d).phase == Phase::Dead
        })
    }),
    ("a reader leaves after the node was opened again", |scene, w| {
        threads(scene, w).any(|(role, t)| {
            let Role::Reader { file } = role else { return false };
            t.pc == Pc::Release
                && t.d == Some(file)
                && w.live().any(|(d, _)| d != usize::from(file))
        })
    }),
    ("a lookup finds a descriptor whose count is zero", |_, w| {
        w.threads.iter().any(|t| t.pc == Pc::Count && t.d.is_some_and(|d| w.open(d).refs == 0))
    }),
    ("a packet is in a descriptor whose count is zero", |_, w| {
        w.threads.iter().any(|t| t.pc == Pc::PacketLock && t.d.is_some_and(|d| w.open(d).refs == 0))
    }),
    ("an unload meets a destructor that another thread began", |_, w| {
        w.threads.iter().any(|t| t.pc == Pc::Drain)
            && w.threads.iter().any(|t| t.cause == Cause::Dtor && t.pc != Pc::Done)
    }),
    ("an unload is refused", |scene, w| {
        threads(scene, w).any(|(role, t)| {
            matches!(role, Role::Unloader { .. }) && t.pc == Pc::Done && !w.unloaded
        })
    }),
    ("the module is unloaded while a file is open", |_, w| {
        w.unloaded && w.files.iter().any(|file| file.state == FileState::Open)
    }),
];

/// A driver, right or broken, in some scenes.
#[derive(Debug)]
pub struct Life {
    scenes: Vec<&'static Scene>,
    broken: Option<Broken>,
    /// What was discovered so far. The checker would keep the latest path to
    /// each; the first is the shortest.
    seen: Mutex<Vec<&'static str>>,
}

impl Life {
    fn scene(&self, w: &World) -> &'static Scene {
        self.scenes[usize::from(w.scene)]
    }

    /// Whether `name` is discovered here, for the first time.
    fn discovers(&self, name: &'static str) -> bool {
        let mut seen = self.seen.lock().expect("no panic in the checker");
        let new = !seen.contains(&name);
        if new {
            seen.push(name);
        }
        new
    }

    fn invariant<const N: usize>(&self, w: &World) -> bool {
        let invariant = Invariant::ALL[N];
        if self.broken == Some(Broken::Legacy) && invariant != Invariant::Memory {
            // It never promised more.
            return true;
        }
        invariant.holds(self.scene(w), w) || !self.discovers(invariant.name())
    }

    fn sight<const N: usize>(&self, w: &World) -> bool {
        let (name, is_there) = SIGHTS[N];
        is_there(self.scene(w), w) && self.discovers(name)
    }
}

impl Model for Life {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        self.scenes.iter().enumerate().map(|(n, scene)| World::new(n, scene)).collect()
    }

    fn actions(&self, w: &World, next: &mut Vec<Action>) {
        // What goes on after something went wrong proves nothing.
        if w.fault.is_none() {
            let scene = self.scene(w);
            next.extend(actions(scene).filter(|action| ready(scene, w, *action)));
        }
    }

    fn next_state(&self, w: &World, action: Action) -> Option<World> {
        Some(step(self.scene(w), self.broken, w, action, &mut Log(None)))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        /// One property for each number: the checker wants plain functions.
        macro_rules! properties {
            ($kind:ident, $name:expr, $condition:ident, $($n:literal)*) => {
                [$(Property::$kind($name($n), Self::$condition::<$n>)),*]
            };
        }
        let invariants = properties!(always, |n: usize| Invariant::ALL[n].name(), invariant,
            0 1 2 3 4 5);
        let sights = properties!(sometimes, |n: usize| SIGHTS[n].0, sight,
            0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        const { assert!(Invariant::ALL.len() == 6 && SIGHTS.len() == 16) };
        invariants.into_iter().chain(sights).collect()
    }
}

/// What an exploration found.
#[derive(Debug)]
pub struct Outcome {
    /// Worlds reached, those reached twice included.
    pub states: usize,
    /// Different ones.
    pub unique: usize,
    /// Steps to the one farthest away.
    pub depth: usize,
    /// How long it took.
    pub time: Duration,
    /// The invariant that broke first, and how it came to that.
    pub broken: Option<(Invariant, Trace)>,
    /// The name of everything that must be seen, and how it came to that.
    pub sights: BTreeMap<&'static str, Option<Trace>>,
}

/// The steps from the start of a scene to something worth a look.
#[derive(Debug)]
pub struct Trace {
    /// The scene's name.
    pub scene: &'static str,
    /// One line for each step.
    pub steps: Vec<String>,
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "Scene: {}", self.scene)?;
        for (number, step) in (1..).zip(&self.steps) {
            writeln!(f, "{number:4}  {step}")?;
        }
        Ok(())
    }
}

/// Explores every order of steps in `scenes`, breadth first, until an
/// invariant is found broken or there is nothing left.
pub fn explore(scenes: &[&'static Scene], broken: Option<Broken>) -> Outcome {
    let start = Instant::now();
    let life = Life { scenes: scenes.to_vec(), broken, seen: Mutex::default() };
    // One thread: the order is breadth first only then.
    let checker = life.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let time = start.elapsed();

    let life = checker.model();
    let discoveries = checker.discoveries();
    let trace = |name: &str| {
        let path = discoveries.get(name)?.clone().into_vec();
        let scene = life.scene(&path.first()?.0);
        let steps = path.iter().filter_map(|(w, action)| {
            let mut log = Log(Some(String::new()));
            step(scene, broken, w, (*action)?, &mut log);
            log.0
        });
        let mut steps: Vec<String> = steps.collect();
        if is_stuck(scene, &path.last()?.0) {
            steps.push("nobody can go on".to_owned());
        }
        Some(Trace { scene: scene.name, steps })
    };
    let first =
        life.seen.lock().expect("the checker has ended").iter().find_map(|name| {
            Invariant::ALL.into_iter().find(|invariant| invariant.name() == *name)
        });
    Outcome {
        states: checker.state_count(),
        unique: checker.unique_state_count(),
        depth: checker.max_depth(),
        time,
        broken: first.and_then(|invariant| Some((invariant, trace(invariant.name())?))),
        sights: SIGHTS.iter().map(|(name, _)| (*name, trace(name))).collect(),
    }
}
