//! A snapshot file, in each compression. What loads is written again in all of them, and loads to the same.

use std::collections::BTreeMap;
use std::io::Read;

use jute::records::data::StatPersisted;
use zooid::acl::Acl;
use zooid::id::Zxid;
use zooid::tree::snapshot::{Compression, SnapshotError, Verifier, read, write_tree};
use zooid::tree::{LoadError, Loader, NodeRef, Tree, TreeRules};

use crate::bounded;

const COMPRESSIONS: [Compression; 3] = [Compression::Plain, Compression::Gz, Compression::Snappy];

pub fn snapshot(input: &[u8]) {
    for compression in COMPRESSIONS {
        // Short names and lists become strings and nodes; a list is held once more as the key that finds it.
        let limit = (1 << 20) + 48 * unpacked_len(input, compression);
        let verified = bounded(limit, || verify(input, compression));
        let loaded = bounded(limit, || load(input, compression));
        match (verified, loaded) {
            (Ok(unlisted), Ok((tree, also))) => {
                assert_eq!(unlisted, also, "the node without its list");
                check_round_trip(&tree);
            }
            (Err(_), Err(_)) => {}
            (Ok(_), Err(error)) => panic!("it was verified, and does not load: {error}"),
            (Err(error), Ok(_)) => panic!("it loads, and was not verified: {error}"),
        }
    }
}

/// About as many bytes as really come out, whatever any length says.
fn unpacked_len(input: &[u8], compression: Compression) -> usize {
    match compression {
        Compression::Plain => input.len(),
        Compression::Gz => {
            let mut unpacked = flate2::read::MultiGzDecoder::new(input);
            let (mut len, mut piece) = (0, [0; 4096]);
            while let Ok(n @ 1..) = unpacked.read(&mut piece) {
                len += n;
            }
            len
        }
        // Three bytes can say: copy 64.
        Compression::Snappy => input.len() * 22,
    }
}

fn verify(input: &[u8], compression: Compression) -> Result<Option<LoadError>, SnapshotError> {
    let mut verifier = Verifier::default();
    read(input, compression, &mut verifier)?;
    let unlisted = verifier.take_unlisted();
    verifier.finish()?;
    Ok(unlisted)
}

fn load(input: &[u8], compression: Compression) -> Result<(Tree, Option<LoadError>), SnapshotError> {
    let mut loader = Loader::of_stream(TreeRules::default());
    let sections = read(input, compression, &mut loader)?;
    let unlisted = loader.take_unlisted();
    Ok((loader.finish(sections.last_zxid.unwrap_or(Zxid::ZERO))?, unlisted))
}

fn check_round_trip(tree: &Tree) {
    let expected = content(tree);
    // Not the size that `tree` gives: a quota may have found another count than the file had, and that is left out of
    // the size, as in Java.
    let units = |(path, (data, ..)): (&String, &Node)| path.encode_utf16().count() + data.as_ref().map_or(0, Vec::len);
    let size = expected.iter().map(units).sum::<usize>() as i64;
    for compression in COMPRESSIONS {
        let (_, written) = write_tree(tree, Vec::new(), compression).expect("a Vec takes all");
        let (again, unlisted) = load(&written, compression).expect("what was written loads");
        assert_eq!(unlisted, None, "what was written has all its lists");
        assert_eq!((again.last_zxid(), again.digest()), (tree.last_zxid(), tree.digest()));
        assert_eq!((again.sessions(), again.data_size()), (tree.sessions(), size));
        assert!(content(&again) == expected, "another tree was read than was written");
    }
}

pub(crate) type Node = (Option<Vec<u8>>, i64, Vec<Acl>, StatPersisted);

pub(crate) fn content(tree: &Tree) -> BTreeMap<String, Node> {
    let node =
        |node: NodeRef<'_>| (node.data().map(<[u8]>::to_vec), node.acl_id(), node.acl().to_vec(), node.persisted());
    tree.walk().map(|(path, at)| (path, node(at))).collect()
}

/// Puts the seals of a plain snapshot right, which keep mutated ones from being taken.
pub fn mend_snapshot(file: &mut [u8]) {
    for _ in 0..3 {
        let Err(SnapshotError::Seal { stored, actual, .. }) =
            read(&*file, Compression::Plain, &mut Verifier::default())
        else {
            return;
        };
        let seal = [&stored.to_be_bytes()[..], b"\0\0\0\x01/"].concat();
        let Some(at) = file.windows(seal.len()).position(|bytes| bytes == seal) else { return };
        file[at..at + 8].copy_from_slice(&u64::from(actual).to_be_bytes());
    }
}
