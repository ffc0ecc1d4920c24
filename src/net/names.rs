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
use tokio::task::JoinSet;
use tracing::warn;

use crate::config::Endpoint;

/// What was known once is not waited for much longer than a lookup takes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Names that are kept at most.
const MOST: usize = 1024;

/// The first attempt that succeeds, and the others are given up; or why each has failed, in the order in which they have.
pub async fn first_of<T: 'static, E: 'static>(mut attempts: JoinSet<Result<T, E>>) -> Result<T, Vec<E>> {
    let mut failures = Vec::new();
    while let Some(ended) = attempts.join_next().await {
        match ended.expect("an attempt does not panic") {
            Ok(done) => return Ok(done),
            Err(why) => failures.push(why),
        }
    }
    Err(failures)
}

/// Clones know the same.
#[derive(Clone, Debug, Default)]
pub struct Names {
    known: Arc<Mutex<HashMap<String, Vec<IpAddr>, RandomState>>>,
}

impl Names {
    /// The addresses of an endpoint; an error if its name was never found.
    pub async fn addresses(&self, endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
        let Endpoint { host, port } = endpoint;
        let lookup = async { lookup_host((host.as_str(), *port)).await.map(in_java_s_order) };
        let known = self.known.lock().get(host).cloned();
        let why = match known {
            None => match lookup.await {
                Ok(found) => return Ok(self.remember(host, found)),
                Err(error) => return Err(error),
            },
            Some(_) => match tokio::time::timeout(PATIENCE, lookup).await {
                Ok(Ok(found)) => return Ok(self.remember(host, found)),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer in {} ms", PATIENCE.as_millis()),
            },
        };
        let known = known.into_iter().flatten().map(|ip| SocketAddr::new(ip, *port)).collect();
        warn!("{host} can't be looked up, and is taken to be where it was, {known:?}: {why}");
        Ok(known)
    }

    fn remember(&self, host: &str, found: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let mut known = self.known.lock();
        // Others name their own addresses, and they need not be members.
        if !found.is_empty() && (known.len() < MOST || known.contains_key(host)) {
            known.insert(host.to_owned(), found.iter().map(SocketAddr::ip).collect());
        }
        found
    }
}

/// Of a name with addresses of both kinds Java takes those of IPv4 first (`InetAddress`, unless it is told otherwise), and
/// the first is where others expect to find us.
pub(super) fn in_java_s_order(found: impl IntoIterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut found: Vec<SocketAddr> = found.into_iter().collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_both_kinds_come_in_java_s_order() {
        let [six, four, other] = ["[::1]:1", "10.0.0.2:1", "10.0.0.1:1"].map(|text| text.parse().unwrap());
        assert_eq!(in_java_s_order([six, four, other]), [four, other, six]);
    }

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
