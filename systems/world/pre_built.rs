//! What the pre-build hook wants shown in the sandbox of a build: looked at, and kept from
//! collection with all that it takes of the store.

use std::path::Path;

use windrow_components::graph::BuildGraph;
use windrow_sandbox::paths::SandboxPath;
use windrow_store::layout::Layout;

use crate::error::Result;
use crate::world::Store;
use crate::world::children::PreBuilt;

impl PreBuilt {
    /// What shows these paths; a text if one can't be shown.
    ///
    /// # Errors
    /// When the database can't be read, or the roots not be written.
    pub fn showing(
        paths: &[SandboxPath],
        graph: &mut BuildGraph,
        store: &mut dyn Store,
        layout: &Layout,
    ) -> Result<std::result::Result<Self, String>> {
        let mut pre_built = Self::default();
        let store_dir = Path::new(&layout.store_dir);
        for path in paths {
            let mut path = path.clone();
            let mut in_store: Vec<String> = path.store_path(store_dir).into_iter().collect();
            if path.source.starts_with(store_dir) {
                path.source = layout.real_path(&path.source.to_string_lossy());
            }
            in_store.extend(path.store_path(store_dir));
            let kind = match path.kind(store_dir) {
                Ok(kind) => kind,
                Err(error) => {
                    let source = path.source.display();
                    return Ok(Err(format!(
                        "wants '{source}' shown in the sandbox: {error}"
                    )));
                }
            };
            for full in in_store {
                match graph.path(&full) {
                    Ok(known) => pre_built.inputs.push(known),
                    Err(error) => {
                        return Ok(Err(format!("wants '{full}' shown in the sandbox: {error}")));
                    }
                }
            }
            pre_built.shown.push((path, kind));
        }
        store.add_temp_roots(graph, &pre_built.inputs)?;
        let valid = store.valid(graph, &pre_built.inputs)?;
        let mut invalid = pre_built.inputs.iter().zip(valid);
        if let Some((&path, _)) = invalid.find(|(_, valid)| !valid) {
            let path = graph.full_path(path);
            return Ok(Err(format!(
                "wants '{path}' shown in the sandbox, which is not valid"
            )));
        }
        pre_built.inputs = store.closure(graph, &pre_built.inputs)?;
        Ok(Ok(pre_built))
    }
}
