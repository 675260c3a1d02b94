use super::*;

#[test]
fn a_derivation_becomes_rows() {
    let text = br#"Derive([("dev","/nix/store/00000000000000000000000000000000-x-dev","",""),("out","/nix/store/00000000000000000000000000000000-x","","")],[("/nix/store/11111111111111111111111111111111-y.drv",["out"])],["/nix/store/22222222222222222222222222222222-s"],"x86_64-linux","/bin/sh",[],[("preferLocalBuild","1"),("requiredSystemFeatures","kvm  big-parallel")])"#;
    let mut graph = BuildGraph::new(StoreDir::new("/nix/store"));
    let path = graph
        .path("/nix/store/33333333333333333333333333333333-x.drv")
        .unwrap();
    let drv = graph.drv(path);
    assert!(!graph.is_loaded(drv));
    graph.load(drv, &Derivation::parse(text).unwrap()).unwrap();
    assert!(graph.is_loaded(drv));
    assert_eq!(graph.drv(path), drv);
    assert_eq!(graph.drv_name(drv), "x");
    assert_eq!(graph.outputs(drv).len(), 2);
    assert_eq!(graph.name_text(graph.outputs(drv)[0].name), "dev");
    assert_eq!(graph.system(drv), Some("x86_64-linux"));
    assert!(graph.traits(drv).prefer_local && !graph.traits(drv).fixed);
    assert_eq!(graph.required_features(drv), "kvm,big-parallel");
    let input = graph.inputs(drv).next().unwrap();
    assert_eq!(graph.drv_name(input.drv), "y");
    assert!(!graph.is_loaded(input.drv));
    assert_eq!(graph.output_sets.names(input.wanted).len(), 1);
    assert_eq!(
        graph.full_path(graph.sources(drv)[0]),
        "/nix/store/22222222222222222222222222222222-s"
    );
}

#[test]
fn what_a_task_is_follows_from_its_number() {
    use crate::task_graph::{Builder, Limits, TimeUnit};

    let mut builder = Builder::new("test", TimeUnit::Units, Limits::default());
    let tasks = [(); 3].map(|()| builder.add_task(None, None).unwrap());
    builder.add_edge(tasks[0], tasks[2]).unwrap();
    builder.add_edge(tasks[1], tasks[2]).unwrap();
    let graph = BuildGraph::from_tasks(&builder.finish().unwrap());
    assert!(graph.is_of_tasks() && !graph.has_sources() && !graph.has_input_sets());
    assert_eq!((graph.drv_count(), graph.edge_count()), (3, 2));
    for (number, inputs) in [(0, 0..0), (1, 0..0), (2, 0..2)] {
        let drv = DrvId::from_index(number);
        assert!(graph.is_loaded(drv));
        assert_eq!(graph.drv_path(drv), PathId::from_index(number));
        let [output] = graph.outputs(drv) else {
            panic!("one output");
        };
        assert_eq!(output.path, PathId::from_index(3 + number));
        assert_eq!(graph.name_text(output.name), "out");
        let found = graph.inputs(drv);
        assert_eq!(found.len(), inputs.len());
        assert!(found.eq(inputs.map(|input| InputRow {
            drv: DrvId::from_index(input),
            wanted: OutputSet::ALL,
        })));
        assert!(graph.sources(drv).is_empty());
        assert_eq!(graph.traits(drv), BuildFlags::default());
        assert_eq!(graph.system(drv), None);
    }
}

#[test]
fn a_foreign_path_leaves_the_row_unloaded() {
    let text = br#"Derive([("out","/elsewhere/00000000000000000000000000000000-x","","")],[],[],"s","b",[],[])"#;
    let mut graph = BuildGraph::new(StoreDir::new("/nix/store"));
    let path = graph
        .path("/nix/store/33333333333333333333333333333333-x.drv")
        .unwrap();
    let drv = graph.drv(path);
    let error = graph
        .load(drv, &Derivation::parse(text).unwrap())
        .unwrap_err();
    assert!(error.to_string().contains("/elsewhere/"), "{error}");
    assert!(!graph.is_loaded(drv));
}
