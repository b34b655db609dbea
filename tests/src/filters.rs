//! Hostile filters: what is uploaded, and what the platform must say.
//!
//! Most are a file in `tests/guests/filters`: a core module as text that replaces parts of `good.wat`, whose first line says
//! the problem's code and a part of its sentence. Those that are large, or differ in the component around the module, are
//! generated here.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::root;

pub struct Hostile {
    pub name: String,
    pub bytes: Vec<u8>,
    pub expected: Expected,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Expected {
    /// Refused with this code and a sentence that holds this.
    Refused { code: String, says: String },
    /// Taken or refused, whatever the machine's speed makes of it: the host lives on within its memory.
    Contained,
}

const EXPORT: &str = "lanner:platform/filter@0.1.0";

/// A filter that behaves, and keeps everything.
pub fn good() -> Result<Vec<u8>> {
    Case::new("")?.component()
}

/// All of them, by name.
pub fn all() -> Result<Vec<Hostile>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root().join("tests/guests/filters"))? {
        let path = entry?.path();
        let name = path.file_stem().context("a filter has a name")?.to_string_lossy().into_owned();
        if name != "good" {
            found.push(of_text(&name, &std::fs::read_to_string(&path)?).with_context(|| name.clone())?);
        }
    }
    ensure!(found.len() > 30, "only {} filters were found", found.len());
    found.extend(no_components()?);
    found.extend(importing()?);
    found.extend(bombs()?);
    found.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(found)
}

fn refused(name: &str, bytes: Vec<u8>, code: &str, says: &str) -> Hostile {
    let expected = Expected::Refused { code: code.into(), says: says.into() };
    Hostile { name: name.into(), bytes, expected }
}

fn of_text(name: &str, text: &str) -> Result<Hostile> {
    let first = text.lines().next().and_then(|l| l.strip_prefix(";; ")?.split_once(": "));
    let (code, says) = first.context("the first line says `;; CODE: SENTENCE`")?;
    Ok(refused(name, Case::new(text)?.component()?, code, says))
}

/// A module in the making: the parts of `good.wat`, and the world that it is for.
struct Case {
    parts: String,
    version: &'static str,
    /// An interface that the world does not have, and its only function.
    import: Option<(&'static str, &'static str)>,
}

impl Case {
    /// What the text defines takes the place of what `good.wat` defines under the same name.
    fn new(text: &str) -> Result<Self> {
        let good = std::fs::read_to_string(root().join("tests/guests/filters/good.wat"))?;
        let own = parts(text);
        let replaced = |part: &str| {
            defines(part).is_some_and(|name| own.iter().any(|o| defines(o).as_ref() == Some(&name)))
        };
        // Imports stand before everything else.
        let (imports, own_rest): (Vec<&String>, Vec<_>) = own.iter().partition(|p| p.starts_with("(import"));
        let kept: Vec<String> = parts(&good).into_iter().filter(|p| !replaced(p)).collect();
        let all = imports.into_iter().chain(&kept).chain(own_rest);
        Ok(Self { parts: all.map(String::as_str).collect(), version: "0.1.0", import: None })
    }

    fn module(&self) -> Result<Vec<u8>> {
        let import = self
            .import
            .map(|(interface, function)| format!("(import \"{interface}\" \"{function}\" (func))"));
        let export = EXPORT.replace("0.1.0", self.version);
        let text = format!(
            "(module {} {}\n(export \"memory\" (memory 0)) (export \"cabi_realloc\" (func $realloc))\n\
             (export \"{export}#evaluate\" (func $evaluate)) (export \"{export}#describe\" (func $describe))\n\
             (export \"{export}#validate-settings\" (func $validate)))",
            import.unwrap_or_default(),
            self.parts
        );
        Ok(wat::parse_str(text)?)
    }

    fn component(&self) -> Result<Vec<u8>> {
        let mut module = self.module()?;
        let mut resolve = Resolve::default();
        let mut wit = String::new();
        for file in ["types", "logging", "filter"] {
            let text = std::fs::read_to_string(root().join("proto/wit").join(file).with_extension("wit"))?;
            let body = text.split_once(';').context("a WIT file names its package")?.1;
            wit.push_str(body);
        }
        resolve.push_str("platform.wit", &format!("package lanner:platform@{};{wit}", self.version))?;
        let mut import = String::new();
        if let Some((interface, function)) = self.import {
            let (package, name) = interface.split_once('/').context("an interface has a package")?;
            let (name, version) = name.split_once('@').context("an interface has a version")?;
            let text = format!("package {package}@{version}; interface {name} {{ {function}: func(); }}");
            resolve.push_str("foreign.wit", &text)?;
            _ = write!(import, "import {interface};");
        }
        let world = format!(
            "package test:hostile; world hostile {{ {import} import lanner:platform/logging@{v}; export lanner:platform/filter@{v}; }}",
            v = self.version
        );
        let package = resolve.push_str("hostile.wit", &world)?;
        let world = resolve.select_world(&[package], Some("hostile"))?;
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)?;
        ComponentEncoder::default().module(&module)?.validate(true).encode()
    }
}

/// A part begins with `(` in the first column.
fn parts(text: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    for line in text.lines().filter(|l| !l.starts_with(";;")) {
        if line.starts_with('(') {
            parts.push(String::new());
        }
        if let Some(part) = parts.last_mut() {
            part.push_str(line);
            part.push('\n');
        }
    }
    parts
}

/// `(memory`, or the kind and name of what is defined; only these are replaced.
fn defines(part: &str) -> Option<String> {
    let mut words = part.split_whitespace();
    match (words.next()?, words.next()?) {
        ("(memory", _) => Some("memory".into()),
        ("(func", name) => Some(name.to_owned()),
        _ => None,
    }
}

/// Bytes that are no component, or one that is cut, deep or empty.
fn no_components() -> Result<Vec<Hostile>> {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    let good = good()?;
    let mut found = vec![
        refused("no-wasm", b"#!/bin/sh\n".to_vec(), "filter-format", "this is no WebAssembly"),
        refused("nothing", Vec::new(), "filter-format", "this is no WebAssembly"),
        refused(
            "core-module",
            Case::new("")?.module()?,
            "filter-format",
            "this is a core module, not a component",
        ),
        refused(
            "empty-component",
            HEADER.to_vec(),
            "filter-world",
            "it does not export lanner:platform/filter",
        ),
        refused(
            "cut-in-half",
            good.iter().take(good.len() / 2).copied().collect(),
            "filter-format",
            "broken at byte",
        ),
        refused(
            "section-of-4-gib",
            [HEADER, b"\x04\xff\xff\xff\xff\x0f"].concat(),
            "filter-format",
            "broken at byte",
        ),
        refused("nested-1000-deep", nested(1000), "filter-format", "nests others more than"),
        refused(
            "other-version",
            Case { version: "0.2.0", ..Case::new("")? }.component()?,
            "filter-version",
            "0.2.0",
        ),
    ];
    // The same at every run: a failure can be repeated.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for number in 0..16 {
        let random = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        });
        let bytes = HEADER.iter().copied().chain(random.take(200 + number * 300)).collect();
        found.push(refused(&format!("random-{number:02}"), bytes, "filter-format", "broken at byte"));
    }
    Ok(found)
}

/// A component in a component, and so on.
fn nested(depth: usize) -> Vec<u8> {
    const HEADER: &[u8] = b"\0asm\x0d\0\x01\0";
    let mut inner = HEADER.to_vec();
    for _ in 0..depth {
        let mut outer = [HEADER, &[4]].concat();
        let mut length = inner.len();
        while length >= 0x80 {
            outer.push(u8::try_from(length & 0x7f).unwrap_or_default() | 0x80);
            length >>= 7;
        }
        outer.push(u8::try_from(length).unwrap_or_default());
        outer.extend(inner);
        inner = outer;
    }
    inner
}

/// Filters that ask for more than they may have.
fn importing() -> Result<Vec<Hostile>> {
    let foreign = [
        ("wasi:sockets/tcp@0.2.6", "start-connect"),
        ("wasi:filesystem/preopens@0.2.6", "get-directories"),
        ("wasi:cli/environment@0.2.6", "get-environment"),
        ("wasi:clocks/wall-clock@0.2.6", "now"),
        ("wasi:random/random@0.2.6", "get-random-bytes"),
        ("wasi:http/outgoing-handler@0.2.6", "handle"),
    ];
    foreign
        .into_iter()
        .map(|import| {
            let bytes = Case { import: Some(import), ..Case::new("")? }.component()?;
            let name = format!("imports-{}", import.0.replace([':', '/', '@', '.'], "-"));
            Ok(refused(&name, bytes, "filter-import", &format!("it imports {}", import.0)))
        })
        .collect()
}

/// Small to send, and large for whoever unpacks or compiles it.
fn bombs() -> Result<Vec<Hostile>> {
    // Each block may end in two ways with other values in every local, so that each local is another value in each block.
    let locals = 40;
    let mut body = format!("(func (export \"large\") (param i32) (local{})", " i32".repeat(locals));
    for block in 0..150_000 {
        let local = block % locals + 1;
        _ = write!(
            body,
            "(block (br_if 0 (local.get {local}))(local.set {local} (i32.add (local.get {}) (local.get 0))))",
            (block * 7) % locals + 1
        );
    }
    let large = Case::new(&format!("{body})"))?.component()?;
    let mut many = String::new();
    for number in 0..100_000 {
        _ = writeln!(
            many,
            "(func $f{number} (param i32) (result i32) (i32.mul (local.get 0) (i32.const {number})))"
        );
    }
    let many = Case::new(&many)?.component()?;
    let mut segments = String::from("(memory 1000)\n");
    for page in 1..1000 {
        _ = writeln!(segments, "(data (i32.const {}) \"x\")", page * 65536);
    }
    let mut sparse = segments.replace("(memory 1000)", "(memory 65536)");
    for page in 1000..65536_u64 {
        _ = writeln!(sparse, "(data (i32.const {}) \"x\")", page * 65536);
    }
    let contained = |name: &str, bytes| Hostile { name: name.into(), bytes, expected: Expected::Contained };
    Ok(vec![
        refused("one-enormous-function", large, "filter-compile", "compiling it takes more than"),
        contained("100-thousand-functions", many),
        contained("a-data-segment-in-each-of-1000-pages", Case::new(&segments)?.component()?),
        refused(
            "a-data-segment-in-each-page-of-4-gib",
            Case::new(&sparse)?.component()?,
            "filter-compile",
            "compiling it takes more than",
        ),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_what_it_says_and_small_enough_to_be_sent() {
        let all = all().unwrap();
        let mut names: Vec<_> = all.iter().map(|h| h.name.as_str()).collect();
        names.dedup();
        assert_eq!(names.len(), all.len(), "two have the same name");
        for hostile in &all {
            assert!(hostile.bytes.len() < 16 << 20, "{}: {} bytes", hostile.name, hostile.bytes.len());
            if let Expected::Refused { code, says } = &hostile.expected {
                assert!(code.starts_with("filter-") && !says.is_empty(), "{}", hostile.name);
            }
        }
        let good = good().unwrap();
        for hostile in all
            .iter()
            .filter(|h| matches!(&h.expected, Expected::Refused { code, .. } if code == "filter-trial"))
        {
            assert_ne!(hostile.bytes, good, "{} replaces nothing", hostile.name);
        }
    }
}
