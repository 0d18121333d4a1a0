//! The little of an ONNX file that the runtime does not tell: whether the graph normalises its input itself.

use prost::Message;

/// `onnx.ModelProto`, the fields read here; all others are skipped.
#[derive(Message)]
struct ModelProto {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
}

#[derive(Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
}

#[derive(Message)]
struct NodeProto {
    #[prost(string, tag = "4")]
    op_type: String,
}

/// Tells whether a recogniser takes raw pixels 0..255, because its graph begins by subtracting and scaling.
///
/// *Source*: the rule of InsightFace's `arcface_onnx.py` (a subtraction and a multiplication among the first eight
/// nodes), by operator instead of by node name. *Errors*: a file that is not ONNX.
pub(super) fn normalizes_its_input(file: &[u8]) -> Result<bool, prost::DecodeError> {
    let nodes = ModelProto::decode(file)?.graph.unwrap_or_default().node;
    let first: Vec<&str> = nodes.iter().take(8).map(|node| node.op_type.as_str()).collect();
    Ok(first.contains(&"Sub") && (first.contains(&"Mul") || first.contains(&"Div")))
}
