//! Each rewrite on a small graph, run by the runtime beside what it replaces.

use super::super::graph::{Attribute, Graph, Model, NamedValue, Node, OperatorSet, Weights};
use super::super::library;
use super::super::session::{Network, run};
use super::{gelu, prelu, siblings};
use crate::tensor::Tensor;

const CHANNELS: usize = 5;
const SIDE: usize = 6;

/// Values without structure, on both sides of zero, up to 1.5.
fn values(count: usize, seed: u64) -> Vec<f32> {
    (0..count as u64).map(|at| ((at * 7_919 + seed * 104_729) % 1_009) as f32 / 336.0 - 1.5).collect()
}

fn value(name: &str, axes: &[usize]) -> NamedValue {
    // TypeProto { tensor_type { elem_type: FLOAT, shape { dim { dim_value } … } } }; all lengths are below 128.
    let dims: Vec<u8> = axes.iter().flat_map(|axis| [0x0a, 2, 0x08, *axis as u8]).collect();
    let tensor = [&[0x08, 1, 0x12, dims.len() as u8], dims.as_slice()].concat();
    let value_type = [&[0x0a, tensor.len() as u8], tensor.as_slice()].concat();
    let mut value = NamedValue::default();
    (value.name, value.value_type) = (Some(name.to_owned()), Some(value_type));
    value
}

/// A model from `x` to the outputs named, with axes.
fn model(opset: i64, nodes: Vec<Node>, weights: Vec<Weights>, outputs: &[(&str, &[usize])]) -> Model {
    let mut graph = Graph::new("test", nodes, weights);
    graph.input = vec![value("x", &[1, CHANNELS, SIDE, SIDE])];
    graph.output = outputs.iter().map(|(name, axes)| value(name, axes)).collect();
    Model::new(vec![OperatorSet { domain: None, version: Some(opset) }], graph)
}

fn count(model: &Model, op_type: &str) -> usize {
    let nodes = &model.graph.as_ref().expect("a graph").node;
    nodes.iter().filter(|node| node.op_type.as_deref() == Some(op_type)).count()
}

/// Runs both; the largest difference must be within rounding of sums of some dozens of products.
fn assert_same(model: &Model, rewritten: &Model) {
    let library = std::env::var_os("ORT_DYLIB_PATH");
    let environment =
        library::environment(library.as_deref().map(std::path::Path::new)).expect("the runtime: make setup");
    let input = Tensor { shape: vec![1, CHANNELS, SIDE, SIDE], values: values(CHANNELS * SIDE * SIDE, 9) };
    let answer = |model: &Model| {
        assert_eq!(Model::parse(&model.file()).as_ref(), Some(model));
        let mut session = Network::plain(model.file()).open(environment).expect("open");
        run(&mut session, &input).expect("run")
    };
    let (expected, found) = (answer(model), answer(rewritten));
    assert_eq!(expected.len(), found.len());
    for (expected, found) in expected.iter().zip(&found) {
        assert_eq!(expected.shape, found.shape);
        let differences = expected.values.iter().zip(&found.values).map(|(a, b)| (a - b).abs());
        let largest = differences.fold(0.0, f32::max);
        assert!(largest < 1e-5, "{largest}");
    }
}

const CHANNEL_AXES: &[usize] = &[1, CHANNELS, SIDE, SIDE];

fn with_prelu(slopes: &[f32]) -> Model {
    let slopes = Weights::floats("s", vec![CHANNELS as i64, 1, 1], slopes);
    model(13, vec![Node::new("PRelu", &["x", "s"], "y")], vec![slopes], &[("y", CHANNEL_AXES)])
}

#[test]
fn prelu_of_computed_or_shared_slopes_is_left() {
    let computed = vec![Node::new("Relu", &["x"], "s"), Node::new("PRelu", &["x", "s"], "y")];
    let model = model(13, computed, Vec::new(), &[("y", CHANNEL_AXES)]);
    assert!(prelu::as_sums(&model).is_none() && prelu::as_convolutions(&model).is_none());
    let mut shared = with_prelu(&[0.5; CHANNELS]);
    shared.graph.as_mut().expect("a graph").initializer = vec![Weights::floats("s", vec![1], &[0.5])];
    assert!(prelu::as_sums(&shared).is_none() && prelu::as_convolutions(&shared).is_none());
}

#[test]
fn prelu_rewritten_is_the_same_for_any_slope() {
    for slopes in [[0.25, 0.0, 1.0, -0.5, 0.9], [0.25, 1.5, -1.5, 2.4, 0.0]] {
        let model = with_prelu(&slopes);
        for rewrite in [prelu::as_sums, prelu::as_convolutions] {
            let rewritten = rewrite(&model).expect("rewritten");
            assert_eq!(count(&rewritten, "PRelu"), 0);
            assert_same(&model, &rewritten);
        }
    }
}

/// Convolutions of `x`, each with its channels, kernel side and groups.
fn with_convolutions(opset: i64, convolutions: &[(usize, usize, usize)]) -> Model {
    let (mut nodes, mut weights, mut outputs) = (Vec::new(), Vec::new(), Vec::new());
    let names: Vec<[String; 3]> =
        (0..convolutions.len()).map(|at| ["y", "w", "b"].map(|part| format!("{part}{at}"))).collect();
    let axes: Vec<[usize; 4]> = convolutions.iter().map(|(channels, ..)| [1, *channels, SIDE, SIDE]).collect();
    for (([output, weight, bias], axes), (channels, kernel, groups)) in names.iter().zip(&axes).zip(convolutions) {
        let dims = vec![*channels as i64, (CHANNELS / groups) as i64, *kernel as i64, *kernel as i64];
        let taps = channels * CHANNELS / groups * kernel * kernel;
        weights.push(Weights::floats(weight, dims, &values(taps, *channels as u64)));
        weights.push(Weights::floats(bias, vec![*channels as i64], &values(*channels, 3)));
        nodes.push(Node::new("Conv", &["x", weight, bias], output).with([
            Attribute::integers("pads", vec![*kernel as i64 / 2; 4]),
            Attribute::integer("group", *groups as i64),
        ]));
        outputs.push((output.as_str(), axes.as_slice()));
    }
    model(opset, nodes, weights, &outputs)
}

#[test]
fn convolutions_that_differ_in_more_than_weights_are_left() {
    for unlike in [&[(2, 3, 1), (3, 1, 1)][..], &[(5, 3, 5), (5, 3, 5)], &[(2, 3, 1)], &[(65, 3, 1), (65, 3, 1)]] {
        assert!(siblings::merged(&with_convolutions(13, unlike)).is_none(), "{unlike:?}");
    }
}

#[test]
fn sibling_convolutions_become_one() {
    for opset in [11, 13] {
        let model = with_convolutions(opset, &[(2, 3, 1), (4, 1, 1), (8, 3, 1), (1, 3, 1), (3, 1, 1)]);
        let rewritten = siblings::merged(&model).expect("rewritten");
        assert_eq!((count(&rewritten, "Conv"), count(&rewritten, "Split")), (2, 2));
        assert_eq!(siblings::merged(&model), Some(rewritten.clone()), "the same again");
        assert_same(&model, &rewritten);
    }
}

/// A GELU of `x`, or of `x` and a bias, written out.
fn with_gelu(has_bias: bool) -> Model {
    let mut nodes = vec![
        Node::new("Mul", &["t", "scale"], "scaled"),
        Node::new("Erf", &["scaled"], "erf"),
        Node::new("Add", &["one", "erf"], "sum"),
        Node::new("Mul", &["sum", "t"], "product"),
        Node::new("Mul", &["product", "half"], "y"),
    ];
    nodes.insert(0, if has_bias { Node::new("Add", &["x", "b"], "t") } else { Node::new("Relu", &["x"], "t") });
    let number = |name: &str, value: f32| Weights::floats(name, vec![1], &[value]);
    let weights = vec![
        number("scale", std::f32::consts::FRAC_1_SQRT_2),
        number("one", 1.0),
        number("half", 0.5),
        Weights::floats("b", vec![SIDE as i64], &values(SIDE, 1)),
    ];
    model(17, nodes, weights, &[("y", CHANNEL_AXES)])
}

#[test]
fn gelu_whose_parts_are_read_elsewhere_or_differ_is_left() {
    for part in ["erf", "scaled", "product"] {
        let mut model = with_gelu(true);
        model.graph.as_mut().expect("a graph").output.push(value(part, CHANNEL_AXES));
        assert!(gelu::fused(&model).is_none(), "{part} is an output");
    }
    for (position, number) in [(0, 0.7), (1, 1.1), (2, 0.4)] {
        let mut model = with_gelu(true);
        let weights = &mut model.graph.as_mut().expect("a graph").initializer;
        let name = weights[position].name.clone().expect("a name");
        weights[position] = Weights::floats(&name, vec![1], &[number]);
        assert!(gelu::fused(&model).is_none(), "{name} is {number}");
    }
}

#[test]
fn gelu_is_fused_with_its_bias() {
    for (has_bias, op_type) in [(true, "BiasGelu"), (false, "Gelu")] {
        let model = with_gelu(has_bias);
        let rewritten = gelu::fused(&model).expect("rewritten");
        assert_eq!((count(&rewritten, op_type), count(&rewritten, "Erf")), (1, 0));
        assert_same(&model, &rewritten);
    }
    // A bias whose sum is read elsewhere too stays a sum.
    let mut model = with_gelu(true);
    model.graph.as_mut().expect("a graph").output.push(value("t", CHANNEL_AXES));
    let rewritten = gelu::fused(&model).expect("rewritten");
    assert_eq!((count(&rewritten, "Gelu"), count(&rewritten, "Add")), (1, 1));
    assert_same(&model, &rewritten);
}
