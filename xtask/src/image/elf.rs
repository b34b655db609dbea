//! Whether a program is static, and for which machine it is. The files that it needs are read from its header, not asked of a
//! loader: nothing is run.

use anyhow::{Context, bail};
use object::elf::{self, FileHeader64};
use object::read::elf::{Dyn as _, FileHeader as _, ProgramHeader as _};

pub(crate) struct About {
    /// As images name it.
    pub(crate) architecture: &'static str,
    /// What it cannot start without, if there is anything.
    pub(crate) needs: Option<String>,
}

pub(crate) fn read(program: &[u8]) -> anyhow::Result<About> {
    let header = FileHeader64::<object::Endianness>::parse(program).context("no ELF file of 64 bits")?;
    let endian = header.endian()?;
    let architecture = match header.e_machine(endian) {
        elf::EM_X86_64 => "amd64",
        elf::EM_AARCH64 => "arm64",
        other => bail!("a program for the machine {other}, for which no image is made"),
    };
    let mut needs = None;
    for segment in header.program_headers(endian, program)? {
        if let Some(loader) = segment.interpreter(endian, program)? {
            needs = Some(format!("the loader {}", String::from_utf8_lossy(loader)));
        }
        let dynamic = segment.dynamic(endian, program)?.unwrap_or_default();
        let libraries = dynamic.iter().filter(|d| d.d_tag(endian) == elf::DT_NEEDED).count();
        if libraries > 0 && needs.is_none() {
            needs = Some(format!("{libraries} shared libraries"));
        }
    }
    Ok(About { architecture, needs })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_test_is_no_static_program_and_text_is_none() {
        let own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let needs = read(&own).unwrap().needs.unwrap();
        assert!(needs.starts_with("the loader /"), "{needs}");
        assert!(read(b"#!/bin/sh").is_err());
    }

    #[test]
    fn a_library_that_is_needed_counts_without_a_loader() {
        let mut own = std::fs::read(std::env::current_exe().unwrap()).unwrap();
        let segments = |file: &[u8]| -> Vec<u32> {
            let header = FileHeader64::<object::Endianness>::parse(file).unwrap();
            let endian = header.endian().unwrap();
            header.program_headers(endian, file).unwrap().iter().map(|s| s.p_type(endian)).collect()
        };
        let at = |kind| segments(&own).iter().position(|k| *k == kind).unwrap();
        let (loader, dynamic) = (at(elf::PT_INTERP), at(elf::PT_DYNAMIC));
        // The table of segments begins at byte 64, each takes 56, and its kind comes first.
        let mut without = |segment: usize| own[64 + segment * 56..][..4].fill(0);
        without(loader);
        let needs = read(&own).unwrap().needs.unwrap();
        assert!(needs.ends_with(" shared libraries"), "{needs}");
        let mut without = |segment: usize| own[64 + segment * 56..][..4].fill(0);
        without(dynamic);
        assert_eq!(read(&own).unwrap().needs, None);
    }
}
