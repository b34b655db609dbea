//! URLs: of a registry's own, and of where it may send us. Pure; the addresses behind names are checked when they are
//! connected to (`transport`).

use url::{Host, Url};

use crate::address::is_public;
use crate::error::OciError;
use crate::reference::Reference;
use crate::transport::Reach;

/// The registry's URL, on which all its paths are built.
pub(crate) fn base(reference: &Reference, plain_http: bool) -> Result<Url, OciError> {
    let registry = reference.registry();
    if plain_http && !reference.is_loopback() {
        return Err(OciError::PlainHttp { registry: registry.to_owned() });
    }
    let scheme = if plain_http { "http" } else { "https" };
    // Docker's hub answers under another name than the one that it goes by.
    let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
    let answer = |why: url::ParseError| OciError::Answer {
        host: registry.to_owned(),
        what: "its own name".to_owned(),
        why: why.to_string(),
    };
    Url::parse(&format!("{scheme}://{host}/")).map_err(answer)
}

/// A path of the registry's interface below the repository, such as `manifests/latest`.
pub(crate) fn path(base: &Url, repository: &str, rest: &str) -> Url {
    let mut url = base.clone();
    // A reference's grammar has no character that means anything in a path.
    url.set_path(&format!("/v2/{repository}/{rest}"));
    url
}

/// Host and port, as messages call a place.
pub(crate) fn name(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme() && a.host() == b.host() && a.port_or_known_default() == b.port_or_known_default()
}

/// Whether the registry's word `to`, said at `from`, may be followed, and how far.
pub(crate) fn follow(
    own: &Url,
    from: &Url,
    to: &str,
    elsewhere: bool,
    own_is_public: bool,
) -> Result<(Url, Reach), String> {
    let url = from.join(to).map_err(|_| "the address cannot be read".to_owned())?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the address has a user name in it".to_owned());
    }
    if same_origin(&url, own) {
        return Ok((url, Reach::Near));
    }
    let host = name(&url);
    if url.scheme() != "https" {
        return Err(format!("to {}://{host}, and only https is followed", url.scheme()));
    }
    if !elsewhere {
        return Err(format!("to {host}, which only a blob may do, and only with `blob_redirects`"));
    }
    let address = match url.host() {
        Some(Host::Ipv4(address)) => Some(address.into()),
        Some(Host::Ipv6(address)) => Some(address.into()),
        _ => None,
    };
    match (own_is_public, address) {
        (true, Some(address)) if !is_public(address) => {
            Err(format!("{address} is an address of this machine or a private network"))
        }
        (true, _) => Ok((url, Reach::Far)),
        (false, _) => Ok((url, Reach::Near)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn followed(to: &str, elsewhere: bool, public: bool) -> Result<(String, Reach), String> {
        let own = Url::parse("https://r.example/").unwrap();
        let from = Url::parse("https://r.example/v2/a/blobs/x").unwrap();
        follow(&own, &from, to, elsewhere, public).map(|(url, reach)| (url.to_string(), reach))
    }

    #[test]
    fn a_redirect_at_home_is_followed() {
        let home = Ok(("https://r.example/b".to_owned(), Reach::Near));
        assert_eq!(followed("/b", false, true), home);
        assert_eq!(followed("https://r.example:443/b", false, true), home);
    }

    #[test]
    fn a_blob_may_come_from_another_https_host_far_away() {
        let far = Ok(("https://cdn.example/b".to_owned(), Reach::Far));
        assert_eq!(followed("https://cdn.example/b", true, true), far);
        let private = Ok(("https://10.0.0.1/b".to_owned(), Reach::Near));
        assert_eq!(followed("https://10.0.0.1/b", true, false), private, "the registry is itself such");
    }

    #[test]
    fn other_redirects_are_refused_with_their_reason() {
        let cases = [
            ("http://r.example/b", true, "to http://r.example, and only https is followed"),
            ("file:///etc/passwd", true, "to file://, and only https is followed"),
            (
                "https://cdn.example/b",
                false,
                "to cdn.example, which only a blob may do, and only with `blob_redirects`",
            ),
            (
                "https://r.example:8443/b",
                false,
                "to r.example:8443, which only a blob may do, and only with `blob_redirects`",
            ),
            ("https://127.0.0.1/b", true, "127.0.0.1 is an address of this machine or a private network"),
            ("https://0x7f.1/b", true, "127.0.0.1 is an address of this machine or a private network"),
            ("https://[::1]/b", true, "::1 is an address of this machine or a private network"),
            ("https://a:b@cdn.example/", true, "the address has a user name in it"),
            ("https://", true, "the address cannot be read"),
        ];
        for (to, elsewhere, why) in cases {
            assert_eq!(followed(to, elsewhere, true).unwrap_err(), why, "{to}");
        }
    }

    #[test]
    fn plain_http_is_for_this_machine() {
        let base =
            |text: &str| base(&text.parse().unwrap(), true).map(|u| u.to_string()).map_err(|e| e.to_string());
        assert_eq!(base("127.0.0.1:5000/a").unwrap(), "http://127.0.0.1:5000/");
        assert_eq!(base("localhost:5000/a").unwrap(), "http://localhost:5000/");
        assert_eq!(base("[::1]:5000/a").unwrap(), "http://[::1]:5000/");
        let why = "r.example: plain http is for registries on this machine, named localhost or by a loopback address";
        assert_eq!(base("r.example/a").unwrap_err(), why);
    }
}
