//! Convolutions of one input that differ only in their weights, as one convolution whose channels are split again.
//!
//! SCRFD's heads are three on each scale, with 2, 8 and 20 channels out of 64. The runtime computes channels in blocks of
//! 16 on AVX-512, so the three cost 16 + 16 + 32 and the one costs 32: `insightface_det_500m` at 640 takes 1.19 times as
//! long without (the shortest of 25 alternating runs).

use std::collections::HashMap;

use super::super::graph::{Attribute, Graph, Model, Node, Weights};
use super::replace_nodes;

/// More channels than this already fill their blocks: joining them gains nothing and copies more.
const CHANNELS_MAX: i64 = 64;

/// Joins what can be joined.
pub(super) fn merged(model: &Model) -> Option<Model> {
    let graph = model.graph.as_ref()?;
    let weights = graph.weights();
    let mut groups: HashMap<Key<'_>, Vec<usize>> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        if let Some(key) = Key::of(node, &weights) {
            groups.entry(key).or_default().push(index);
        }
    }
    groups.retain(|_, group| group.len() > 1);
    // The place of the first takes the whole: its input is made before it, and all readers come after.
    let mut whole: HashMap<usize, Vec<Node>> = HashMap::new();
    let mut constants = Vec::new();
    for group in groups.values() {
        let nodes: Vec<&Node> = group.iter().filter_map(|index| graph.node.get(*index)).collect();
        let merged = Merged::of(&nodes, &weights, model.opset())?;
        constants.extend(merged.constants);
        whole.extend(group.iter().map(|index| (*index, Vec::new())));
        whole.insert(*group.first()?, merged.nodes);
    }
    let mut rewritten = replace_nodes(model, |index, _, _: &mut Graph| whole.remove(&index))?;
    // The order of a map is another in each run; the rewritten file is the same.
    constants.sort_by(|a, b| a.name.cmp(&b.name));
    rewritten.graph.as_mut()?.initializer.extend(constants);
    Some(rewritten)
}

/// What siblings have in common.
#[derive(PartialEq, Eq, Hash)]
struct Key<'a> {
    input: &'a str,
    has_bias: bool,
    /// Of the weights, less the channels that come out.
    kernel: &'a [i64],
    /// Encoded, by name.
    attributes: Vec<Vec<u8>>,
}

impl<'a> Key<'a> {
    fn of(node: &'a Node, weights: &HashMap<&str, &'a Weights>) -> Option<Self> {
        let (input, rest) = node.input.split_first()?;
        let kernel = weights.get(rest.first()?.as_str())?;
        let (channels, kernel) = kernel.dims.split_first()?;
        let all_constant = rest.iter().all(|name| weights.contains_key(name.as_str()));
        let fits = node.is("Conv") && all_constant && node.integer("group").unwrap_or(1) == 1;
        if !fits || *channels > CHANNELS_MAX {
            return None;
        }
        let mut attributes: Vec<Vec<u8>> = node.attribute.iter().map(Attribute::encoded).collect();
        attributes.sort();
        Some(Self { input, has_bias: rest.len() > 1, kernel, attributes })
    }
}

struct Merged {
    nodes: Vec<Node>,
    constants: Vec<Weights>,
}

impl Merged {
    fn of(siblings: &[&Node], weights: &HashMap<&str, &Weights>, opset: i64) -> Option<Self> {
        let first = *siblings.first()?;
        let whole = format!("{}/siblings", first.output.first()?);
        let mut convolution = Node::new("Conv", &[first.input.first()?], &whole).with(first.attribute.clone());
        let mut constants = Vec::new();
        let mut channels = Vec::new();
        for position in 1..first.input.len() {
            let parts: Option<Vec<&Weights>> =
                siblings.iter().map(|node| weights.get(node.input.get(position)?.as_str()).copied()).collect();
            let parts = parts?;
            channels = parts.iter().map(|part| part.dims.first().copied().unwrap_or(0)).collect();
            let values: Option<Vec<Vec<f32>>> = parts.iter().map(|part| part.values()).collect();
            let mut dims = parts.first()?.dims.clone();
            *dims.first_mut()? = channels.iter().sum();
            let name = format!("{whole}/{position}");
            constants.push(Weights::floats(&name, dims, &values?.concat()));
            convolution.input.push(name);
        }
        let mut split = Node::new("Split", &[&whole], "").with([Attribute::integer("axis", 1)]);
        split.name = Some(format!("{whole}/split"));
        split.output = siblings.iter().filter_map(|node| node.output.first().cloned()).collect();
        if opset < 13 {
            split.attribute.push(Attribute::integers("split", channels));
        } else {
            let name = format!("{whole}/sizes");
            constants.push(Weights::integers(&name, &channels));
            split.input.push(name);
        }
        Some(Self { nodes: vec![convolution, split], constants })
    }
}
