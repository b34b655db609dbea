//! The reference's grammar against that of another implementation: whatever passes here means the same there.

use lanner_oci::{Digest, Reference};
use proptest::prelude::*;

fn near_misses() -> impl Strategy<Value = String> {
    // Close to the grammar, so that both sides of each of its edges are met.
    let registry = "([a-z0-9.:-]{0,12}|localhost|127\\.0\\.0\\.1|\\[::1\\])(:[0-9]{1,6})?";
    let repository = "[a-zA-Z0-9._/-]{0,24}";
    let rest = "(:[A-Za-z0-9._-]{0,8})?(@sha256:[0-9a-f]{64})?";
    (registry, repository, rest).prop_map(|(a, b, c)| format!("{a}/{b}{c}"))
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_in_one_short_line(text in "([\\x00-\\x20a-z:/@.\\[\\]]|.){0,60}") {
        if let Err(error) = text.parse::<Reference>() {
            let said = error.to_string();
            prop_assert!(!said.contains(char::is_control) && said.len() < 4000, "{said}");
        }
    }

    #[test]
    fn what_passes_is_written_back_and_means_the_same_to_others(text in near_misses()) {
        let Ok(reference) = text.parse::<Reference>() else { return Ok(()) };
        prop_assert_eq!(reference.to_string(), text.clone());
        prop_assert_eq!(&reference.to_string().parse::<Reference>().unwrap(), &reference);
        let path = reference.repository();
        prop_assert!(path.split('/').all(|part| !part.is_empty() && part != "." && part != ".."));
        // The other implementation knows no address of version 6.
        if reference.registry().starts_with('[') {
            return Ok(());
        }
        let other: oci_spec::distribution::Reference = text.parse().map_err(|e| TestCaseError::fail(format!("{text}: {e}")))?;
        prop_assert_eq!(other.registry(), reference.registry());
        prop_assert_eq!(other.repository(), reference.repository());
        prop_assert_eq!(other.digest().map(str::to_owned), reference.digest().map(|d| d.to_string()));
        prop_assert_eq!(other.tag(), reference.tag());
    }

    #[test]
    fn a_digest_is_written_back(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let digest = Digest::of(&bytes);
        prop_assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
    }
}
