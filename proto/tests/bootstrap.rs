//! Makes the generated code anew and fails when the committed files differ, so that neither can change alone.
//! `LANNER_BLESS=1 cargo test -p lanner-proto` writes them.

use std::path::Path;

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir().unwrap();
    let files = protox::compile([root.join("lanner/agent.proto")], [root]).unwrap();
    prost_build::Config::new().out_dir(out.path()).compile_fds(files).unwrap();
    let falco = ["schema", "outputs", "version"].map(|name| root.join(format!("falco/{name}.proto")));
    let files = protox::compile(falco, [root]).unwrap();
    let only_for_tests = "#[cfg(feature = \"falco-server\")]";
    tonic_prost_build::configure()
        .server_mod_attribute("falco.outputs", only_for_tests)
        .server_mod_attribute("falco.version", only_for_tests)
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds(files)
        .unwrap();
    let files = protox::compile([root.join("lanner/pod.proto")], [root]).unwrap();
    tonic_prost_build::configure().build_transport(false).out_dir(out.path()).compile_fds(files).unwrap();
    let committed = root.join("src/gen");
    for entry in std::fs::read_dir(out.path()).unwrap() {
        let entry = entry.unwrap();
        let fresh = std::fs::read_to_string(entry.path()).unwrap();
        let target = committed.join(entry.file_name());
        #[expect(clippy::disallowed_methods, reason = "the one switch of this test")]
        if std::env::var_os("LANNER_BLESS").is_some() {
            std::fs::create_dir_all(&committed).unwrap();
            std::fs::write(&target, fresh).unwrap();
        } else {
            let old = std::fs::read_to_string(&target).unwrap_or_default();
            assert!(
                old == fresh,
                "{} is not what the .proto says: LANNER_BLESS=1 writes it anew",
                target.display()
            );
        }
    }
}
