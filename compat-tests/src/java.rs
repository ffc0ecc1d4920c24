//! The reference: Apache ZooKeeper from Maven Central, its jars kept under `~/.cache/zooid/java/server-<version>`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// The version whose behaviour is copied.
pub const VERSION: &str = "3.9.5";

/// Versions of everything but ZooKeeper come from ZooKeeper's own parent, so they are those of its release.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <parent>
    <groupId>org.apache.zookeeper</groupId><artifactId>parent</artifactId><version>VERSION</version><relativePath/>
  </parent>
  <artifactId>reference-server</artifactId>
  <packaging>pom</packaging>
  <dependencies>
    <dependency><groupId>org.apache.zookeeper</groupId><artifactId>zookeeper</artifactId><version>VERSION</version></dependency>
    <dependency><groupId>ch.qos.logback</groupId><artifactId>logback-classic</artifactId><scope>runtime</scope></dependency>
    <dependency><groupId>commons-cli</groupId><artifactId>commons-cli</artifactId></dependency>
    <dependency><groupId>org.eclipse.jetty</groupId><artifactId>jetty-server</artifactId></dependency>
    <dependency><groupId>org.eclipse.jetty</groupId><artifactId>jetty-servlet</artifactId></dependency>
    <dependency><groupId>com.fasterxml.jackson.core</groupId><artifactId>jackson-databind</artifactId></dependency>
    <dependency><groupId>io.dropwizard.metrics</groupId><artifactId>metrics-core</artifactId></dependency>
    <dependency><groupId>org.xerial.snappy</groupId><artifactId>snappy-java</artifactId></dependency>
  </dependencies>
</project>
"#;

const LOGBACK: &str = r#"<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d{HH:mm:ss.SSS} %-5level [%thread] %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="WARN"><appender-ref ref="OUT"/></root>
</configuration>
"#;

const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1";

/// What a server is used for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Use {
    Alone,
    /// One of several on a small machine, whose log may have to tell what went on between them.
    Member,
}

/// `java` with everything but the `-D` flags and the configuration file: `main class last`.
pub fn command(version: &str, used: Use, flags: &[(String, String)], config: &Path) -> Command {
    let jars = jars(version);
    let mut java = Command::new("java");
    // Short-lived processes: start fast rather than run fast.
    java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xshare:auto"]);
    let (heap, logback) = match used {
        Use::Alone => ("-Xmx512m", jars.join("logback.xml")),
        Use::Member => {
            let logback = config.with_file_name("logback.xml");
            fs::write(&logback, LOGBACK.replace("WARN", "INFO")).expect("cannot write logback.xml");
            ("-Xmx384m", logback)
        }
    };
    java.arg(heap).arg(format!("-Dlogback.configurationFile={}", logback.display()));
    // The tree digest of a Java server is over the paths in the platform's charset.
    java.arg("-Dfile.encoding=UTF-8");
    java.arg("-Dzookeeper.admin.enableServer=false");
    java.args(flags.iter().map(|(key, value)| format!("-D{key}={value}")));
    java.arg("-cp").arg(jars.join("*"));
    java.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(config);
    java
}

/// The directory with the jars of `version`, filled from Maven Central if it is not there yet.
pub fn jars(version: &str) -> PathBuf {
    // Tests run as threads: one of them fetches, the others wait for it.
    static FETCHING: Mutex<()> = Mutex::new(());
    let _one = FETCHING.lock().unwrap_or_else(|poisoned| poisoned.into_inner());

    let home = std::env::var_os("HOME").expect("HOME is not set: no place for the jars of ZooKeeper");
    let all = PathBuf::from(home).join(".cache/zooid/java");
    let directory = all.join(format!("server-{version}"));
    if directory.is_dir() {
        return directory;
    }
    let fresh = all.join(format!("server-{version}.{}", std::process::id()));
    fs::create_dir_all(&fresh).unwrap_or_else(|e| panic!("cannot create {}: {e}", fresh.display()));
    fs::write(fresh.join("pom.xml"), POM.replace("VERSION", version)).expect("cannot write the pom");
    fs::write(fresh.join("logback.xml"), LOGBACK).expect("cannot write logback.xml");
    let out = Command::new("mvn")
        .current_dir(&fresh)
        .args(["-q", "-B", &format!("{DEPENDENCY_PLUGIN}:copy-dependencies"), "-DincludeScope=runtime"])
        .arg(format!("-DoutputDirectory={}", fresh.display()))
        .output()
        .unwrap_or_else(|e| panic!("cannot run mvn, which fetches ZooKeeper {version}: {e}"));
    if !out.status.success() {
        let _ = fs::remove_dir_all(&fresh);
    }
    assert!(
        out.status.success(),
        "mvn could not fetch ZooKeeper {version}:\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    // Another process may have been faster; its jars are as good.
    if fs::rename(&fresh, &directory).is_err() {
        assert!(directory.is_dir(), "cannot move the jars to {}", directory.display());
        let _ = fs::remove_dir_all(&fresh);
    }
    directory
}
