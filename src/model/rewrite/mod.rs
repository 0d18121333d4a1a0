//! Rewrites of a network's graph that compute the same with less work. Each takes a model and returns the rewritten one,
//! or `None` where there is nothing in it to rewrite. Whether it is used is decided by [`super::tune`].

mod gelu;
mod prelu;
mod siblings;
#[cfg(test)]
mod tests;

use super::graph::{Graph, Model, Node};

/// One rewrite.
pub(super) struct Rewrite {
    /// For the log.
    pub name: &'static str,
    pub apply: fn(&Model) -> Option<Model>,
}

/// All rewrites, in the order in which they are tried: each on what the ones before it left.
pub(super) const REWRITES: [Rewrite; 4] = [
    Rewrite { name: "prelu as depthwise convolutions", apply: prelu::as_convolutions },
    Rewrite { name: "prelu as sums", apply: prelu::as_sums },
    Rewrite { name: "sibling convolutions as one", apply: siblings::merged },
    Rewrite { name: "gelu as one operator", apply: gelu::fused },
];

/// Gives every node to `replace`, which may put others in its place.
fn replace_nodes(
    model: &Model,
    mut replace: impl FnMut(usize, &Node, &mut Graph) -> Option<Vec<Node>>,
) -> Option<Model> {
    let mut rewritten = model.clone();
    let graph = rewritten.graph.as_mut()?;
    let nodes = std::mem::take(&mut graph.node);
    let mut replaced = false;
    for (index, node) in nodes.iter().enumerate() {
        match replace(index, node, graph) {
            Some(others) => {
                replaced = true;
                graph.node.extend(others);
            }
            None => graph.node.push(node.clone()),
        }
    }
    replaced.then_some(rewritten)
}
