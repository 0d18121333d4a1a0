//! ONNX files as far as rewrites need them. What no rewrite touches is carried as the bytes it came as.

use std::collections::HashMap;

use prost::Message;

/// `onnx.ModelProto`.
///
/// *Source*: `onnx.proto` of ONNX 1.20 (IR version 13). Presence is kept and numbers are not packed, as protobuf's
/// version 2, in which ONNX is written, does: so a file that is decoded and encoded again is the same to the last byte.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(int64, optional, tag = "1")]
    ir_version: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "2")]
    producer_name: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    producer_version: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "4")]
    domain: Option<Vec<u8>>,
    #[prost(int64, optional, tag = "5")]
    model_version: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "6")]
    doc_string: Option<Vec<u8>>,
    #[prost(message, optional, tag = "7")]
    pub graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    pub opset_import: Vec<OperatorSet>,
    #[prost(bytes = "vec", repeated, tag = "14")]
    metadata_props: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "20")]
    training_info: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "25")]
    functions: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "26")]
    configuration: Vec<Vec<u8>>,
}

/// `onnx.OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSet {
    #[prost(string, optional, tag = "1")]
    pub domain: Option<String>,
    #[prost(int64, optional, tag = "2")]
    pub version: Option<i64>,
}

/// `onnx.GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub node: Vec<Node>,
    #[prost(bytes = "vec", optional, tag = "2")]
    name: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "5")]
    pub initializer: Vec<Weights>,
    #[prost(bytes = "vec", optional, tag = "10")]
    doc_string: Option<Vec<u8>>,
    #[prost(message, repeated, tag = "11")]
    pub input: Vec<NamedValue>,
    #[prost(message, repeated, tag = "12")]
    pub output: Vec<NamedValue>,
    #[prost(bytes = "vec", repeated, tag = "13")]
    value_info: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "14")]
    quantization_annotation: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "15")]
    sparse_initializer: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "16")]
    metadata_props: Vec<Vec<u8>>,
}

/// `onnx.ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct NamedValue {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    pub value_type: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "3")]
    doc_string: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "4")]
    metadata_props: Vec<Vec<u8>>,
}

/// `onnx.NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub output: Vec<String>,
    #[prost(string, optional, tag = "3")]
    pub name: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub op_type: Option<String>,
    #[prost(message, repeated, tag = "5")]
    pub attribute: Vec<Attribute>,
    #[prost(bytes = "vec", optional, tag = "6")]
    doc_string: Option<Vec<u8>>,
    #[prost(string, optional, tag = "7")]
    pub domain: Option<String>,
    #[prost(bytes = "vec", optional, tag = "8")]
    overload: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    metadata_props: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "10")]
    device_configurations: Vec<Vec<u8>>,
}

/// `onnx.AttributeProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Attribute {
    #[prost(string, optional, tag = "1")]
    pub name: Option<String>,
    #[prost(float, optional, tag = "2")]
    f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub i: Option<i64>,
    #[prost(bytes = "vec", optional, tag = "4")]
    s: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "5")]
    t: Option<Vec<u8>>,
    #[prost(message, optional, tag = "6")]
    pub g: Option<Graph>,
    #[prost(float, repeated, packed = "false", tag = "7")]
    floats: Vec<f32>,
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = "9")]
    strings: Vec<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "10")]
    tensors: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = "11")]
    pub graphs: Vec<Graph>,
    #[prost(bytes = "vec", optional, tag = "13")]
    doc_string: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "14")]
    tp: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "15")]
    type_protos: Vec<Vec<u8>>,
    #[prost(int32, optional, tag = "20")]
    kind: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "21")]
    ref_attr_name: Option<Vec<u8>>,
    #[prost(bytes = "vec", optional, tag = "22")]
    sparse_tensor: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "23")]
    sparse_tensors: Vec<Vec<u8>>,
}

/// `onnx.TensorProto`: a constant of the graph.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Weights {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub dims: Vec<i64>,
    #[prost(int32, optional, tag = "2")]
    data_type: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "3")]
    segment: Option<Vec<u8>>,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = "6")]
    string_data: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, optional, tag = "8")]
    pub name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "9")]
    raw_data: Option<Vec<u8>>,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
    #[prost(bytes = "vec", optional, tag = "12")]
    doc_string: Option<Vec<u8>>,
    #[prost(bytes = "vec", repeated, tag = "13")]
    external_data: Vec<Vec<u8>>,
    #[prost(int32, optional, tag = "14")]
    data_location: Option<i32>,
    #[prost(bytes = "vec", repeated, tag = "16")]
    metadata_props: Vec<Vec<u8>>,
}

/// `onnx.TensorProto.DataType`.
const FLOAT: i32 = 1;
const INT64: i32 = 7;

/// `onnx.AttributeProto.AttributeType`.
const ATTRIBUTE_INT: i32 = 2;
const ATTRIBUTE_INTS: i32 = 7;

impl Model {
    /// Makes a model as of 2021, which every runtime reads.
    #[cfg(test)]
    pub fn new(opset_import: Vec<OperatorSet>, graph: Graph) -> Self {
        Self { ir_version: Some(8), opset_import, graph: Some(graph), ..Self::default() }
    }

    /// Decodes a file that may be rewritten. `None` where something in it would be lost: then it is left as it is.
    pub fn parse(file: &[u8]) -> Option<Self> {
        let model = Self::decode(file).ok()?;
        (model.file() == file).then_some(model)
    }

    /// Returns the bytes of a file.
    pub fn file(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The version of ONNX's own operators.
    pub fn opset(&self) -> i64 {
        let own = self.opset_import.iter().find(|set| set.domain.as_deref().unwrap_or_default().is_empty());
        own.and_then(|set| set.version).unwrap_or(1)
    }

    /// Makes the runtime's own operators known to the model.
    pub fn import_runtime_operators(&mut self) {
        if !self.opset_import.iter().any(|set| set.domain.as_deref() == Some(RUNTIME_DOMAIN)) {
            self.opset_import.push(OperatorSet { domain: Some(RUNTIME_DOMAIN.to_owned()), version: Some(1) });
        }
    }
}

/// The ONNX Runtime's own operators.
pub(super) const RUNTIME_DOMAIN: &str = "com.microsoft";

impl Graph {
    /// Makes a graph without inputs and outputs.
    #[cfg(test)]
    pub fn new(name: &str, node: Vec<Node>, initializer: Vec<Weights>) -> Self {
        Self { name: Some(name.into()), node, initializer, ..Self::default() }
    }

    /// The constants by name.
    pub fn weights(&self) -> HashMap<&str, &Weights> {
        self.initializer.iter().filter_map(|weights| Some((weights.name.as_deref()?, weights))).collect()
    }

    /// How often each value is read: by nodes, by the graphs within nodes, and as an output.
    pub fn readers(&self) -> HashMap<&str, usize> {
        let mut readers = HashMap::new();
        self.count_readers(&mut readers);
        readers
    }

    fn count_readers<'a>(&'a self, readers: &mut HashMap<&'a str, usize>) {
        let outputs = self.output.iter().filter_map(|output| output.name.as_ref());
        for value in self.node.iter().flat_map(|node| &node.input).chain(outputs) {
            *readers.entry(value).or_default() += 1;
        }
        for attribute in self.node.iter().flat_map(|node| &node.attribute) {
            attribute.g.iter().chain(&attribute.graphs).for_each(|graph| graph.count_readers(readers));
        }
    }
}

impl Node {
    /// Makes a node without attributes.
    pub fn new(op_type: &str, input: &[&str], output: &str) -> Self {
        Self {
            input: input.iter().map(|name| (*name).to_owned()).collect(),
            output: vec![output.to_owned()],
            name: Some(output.to_owned()),
            op_type: Some(op_type.to_owned()),
            ..Self::default()
        }
    }

    /// Adds attributes.
    pub fn with(mut self, attributes: impl IntoIterator<Item = Attribute>) -> Self {
        self.attribute.extend(attributes);
        self
    }

    /// Tells whether the node is of an operator of ONNX itself.
    pub fn is(&self, op_type: &str) -> bool {
        self.op_type.as_deref() == Some(op_type) && self.domain.as_deref().unwrap_or_default().is_empty()
    }

    /// The value of a whole-number attribute.
    pub fn integer(&self, name: &str) -> Option<i64> {
        self.attribute.iter().find(|attribute| attribute.name.as_deref() == Some(name))?.i
    }
}

impl Attribute {
    /// Returns bytes that are equal where attributes are.
    pub fn encoded(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Makes an attribute of one whole number.
    pub fn integer(name: &str, value: i64) -> Self {
        Self { name: Some(name.to_owned()), i: Some(value), kind: Some(ATTRIBUTE_INT), ..Self::default() }
    }

    /// Makes an attribute of whole numbers.
    pub fn integers(name: &str, values: Vec<i64>) -> Self {
        Self { name: Some(name.to_owned()), ints: values, kind: Some(ATTRIBUTE_INTS), ..Self::default() }
    }
}

impl Weights {
    /// Makes a constant of f32.
    pub fn floats(name: &str, dims: Vec<i64>, values: &[f32]) -> Self {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let name = Some(name.to_owned());
        Self { dims, data_type: Some(FLOAT), name, raw_data: Some(raw), ..Self::default() }
    }

    /// Makes a constant list of whole numbers.
    pub fn integers(name: &str, values: &[i64]) -> Self {
        let raw = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (dims, name) = (vec![values.len() as i64], Some(name.to_owned()));
        Self { dims, data_type: Some(INT64), name, raw_data: Some(raw), ..Self::default() }
    }

    /// The values, where they are f32 and in the file itself.
    pub fn values(&self) -> Option<Vec<f32>> {
        let count = self.dims.iter().try_fold(1usize, |count, axis| count.checked_mul(usize::try_from(*axis).ok()?))?;
        let values = match &self.raw_data {
            Some(raw) => raw.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect(),
            None => self.float_data.clone(),
        };
        (self.data_type == Some(FLOAT) && values.len() == count).then_some(values)
    }

    /// The value of a constant that is one number.
    pub fn scalar(&self) -> Option<f32> {
        let values = self.values()?;
        if let [value] = values.as_slice() { Some(*value) } else { None }
    }
}

/// Tells whether a recogniser takes raw pixels 0..255, because its graph begins by subtracting and scaling.
///
/// *Source*: the rule of InsightFace's `arcface_onnx.py` (a subtraction and a multiplication among the first eight
/// nodes), by operator instead of by node name. *Errors*: a file that is not ONNX.
pub(super) fn normalizes_its_input(file: &[u8]) -> Result<bool, prost::DecodeError> {
    let nodes = Model::decode(file)?.graph.unwrap_or_default().node;
    let first: Vec<&str> = nodes.iter().take(8).filter_map(|node| node.op_type.as_deref()).collect();
    Ok(first.contains(&"Sub") && (first.contains(&"Mul") || first.contains(&"Div")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_with_an_unknown_field_is_not_parsed() {
        let model = Model { ir_version: Some(8), graph: Some(Graph::default()), ..Model::default() };
        let mut file = model.file();
        assert_eq!(Model::parse(&file), Some(model));
        file.extend([0xf8, 0x06, 0x01]); // field 111, the number 1
        assert!(Model::decode(file.as_slice()).is_ok());
        assert_eq!(Model::parse(&file), None);
        assert_eq!(Model::parse(b"not a model"), None);
    }

    #[test]
    fn weights_of_another_length_have_no_values() {
        let mut weights = Weights::floats("w", vec![2, 1], &[1.0, 2.0]);
        assert_eq!(weights.values(), Some(vec![1.0, 2.0]));
        weights.dims = vec![3];
        assert_eq!(weights.values(), None);
        weights.dims = vec![i64::MAX, i64::MAX];
        assert_eq!(weights.values(), None);
        assert_eq!(Weights::integers("i", &[1, 2]).values(), None);
    }
}
