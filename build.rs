//! Compiles the contract in `proto/` with protox, so that no `protoc` needs to be installed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services = ["face", "gallery", "enrollment", "match"].map(|name| format!("facematch/v1/{name}_service.proto"));
    let descriptors = protox::compile(&services, ["proto"])?;

    // Reflection serves the descriptors at run time.
    let out = std::path::PathBuf::from(std::env::var("OUT_DIR")?).join("facematch_descriptor.bin");
    std::fs::write(out, prost_encode(&descriptors))?;

    // Names let a reply be printed as protobuf's JSON mapping.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        // Photos, embeddings and names must not reach a log through a derived `Debug`.
        .skip_debug(["."])
        .compile_fds_with_config(descriptors, config)?;

    println!("cargo:rerun-if-changed=proto");
    Ok(())
}

fn prost_encode(descriptors: &impl protox::prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
