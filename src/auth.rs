//! What an auth packet proves: the schemes that this server has.
//!
//! Java: `DigestAuthenticationProvider`, `IPAuthenticationProvider`, `EnsembleAuthenticationProvider`;
//! client-protocol 7.1.

use std::collections::BTreeSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jute::Text;
use sha2::Digest;

use crate::acl::Identity;
use crate::config::DigestAlg;

#[derive(Clone, Debug)]
pub struct AuthRules {
    /// The digest scheme is there.
    pub digest: bool,
    pub digest_alg: DigestAlg,
    /// `super:<digest>`: who proves this one may do anything.
    pub super_digest: Option<String>,
    /// The ensemble scheme is there, with the names that it takes.
    pub ensemble: Option<BTreeSet<String>>,
    /// Schemes one of which a connection must have proved before it may do anything.
    pub enforced: Option<BTreeSet<String>>,
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Proof {
    /// These identities, which may be none.
    Accepted(Vec<Identity>),
    /// AuthFailed, then the connection is closed.
    Failed,
    /// Closed without a reply, so that the client tries another server.
    WrongEnsemble,
}

impl AuthRules {
    /// `own_address` is the identity of scheme `ip` that the connection has anyway.
    pub fn check(&self, scheme: Option<&str>, data: Option<&[u8]>, own_address: &str) -> Proof {
        match (scheme, data) {
            (Some("digest"), Some(data)) if self.digest => self.check_digest(data),
            (Some("ip"), _) => Proof::Accepted(vec![identity("ip", own_address)]),
            (Some("ensemble"), data) => self.check_ensemble(data.unwrap_or_default()),
            _ => Proof::Failed,
        }
    }

    fn check_digest(&self, data: &[u8]) -> Proof {
        let text = String::from_utf8_lossy(data);
        let user = text.split(':').next().unwrap_or_default();
        let id = format!("{user}:{}", STANDARD.encode(hash(self.digest_alg, text.as_bytes())));
        let mut identities = Vec::new();
        if self.super_digest.as_deref() == Some(&id) {
            identities.push(identity("super", ""));
        }
        identities.push(identity("digest", &id));
        Proof::Accepted(identities)
    }

    fn check_ensemble(&self, name: &[u8]) -> Proof {
        match &self.ensemble {
            None => Proof::Failed,
            Some(names) if name.is_empty() || names.is_empty() => Proof::Accepted(Vec::new()),
            Some(names) if std::str::from_utf8(name).is_ok_and(|name| names.contains(name)) => {
                Proof::Accepted(Vec::new())
            }
            Some(_) => Proof::WrongEnsemble,
        }
    }

    /// Whether a connection with these identities may ask for anything at all.
    pub fn admits(&self, identities: &[Identity]) -> bool {
        let Some(schemes) = &self.enforced else { return true };
        identities.iter().any(|identity| schemes.contains(identity.scheme.as_str()))
    }
}

fn identity(scheme: &str, id: &str) -> Identity {
    Identity { scheme: Text::from(scheme), id: Text::from(id) }
}

fn hash(alg: DigestAlg, data: &[u8]) -> Vec<u8> {
    match alg {
        DigestAlg::Sha1 => sha1::Sha1::digest(data).to_vec(),
        DigestAlg::Sha224 => sha2::Sha224::digest(data).to_vec(),
        DigestAlg::Sha256 => sha2::Sha256::digest(data).to_vec(),
        DigestAlg::Sha384 => sha2::Sha384::digest(data).to_vec(),
        DigestAlg::Sha512 => sha2::Sha512::digest(data).to_vec(),
        DigestAlg::Sha3_224 => sha3::Sha3_224::digest(data).to_vec(),
        DigestAlg::Sha3_256 => sha3::Sha3_256::digest(data).to_vec(),
        DigestAlg::Sha3_384 => sha3::Sha3_384::digest(data).to_vec(),
        DigestAlg::Sha3_512 => sha3::Sha3_512::digest(data).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> AuthRules {
        AuthRules { digest: true, digest_alg: DigestAlg::Sha1, super_digest: None, ensemble: None, enforced: None }
    }

    fn ids(proof: Proof) -> Vec<String> {
        match proof {
            Proof::Accepted(ids) => ids.iter().map(|id| format!("{}:{}", id.scheme, id.id)).collect(),
            other => panic!("{other:?}"),
        }
    }

    // client-protocol 7.1, data-model 10.4
    #[test]
    fn digests_are_java_s() {
        assert_eq!(
            ids(rules().check(Some("digest"), Some(b"bob:pw"), "")),
            ["digest:bob:ikIaKsbtGweaHnb/jKn7OHqbunM="]
        );
        assert_eq!(ids(rules().check(Some("digest"), Some(b"u:p"), "")), ["digest:u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="]);
        let sha256 = AuthRules { digest_alg: DigestAlg::Sha256, ..rules() };
        let expected = "digest:u:/Y8xRBngpX5duYn15uUqIRaIaCviy5TEwSk419hCwuA=";
        assert_eq!(ids(sha256.check(Some("digest"), Some(b"u:p"), "")), [expected]);
    }

    #[test]
    fn the_super_digest_makes_super() {
        let digest = "super:D/InIHSb7yEEbrWz8b9l71RjZJU=";
        let rules = AuthRules { super_digest: Some(digest.into()), ..rules() };
        let expected = ["super:".to_owned(), format!("digest:{digest}")];
        assert_eq!(ids(rules.check(Some("digest"), Some(b"super:test"), "")), expected);
    }

    // client-protocol 11 #85, data-model 13 #82, #86
    #[test]
    fn what_is_accepted() {
        assert_eq!(ids(rules().check(Some("ip"), None, "127.0.0.1")), ["ip:127.0.0.1"]);
        for data in [&b"bob"[..], b""] {
            assert!(matches!(rules().check(Some("digest"), Some(data), ""), Proof::Accepted(_)));
        }
        for (scheme, data) in
            [(Some("digest"), None), (Some("x509"), Some(&b""[..])), (None, None), (Some("ensemble"), None)]
        {
            assert_eq!(rules().check(scheme, data, ""), Proof::Failed);
        }
        let named = AuthRules { ensemble: Some(["foo", "bar"].map(str::to_owned).into()), ..rules() };
        assert_eq!(ids(named.check(Some("ensemble"), Some(b"bar"), "")), [""; 0]);
        assert_eq!(ids(named.check(Some("ensemble"), Some(b""), "")), [""; 0]);
        assert_eq!(named.check(Some("ensemble"), Some(b"zzz"), ""), Proof::WrongEnsemble);
    }
}
