//! What a Wasm file says about itself: module or component, and what it imports and exports. It reads names and judges
//! nothing; whether the file is valid is for the engine to say.

use wasmparser::{BinaryReaderError, Encoding, Parser, Payload};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outline {
    pub(crate) is_component: bool,
    pub(crate) imports: Vec<String>,
    pub(crate) exports: Vec<String>,
}

pub(crate) fn begins_as_wasm(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\0asm")
}

pub(crate) fn outline(bytes: &[u8]) -> Result<Outline, BinaryReaderError> {
    let mut outline = Outline { is_component: false, imports: Vec::new(), exports: Vec::new() };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload? {
            Payload::Version { encoding, .. } => {
                depth += 1;
                outline.is_component |= depth == 1 && encoding == Encoding::Component;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 1 => {
                for import in section {
                    outline.imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 1 => {
                for export in section {
                    outline.exports.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(outline)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outermost_names_are_found() {
        let text = r#"(component
            (import "a:b/c@0.1.0" (instance))
            (component (import "inner" (func)))
            (core module)
            (instance $i)
            (export "d:e/f" (instance $i)))"#;
        let outline = outline(&wat::parse_str(text).unwrap()).unwrap();
        assert!(outline.is_component);
        assert_eq!(outline.imports, ["a:b/c@0.1.0"]);
        assert_eq!(outline.exports, ["d:e/f"]);
    }

    #[test]
    fn a_module_is_no_component_and_half_a_file_is_an_error() {
        let module = wat::parse_str("(module (func))").unwrap();
        assert!(!outline(&module).unwrap().is_component);
        assert!(outline(&module[..module.len() - 1]).is_err());
        assert!(!begins_as_wasm(b"#!/bin/sh"));
    }
}
