//! The tick of each world, as a reader can read it.

use windrow_systems::ecs::prelude::World;
use windrow_systems::engine::default_options;
use windrow_systems::policy::{Policy, PolicySystems};
use windrow_systems::tick::{describe, systems};
use windrow_systems::world::{Parts, Scheduler};

fn simulated() -> Parts {
    Parts {
        simulated: true,
        ..Parts::default()
    }
}

fn worlds() -> impl Iterator<Item = (&'static str, Parts)> {
    real_worlds().into_iter().chain(simulated_worlds())
}

fn simulated_worlds() -> [(&'static str, Parts); 5] {
    let faulty = Parts {
        others: true,
        faults: true,
        ..Parts::default()
    };
    [
        ("simulated", simulated()),
        (
            "simulated, with binary caches",
            Parts {
                simulated_caches: true,
                ..simulated()
            },
        ),
        (
            "simulated, with tasks that come later",
            Parts {
                arrivals: true,
                ..simulated()
            },
        ),
        (
            "simulated, with machines",
            Parts {
                machines: true,
                ..simulated()
            },
        ),
        ("faulty", faulty),
    ]
}

fn real_worlds() -> [(&'static str, Parts); 7] {
    let others = Parts {
        others: true,
        ..Parts::default()
    };
    let real = Parts {
        processes: true,
        ..others
    };
    let substituters = Parts {
        substituters: true,
        ..real
    };
    let caches = Parts {
        caches: true,
        ..substituters
    };
    [
        ("real", real),
        ("real, with substituters", substituters),
        ("real, with binary caches", caches),
        ("real, with a hook", Parts { hook: true, ..real }),
        (
            "real, with a pre-build hook",
            Parts {
                pre_build: true,
                ..real
            },
        ),
        (
            "real, repairing",
            Parts {
                repair: true,
                ..real
            },
        ),
        (
            "real, with everything",
            Parts {
                hook: true,
                repair: true,
                forecast: true,
                ..caches
            },
        ),
    ]
}

/// A world with these parts, and a policy's systems for it.
fn plugged_in(parts: Parts, policy: &Policy) -> (World, PolicySystems) {
    let mut world = World::new();
    world.insert_resource(parts);
    world.insert_resource(Scheduler::new(default_options()));
    let systems = policy.plug_in(&mut world);
    (world, systems)
}

#[test]
fn each_world_has_its_systems_in_their_order() {
    let text: String = worlds()
        .map(|(name, parts)| {
            let (_, systems) = plugged_in(parts, &Policy::Fifo);
            format!("== {name}\n{}\n", describe(parts, systems))
        })
        .collect();
    insta::assert_snapshot!(text);
}

#[test]
fn each_policy_has_its_systems_at_their_places() {
    let parts = real_worlds()[0].1;
    let text: String = Policy::ALL
        .map(|policy| {
            let (_, systems) = plugged_in(parts, &policy);
            let text = describe(parts, systems);
            let lines = text.lines().zip(text.lines().skip(1));
            let own: String = lines
                .filter(|(_, system)| system.contains("policy::"))
                .map(|(before, system)| format!("{system}, after {}\n", before.trim()))
                .collect();
            format!("== {}\n{own}\n", policy.name())
        })
        .concat();
    insta::assert_snapshot!(text);
}

/// Putting the systems of a tick together fails where one of them asks for one thing twice.
#[test]
fn every_world_can_have_every_policy() {
    for (_, parts) in worlds() {
        let placing = ["list", "heft", "blevel-gt"].map(|name| name.parse().unwrap());
        for policy in Policy::ALL.into_iter().chain(placing) {
            let (mut world, _) = plugged_in(parts, &Policy::Fifo);
            systems(&mut world, &policy);
        }
    }
}
