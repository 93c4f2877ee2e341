//! Certificates for servers that speak TLS: each with an authority of its own, which nobody trusts unless told to.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail};

/// The authority's certificate.
pub(crate) const CA: &str = "ca.pem";
/// The server's certificate and key (PKCS #8).
pub(crate) const CERTIFICATE: &str = "server.pem";
pub(crate) const KEY: &str = "server.key";

/// Makes an authority, and a certificate for loopback that it signed.
///
/// # Errors
/// Where `openssl` is missing or fails.
pub(crate) fn make(dir: &Path) -> anyhow::Result<()> {
    let openssl = |arguments: &[&str]| -> anyhow::Result<()> {
        let output = Command::new("openssl").args(arguments).current_dir(dir).output();
        let output = output.context("there is no `openssl`: to make a certificate, install it")?;
        if !output.status.success() {
            bail!("openssl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        }
        Ok(())
    };
    let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"];
    let ca = ["req", "-x509", "-days", "2", "-subj", "/CN=tests", "-keyout", "ca.key", "-out", "ca.pem"];
    openssl(&[&ca[..], &key[..]].concat())?;
    let server = ["req", "-subj", "/CN=127.0.0.1", "-keyout", "server.key", "-out", "server.csr"];
    openssl(&[&server[..], &key[..]].concat())?;
    fs::write(dir.join("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\nbasicConstraints=CA:FALSE\n")?;
    let sign = ["x509", "-req", "-days", "2", "-in", "server.csr", "-out", "server.pem", "-extfile", "names"];
    openssl(&[&sign[..], &["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"]].concat())
}
