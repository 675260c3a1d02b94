//! The tick of each world, as a reader can read it.

use windrow_systems::tick::describe;
use windrow_systems::world::Parts;

#[test]
fn each_world_has_its_systems_in_their_order() {
    let real = Parts {
        others: true,
        processes: true,
        ..Parts::default()
    };
    let worlds = [
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
    ];
    let text: String = worlds
        .map(|(name, parts)| format!("== {name}\n{}\n", describe(parts)))
        .concat();
    insta::assert_snapshot!(text);
}
