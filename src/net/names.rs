//! Where other members are, by the names in the configuration.
//!
//! A name is looked up at each attempt, because what it was at the last may have changed; but members must find each other
//! also while the names' service does not answer, and then what it said last is the best that there is (reliability N6).
//!
//! Java: `QuorumPeer.QuorumServer.recreateSocketAddresses`, which keeps an address whose name is not found.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use hashbrown::HashMap;
use parking_lot::Mutex;
use tokio::net::lookup_host;
use tracing::warn;

use crate::config::Endpoint;

/// What was known once is not waited for much longer than a lookup takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: Arc<Mutex<HashMap<String, Vec<IpAddr>, RandomState>>>,
}

impl Names {
    /// The addresses of an endpoint; an error if its name was never found.
    pub async fn addresses(&self, endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
        let Endpoint { host, port } = endpoint;
        let lookup = lookup_host((host.as_str(), *port));
        let known = self.known.lock().get(host).cloned();
        let why = match known {
            None => match lookup.await {
                Ok(found) => return Ok(self.remember(host, found.collect())),
                Err(error) => return Err(error),
            },
            Some(_) => match tokio::time::timeout(PATIENCE, lookup).await {
                Ok(Ok(found)) => return Ok(self.remember(host, found.collect())),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {} ms", PATIENCE.as_millis()),
            },
        };
        let known = known.into_iter().flatten().map(|ip| SocketAddr::new(ip, *port)).collect();
        warn!("{host} can't be looked up, and is taken to be where it was, {known:?}: {why}");
        Ok(known)
    }

    fn remember(&self, host: &str, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        if !found.is_empty() {
            self.known.lock().insert(host.to_owned(), found.iter().map(SocketAddr::ip).collect());
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_is_not_found_any_more_is_where_it_was() {
        let names = Names::default();
        let endpoint = Endpoint { host: "member.invalid".to_owned(), port: 2888 };
        assert!(names.addresses(&endpoint).await.is_err());
        let was: SocketAddr = "127.0.0.7:3888".parse().unwrap();
        names.clone().remember("member.invalid", vec![was]);
        assert_eq!(names.addresses(&endpoint).await.unwrap(), ["127.0.0.7:2888".parse().unwrap()]);
        let local = Endpoint { host: "127.0.0.1".to_owned(), port: 1 };
        assert_eq!(names.addresses(&local).await.unwrap(), ["127.0.0.1:1".parse().unwrap()]);
    }
}
