//! PRelu, `x` where positive and `slope·x` elsewhere, as `slope·x + (1 − slope)·Relu(x)`.
//!
//! The runtime's CPU kernel for PRelu is scalar and knows no blocked layout: with its reorders it takes up to two thirds
//! of a MobileFaceNet's time. Of the forms that were tried on `arcface_mobilefacenet_y1_128` (median of 60 alternating
//! runs; the file as it is: 9.3 ms) these two are best: 3.3 ms. `Relu(x) − slope·Relu(−x)` and forms by `Min` take 4.5 ms.

use std::collections::HashMap;

use super::super::graph::{Attribute, Graph, Model, Node, Weights};
use super::replace_nodes;

/// A PRelu with one slope a channel.
struct Prelu<'a> {
    input: &'a str,
    output: &'a str,
    slopes: Vec<f32>,
}

impl<'a> Prelu<'a> {
    fn of(node: &'a Node, weights: &HashMap<&str, &Weights>) -> Option<Self> {
        let ([input, slope], [output], true) = (node.input.as_slice(), node.output.as_slice(), node.is("PRelu")) else {
            return None;
        };
        let slope = weights.get(slope.as_str())?;
        // One slope a channel is `[channels, 1, 1]`, set against `[n, channels, height, width]` from the right.
        let is_per_channel = matches!(slope.dims.as_slice(), [_, 1, 1] | [1, _, 1, 1]);
        Some(Self { input, output, slopes: slope.values().filter(|_| is_per_channel)? })
    }

    fn value(&self, part: &str) -> String {
        format!("{}/{part}", self.output)
    }

    /// Adds a constant and returns its name.
    fn constant(&self, graph: &mut Graph, part: &str, trailing_axes: usize, value: impl Fn(f32) -> f32) -> String {
        let name = self.value(part);
        let values: Vec<f32> = self.slopes.iter().map(|slope| value(*slope)).collect();
        let mut dims = vec![1; trailing_axes + 1];
        if let Some(channels) = dims.first_mut() {
            *channels = values.len() as i64;
        }
        graph.initializer.push(Weights::floats(&name, dims, &values));
        name
    }
}

/// As multiplications and a sum.
pub(super) fn as_sums(model: &Model) -> Option<Model> {
    let weights = model.graph.as_ref()?.weights();
    replace_nodes(model, |_, node, graph| {
        let prelu = Prelu::of(node, &weights)?;
        let slope = prelu.constant(graph, "slope", 2, |slope| slope);
        let rest = prelu.constant(graph, "rest", 2, |slope| 1.0 - slope);
        let [positive, scaled, lifted] = ["positive", "scaled", "lifted"].map(|part| prelu.value(part));
        Some(vec![
            Node::new("Relu", &[prelu.input], &positive),
            Node::new("Mul", &[prelu.input, &slope], &scaled),
            Node::new("Mul", &[&positive, &rest], &lifted),
            Node::new("Add", &[&scaled, &lifted], prelu.output),
        ])
    })
}

/// As convolutions of one weight a channel, which the runtime runs in its blocked layout and joins with the sum and, where
/// no slope is above 1, with the Relu too: `slope·x + Relu((1 − slope)·x)`.
pub(super) fn as_convolutions(model: &Model) -> Option<Model> {
    let weights = model.graph.as_ref()?.weights();
    replace_nodes(model, |_, node, graph| {
        let prelu = Prelu::of(node, &weights)?;
        let slope = prelu.constant(graph, "slope", 3, |slope| slope);
        let rest = prelu.constant(graph, "rest", 3, |slope| 1.0 - slope);
        let [positive, scaled, lifted] = ["positive", "scaled", "lifted"].map(|part| prelu.value(part));
        let channels = prelu.slopes.len() as i64;
        let scale = |input: &str, weights: &str, output: &str| {
            let convolution = Node::new("Conv", &[input, weights], output);
            convolution.with([Attribute::integer("group", channels), Attribute::integers("kernel_shape", vec![1, 1])])
        };
        let lift = if prelu.slopes.iter().all(|slope| *slope <= 1.0) {
            [scale(prelu.input, &rest, &positive), Node::new("Relu", &[&positive], &lifted)]
        } else {
            [Node::new("Relu", &[prelu.input], &positive), scale(&positive, &rest, &lifted)]
        };
        let [first, second] = lift;
        let sum = Node::new("Add", &[&scaled, &lifted], prelu.output);
        Some(vec![first, second, scale(prelu.input, &slope, &scaled), sum])
    })
}
