//! The tick of each world, as a reader can read it.

use windrow_systems::ecs::prelude::World;
use windrow_systems::engine::default_options;
use windrow_systems::policy::Policy;
use windrow_systems::tick::{describe, schedule};
use windrow_systems::world::{Parts, Scheduler};

fn worlds() -> [(&'static str, Parts); 7] {
    let real = Parts {
        others: true,
        processes: true,
        ..Parts::default()
    };
    [
        ("real", real),
        (
            "real, with substituters",
            Parts {
                substituters: true,
                ..real
            },
        ),
        ("real, with a hook", Parts { hook: true, ..real }),
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
                substituters: true,
                hook: true,
                repair: true,
                forecast: true,
                ..real
            },
        ),
        (
            "simulated",
            Parts {
                simulated: true,
                ..Parts::default()
            },
        ),
        (
            "faulty",
            Parts {
                others: true,
                faults: true,
                ..Parts::default()
            },
        ),
    ]
}

#[test]
fn each_world_has_its_systems_in_their_order() {
    let text: String = worlds()
        .map(|(name, parts)| format!("== {name}\n{}\n", describe(parts)))
        .concat();
    insta::assert_snapshot!(text);
}

/// Initialising a schedule fails where two systems touch the same data and nothing says which comes first.
#[test]
fn no_policy_leaves_an_order_open() {
    for (_, parts) in worlds() {
        for policy in Policy::ALL {
            let mut world = World::new();
            world.insert_resource(Scheduler::new(default_options()));
            let mut schedule = schedule(parts);
            policy.plug_in(&mut world, &mut schedule);
            let made = schedule.initialize(&mut world);
            assert!(made.is_ok(), "{}: {:?}", policy.name(), made.err());
        }
    }
}
