//! Compiles the contract in `proto/` with protox, so that no `protoc` needs to be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let services = ["face", "gallery", "enrollment", "match", "calibration", "key"]
        .map(|name| format!("facematch/v1/{name}_service.proto"));
    let descriptors = protox::compile(&services, ["proto"])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);

    // Reflection serves the descriptors at run time.
    std::fs::write(out.join("facematch_descriptor.bin"), prost_encode(&descriptors))?;

    // Photos, embeddings and names must not reach a log through a derived `Debug`: messages print their name alone.
    let own = descriptors.file.iter().filter(|file| file.package() == "facematch.v1");
    let messages: Vec<String> =
        own.flat_map(|file| &file.message_type).map(|message| message.name().to_owned()).collect();
    let redacted = messages.iter().map(|name| {
        format!(
            "impl ::core::fmt::Debug for {name} {{
                fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {{ f.write_str(\"{name}(..)\") }}
            }}\n"
        )
    });
    std::fs::write(out.join("redacted_debug.rs"), redacted.collect::<String>())?;

    // Names let a reply be printed as protobuf's JSON mapping.
    let mut config = tonic_prost_build::Config::new();
    config.enable_type_names();
    tonic_prost_build::configure()
        .codec_path("crate::server::CheckedCodec")
        .skip_debug(messages.iter().map(|name| format!(".facematch.v1.{name}")))
        .compile_fds_with_config(descriptors, config)?;

    println!("cargo:rerun-if-changed=proto");
    Ok(())
}

fn prost_encode(descriptors: &impl protox::prost::Message) -> Vec<u8> {
    descriptors.encode_to_vec()
}
