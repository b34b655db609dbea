//! What a component asks for and offers, read from its bytes without compiling: so a refusal costs nothing, and hostile
//! bytes meet a parser that neither recurses nor allocates by their word. Pure; a fuzz target holds it.

use wasmparser::{Encoding, Parser, Payload};

/// Names at the outermost level.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interface {
    pub imports: Vec<String>,
    pub exports: Vec<String>,
}

/// Why bytes are no component that is looked at further.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InspectError {
    #[error("this is no WebAssembly: it does not begin with \\0asm")]
    NoWasm,
    #[error("this is a core module, not a component: make it one with `lanner policy build` or wasm-tools")]
    CoreModule,
    #[error("the component is broken at byte {at}: {what}")]
    Broken { at: u64, what: String },
    #[error("the component nests others more than {MAX_DEPTH} deep")]
    Deep,
    #[error("the component has more than {MAX_NAMES} imports or exports")]
    Names,
}

const MAX_DEPTH: usize = 64;
const MAX_NAMES: usize = 256;
const MAX_WHAT: usize = 200;

/// Reads every section's frame and the outermost imports and exports.
pub fn inspect(wasm: &[u8]) -> Result<Interface, InspectError> {
    if !wasm.starts_with(b"\0asm") {
        return Err(InspectError::NoWasm);
    }
    let mut interface = Interface::default();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(|e| broken(&e))? {
            Payload::Version { encoding: Encoding::Module, .. } if depth == 0 => {
                return Err(InspectError::CoreModule);
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                depth += 1;
                if depth > MAX_DEPTH {
                    return Err(InspectError::Deep);
                }
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                let names = section.into_iter().map(|i| i.map(|i| i.name.name.to_owned()));
                gather(&mut interface.imports, names)?;
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                let names = section.into_iter().map(|e| e.map(|e| e.name.name.to_owned()));
                gather(&mut interface.exports, names)?;
            }
            _ => {}
        }
    }
    Ok(interface)
}

fn gather(
    to: &mut Vec<String>,
    names: impl Iterator<Item = wasmparser::Result<String>>,
) -> Result<(), InspectError> {
    for name in names {
        to.push(name.map_err(|e| broken(&e))?);
        if to.len() > MAX_NAMES {
            return Err(InspectError::Names);
        }
    }
    Ok(())
}

fn broken(error: &wasmparser::BinaryReaderError) -> InspectError {
    let what = error.message().chars().take(MAX_WHAT).collect();
    InspectError::Broken { at: error.offset() as u64, what }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EMPTY: &[u8] = b"\0asm\x0d\0\x01\0";

    #[test]
    fn what_is_no_component_is_told_apart() {
        assert_eq!(inspect(EMPTY), Ok(Interface::default()));
        assert_eq!(inspect(b"").unwrap_err(), InspectError::NoWasm);
        assert_eq!(inspect(b"#!/bin/sh").unwrap_err(), InspectError::NoWasm);
        assert_eq!(inspect(b"\0asm\x01\0\0\0").unwrap_err(), InspectError::CoreModule);
        let cut = inspect(b"\0asm\x0d\0\x01\0\x04\xff\xff\xff\xff\x0f").unwrap_err();
        assert!(matches!(cut, InspectError::Broken { .. }), "{cut}");
    }

    #[test]
    fn a_component_in_a_component_a_thousand_deep_is_refused() {
        let mut bytes = EMPTY.to_vec();
        for _ in 0..1000 {
            let mut length = bytes.len();
            let mut outer = [EMPTY, &[0x04]].concat();
            while length >= 0x80 {
                outer.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
                length >>= 7;
            }
            outer.push(u8::try_from(length).unwrap());
            outer.extend(&bytes);
            bytes = outer;
        }
        assert_eq!(inspect(&bytes).unwrap_err(), InspectError::Deep);
    }

    proptest! {
        #[test]
        fn any_bytes_behind_a_valid_header_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = inspect(&[EMPTY, &bytes].concat());
        }
    }
}
