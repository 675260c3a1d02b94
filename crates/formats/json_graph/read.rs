//! Reads a whole graph: its parts in their order, then what refers to what.

use hashbrown::HashSet;

use super::family::Drafts;
use super::files::Files;
use super::forest::Forest;
use super::order::{self, Edges};
use super::outputs::Outputs;
use super::place::Places;
use super::resolve::{Edge, Named, Names, Resolved, Resolver, Where};
use super::sources::Sources;
use super::template::Templates;
use super::value::{Member, Value};
use super::{GraphError, GraphFile, Node, Piece, Target};

/// Reads a graph. `default_system` is the system of derivations where the file names none; `files`
/// is asked only if globs, trees or files of directories come up in it.
///
/// # Errors
///
/// The first mistake that is found: syntax before all else, then the graph's keys, the sources, the
/// derivations' keys and outputs, their texts, the targets, and cycles at the end.
pub fn parse(
    source: &str,
    default_system: &str,
    files: &mut dyn Files,
) -> Result<GraphFile, GraphError> {
    let places = Places::new(source)?;
    let keys = &["system", "sources", "templates", "derivations", "targets"];
    let [system, sources, templates, derivations, targets] =
        Value::document(&places)?.fields(keys, &places, format_args!("the graph"))?;

    let system = match system {
        Some(value) => Some(
            value
                .filled_string(&places, format_args!("\"system\""))?
                .text,
        ),
        None => None,
    };
    let system = system.as_deref().unwrap_or(default_system);
    let members_of_sources = members(sources, "sources", &places)?;
    let derivations = members(derivations, "derivations", &places)?;

    let mut names = Names::with_capacity(members_of_sources.len() + derivations.len());
    let mut sources = Sources::new(files);
    for (index, member) in members_of_sources.iter().enumerate() {
        names.insert(&member.key, Named::Source(index as u32), &places)?;
        sources.add(member, &places)?;
    }
    let templates = Templates::read(members(templates, "templates", &places)?, &places)?;
    let mut forest = Forest::new(sources);
    let mut drafts = Drafts::with_capacity(derivations.len());
    for member in derivations {
        drafts.add(member, &templates, &mut names, &mut forest, &places)?;
    }

    let Drafts { drafts, outputs } = drafts;
    let mut resolver = Resolver::new(&places, names, outputs, forest);
    let mut nodes = Vec::with_capacity(drafts.len());
    let mut starts = Vec::with_capacity(drafts.len() + 1);
    for (index, draft) in drafts.into_iter().enumerate() {
        starts.push(resolver.edge_count());
        nodes.push(draft.resolve(index as u32, system, &mut resolver)?);
    }
    starts.push(resolver.edge_count());
    let wanted = match targets {
        Some(list) => Some(wanted_targets(list, nodes.len(), &mut resolver)?),
        None => None,
    };
    let Resolved {
        outputs,
        mut edges,
        store_paths,
        forest,
    } = resolver.finish();
    let mut targets = wanted.unwrap_or_else(|| unneeded(&outputs, &edges));
    for (node, outputs) in nodes.iter_mut().zip(outputs) {
        node.outputs = outputs.into_names();
    }

    let order = build_order(&nodes, &starts, &mut edges, &places)?;
    reorder(&mut nodes, &mut targets, &order);
    let (sources, trees) = forest.finish()?;
    Ok(GraphFile {
        sources,
        trees,
        derivations: nodes,
        targets,
        store_paths,
    })
}

/// The members of an object that may be missing.
fn members<'a>(
    object: Option<Value<'a>>,
    what: &str,
    places: &Places<'a>,
) -> Result<Vec<Member<'a>>, GraphError> {
    match object {
        Some(object) => object.object(places, format_args!("\"{what}\"")),
        None => Ok(Vec::new()),
    }
}

/// The derivations in an order in which inputs come first. Puts the edges of each, which begin at
/// `starts`, in the order of the file, wherever its inputs are named.
fn build_order(
    nodes: &[Node],
    starts: &[u32],
    edges: &mut [Edge],
    places: &Places<'_>,
) -> Result<Vec<u32>, GraphError> {
    for bounds in starts.windows(2) {
        edges[bounds[0] as usize..bounds[1] as usize].sort_by_key(|edge| edge.to);
    }
    let edges = &*edges;
    order::topological(&Edges { starts, edges }).map_err(|cycle| {
        let round = cycle.chain.iter().chain(cycle.chain.first());
        GraphError::Cycle {
            place: places.inside(edges[cycle.closing_edge as usize].spot),
            chain: round
                .map(|&node| nodes[node as usize].key.clone())
                .collect(),
        }
    })
}

/// Reads the list of targets; a derivation that stands in it several times becomes one target.
fn wanted_targets<'a>(
    list: Value<'a>,
    derivations: usize,
    resolver: &mut Resolver<'a, '_>,
) -> Result<Vec<Target>, GraphError> {
    let places = resolver.places();
    let mut targets: Vec<Target> = Vec::new();
    let mut target_of = vec![None; derivations];
    let mut seen = HashSet::new();
    for element in list.list(places, format_args!("\"targets\""))? {
        let string = element.string(places, format_args!("a target"))?;
        let mut pieces = Vec::new();
        resolver.references(&string.text, string.spot(), Where::Targets, &mut pieces)?;
        for piece in pieces {
            let Piece::Output { node, output } = piece else {
                let target = string.text.into_owned();
                return Err(GraphError::NotATarget {
                    place: element.place(places),
                    target,
                });
            };
            let target = *target_of[node as usize].get_or_insert(targets.len());
            if target == targets.len() {
                targets.push(Target {
                    node,
                    outputs: Vec::new(),
                });
            }
            if seen.insert((node, output)) {
                targets[target].outputs.push(output);
            }
        }
    }
    Ok(targets)
}

/// The derivations that no other one needs, by their main outputs.
fn unneeded(outputs: &[Outputs], edges: &[Edge]) -> Vec<Target> {
    let mut needed = vec![false; outputs.len()];
    for edge in edges {
        needed[edge.to as usize] = true;
    }
    let unneeded = needed
        .iter()
        .zip(outputs)
        .enumerate()
        .filter(|(_, (needed, _))| !**needed);
    unneeded
        .map(|(node, (_, outputs))| Target {
            node: node as u32,
            outputs: vec![outputs.main()],
        })
        .collect()
}

/// Brings the nodes into `order` and renames all that refers to them.
fn reorder(nodes: &mut Vec<Node>, targets: &mut [Target], order: &[u32]) {
    if order.is_sorted() {
        return;
    }
    let mut position = vec![0; order.len()];
    for (index, &node) in order.iter().enumerate() {
        position[node as usize] = index as u32;
    }
    let mut waiting: Vec<Option<Node>> = std::mem::take(nodes).into_iter().map(Some).collect();
    nodes.extend(
        order
            .iter()
            .filter_map(|&node| waiting[node as usize].take()),
    );
    for piece in nodes.iter_mut().flat_map(Node::pieces_mut) {
        if let Piece::Output { node, .. } = piece {
            *node = position[*node as usize];
        }
    }
    for target in targets {
        target.node = position[target.node as usize];
    }
}
