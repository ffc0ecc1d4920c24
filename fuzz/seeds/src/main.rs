//! Writes the first corpus of each fuzz target: `seeds REPOSITORY DIRECTORY`. It is cut out of what Java
//! wrote: the files of its data directories, and the conversations of client-protocol 3.5 and quorum-protocol
//! 11.

use std::path::{Path, PathBuf};
use std::{env, fs, io, process};

use bytes::Bytes;
use zooid::id::Zxid;
use zooid::journal::Scan;
use zooid::tree::snapshot::{self, Compression};
use zooid::tree::{Loader, TreeRules, stream};

/// The body of a log record's transaction follows its header.
const TXN_HEADER: usize = 32;

fn main() -> io::Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [repository, corpus] = &arguments[..] else {
        eprintln!("usage: seeds REPOSITORY DIRECTORY");
        process::exit(2);
    };
    let seeds = Seeds(corpus);
    for (number, frame) in lines(include_str!("frames.txt")).enumerate() {
        seeds.frame(&number.to_string(), &bytes(frame))?;
    }
    let mut links = [Vec::new(), Vec::new()];
    for (number, line) in lines(include_str!("packets.txt")).enumerate() {
        let (from, packet) = line.split_at(2);
        let packet = bytes(packet);
        // Who reads is who does not write: 0 the leader, 1 a learner, as the target takes it.
        let reads = u8::from(from == "M ");
        seeds.put("packets", &format!("packet-{number}"), &[&[reads], &packet[..]].concat())?;
        seeds.put("quorum", &format!("packet-{number}"), &packet)?;
        links[usize::from(reads)].extend(packet);
    }
    for (reads, link) in links.into_iter().enumerate() {
        // In pieces of 8 bytes.
        seeds.put("packets", &format!("link-{reads}"), &[&[6 | reads as u8], &link[..]].concat())?;
    }
    for (number, line) in lines(include_str!("election.txt")).enumerate() {
        // In one piece, and in pieces of 4 bytes.
        for how in [10, 2] {
            seeds.put("election", &format!("{number}-{how}"), &[&[how], &bytes(line)[..]].concat())?;
        }
    }
    let samples = repository.join("conf/zoo.cfg");
    seeds.put("config", "sample", &fs::read(samples)?)?;
    seeds.put("config", "flags", b"dataDir=/d\nclientPort=2181\0\0\0\0-Djute.maxbuffer=0x400000 -Xmx1g")?;
    let sets = repository.join("tests/fixtures/java-datadir");
    for file in files_below(&sets)? {
        let name = file.strip_prefix(&sets).expect("it lies below").to_string_lossy().replace('/', "-");
        seeds.file(&file, &name)?;
    }
    Ok(())
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

fn bytes(hexadecimal: &str) -> Vec<u8> {
    let digits: Vec<char> = hexadecimal.chars().filter(|c| !c.is_whitespace()).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).expect("hexadecimal");
    digits.chunks(2).map(byte).collect()
}

fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        match entry.file_type()?.is_dir() {
            true => files.extend(files_below(&entry.path())?),
            false => files.push(entry.path()),
        }
    }
    files.sort();
    Ok(files)
}

/// The directory with one directory per target.
struct Seeds<'a>(&'a Path);

impl Seeds<'_> {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let directory = self.0.join(target);
        fs::create_dir_all(&directory)?;
        fs::write(directory.join(name), bytes)
    }

    /// A frame is also the records in it: behind a request's header of 8 bytes, or a reply's of 16.
    fn frame(&self, name: &str, frame: &[u8]) -> io::Result<()> {
        self.put("frame", name, frame)?;
        for header in [0, 8, 16] {
            if let Some(record) = frame.get(header..) {
                self.put("proto", &format!("{name}-{header}"), record)?;
                self.put("data", &format!("{name}-{header}"), record)?;
            }
        }
        Ok(())
    }

    fn file(&self, path: &Path, name: &str) -> io::Result<()> {
        let base = path.file_name().unwrap_or_default().to_string_lossy();
        let bytes = fs::read(path)?;
        if base.starts_with("snapshot.") {
            self.stream(name, &bytes)?;
            self.put("snapshot", name, &bytes)
        } else if base.starts_with("log.") {
            self.log(name, &bytes.into())
        } else if base == "zoo.cfg" {
            let beside = |name: &str| fs::read(path.with_file_name(name)).unwrap_or_default();
            let mut dynamic = files_below(path.parent().expect("a file lies in a directory"))?;
            dynamic.retain(|file| file.to_string_lossy().contains("zoo.cfg.dynamic."));
            for (number, dynamic) in dynamic.iter().enumerate() {
                let parts = [bytes.clone(), fs::read(dynamic)?, beside("dataDir/myid")];
                self.put("config", &format!("{name}-{number}"), &parts.join(&0))?;
            }
            Ok(())
        } else if base == "zoo.cfg.bak" {
            self.put("config", name, &bytes)
        } else {
            Ok(())
        }
    }

    /// The tree of a plain snapshot as a leader streams it.
    fn stream(&self, name: &str, file: &[u8]) -> io::Result<()> {
        let mut loader = Loader::new(TreeRules::default());
        if snapshot::read(file, Compression::Plain, &mut loader).is_err() {
            return Ok(());
        }
        let tree = loader.finish(Zxid::ZERO).expect("what Java wrote is a tree");
        self.put("stream", name, &stream::write_tree(&tree, vec![0])?)
    }

    /// The log as it is, but for most of the zeros at its end, and its records.
    fn log(&self, name: &str, file: &Bytes) -> io::Result<()> {
        let mut scan = Scan::new(file);
        while let Ok(Some(record)) = scan.read() {
            let payload = &record.payload;
            let name = format!("{}-{:x}", record.op, record.checksum);
            self.put("txn", &name, &payload[..])?;
            self.put("txn", &format!("{name}-body"), &payload[TXN_HEADER..])?;
            self.put("data", &name, &payload[TXN_HEADER..])?;
            // A proposal: its type, zxid, the transaction as a buffer, and no identities.
            let mut proposal = 2i32.to_be_bytes().to_vec();
            proposal.extend(record.zxid.0.to_be_bytes());
            proposal.extend((payload.len() as u32).to_be_bytes());
            proposal.extend(payload);
            proposal.extend((-1i32).to_be_bytes());
            self.put("quorum", &name, &proposal)?;
        }
        let end = (scan.position() as usize + 64).min(file.len());
        self.put("log", name, &file[..end])?;
        self.put("persistence", name, &file[..16])
    }
}
