//! The API key: where it comes from, and what is refused.

use super::*;
use std::os::unix::fs::PermissionsExt;

const URL: &str = "secutools: {url: 'https://s.example', api_key_file: key}\n";

fn with_key_file(text: &str, mode: u32) -> Home {
    let home = Home::with(URL);
    home.write(".config/ccl/key", text);
    fs::set_permissions(home.path(".config/ccl/key"), fs::Permissions::from_mode(mode)).unwrap();
    home
}

fn key_of(home: &Home) -> String {
    home.load().secutools.unwrap().api_key.expose().to_owned()
}

#[test]
fn the_environment_goes_before_the_key_file_and_that_before_the_credential() {
    let home = with_key_file("  from-file\n", 0o600);
    home.write("credentials/secutools_api_key", "from-credential\n");
    fs::set_permissions(
        home.path("credentials/secutools_api_key"),
        fs::Permissions::from_mode(0o440),
    )
    .unwrap();
    let home = home.set("CREDENTIALS_DIRECTORY", "HOME/credentials");
    assert_eq!(key_of(&home), "from-file");
    home.write(".config/ccl/config.yaml", "secutools: {url: 'https://s.example'}");
    assert_eq!(key_of(&home), "from-credential");
    let home = home.set("SECUTOOLS_API_KEY", "from-environment");
    assert_eq!(key_of(&home), "from-environment");
}

#[test]
fn the_url_in_the_environment_goes_before_the_one_in_the_file() {
    let home = with_key_file("k", 0o600);
    assert_eq!(home.load().secutools.unwrap().url.as_str(), "https://s.example");
    let home = home.set("SECUTOOLS_URL", "http://127.0.0.1:8080/");
    assert_eq!(home.load().secutools.unwrap().url.as_str(), "http://127.0.0.1:8080");
}

#[test]
fn only_loopback_addresses_may_be_http() {
    for url in ["http://localhost:1", "http://127.9.9.9", "http://[::1]:80/x", "https://s.example"]
    {
        let config = Home::new().set("SECUTOOLS_URL", url).set("SECUTOOLS_API_KEY", "k").load();
        assert_eq!(config.secutools.unwrap().url.as_str(), url);
    }
    for url in ["http://10.0.0.1", "http://[::2]", "http://127.0.0.1.example", "http://0.0.0.0"] {
        assert_eq!(
            Home::new().set("SECUTOOLS_URL", url).complaint(),
            "SECUTOOLS_URL: would send the API key unencrypted; use https (http is for loopback addresses only)",
            "{url}"
        );
    }
}

#[test]
fn the_proxy_of_the_environment_applies_and_is_not_shown() {
    let config = |url: &str| {
        Home::new()
            .set("SECUTOOLS_URL", url)
            .set("SECUTOOLS_API_KEY", "k")
            .set("HTTPS_PROXY", "http://me:s3cr3t@proxy:1")
            .load()
    };
    let real = config("https://s.example");
    assert!(!format!("{real:?}").contains("s3cr3t"));
    let proxy = real.secutools.unwrap().proxy;
    assert_eq!(proxy.as_deref(), Some("http://me:s3cr3t@proxy:1"));
    let local = config("https://localhost:1").secutools.unwrap();
    assert_eq!(local.proxy, None);
}

#[test]
fn delegation_is_off_with_a_reason() {
    let off = |home: Home| home.load().secutools.unwrap_err();
    assert_eq!(off(Home::new()), DelegationOff::NotConfigured);
    assert_eq!(off(Home::new().set("SECUTOOLS_API_KEY", "k")), DelegationOff::NoUrl);
    assert_eq!(off(Home::new().set("SECUTOOLS_URL", "https://s.example")), DelegationOff::NoKey);
    let empty = Home::new().set("SECUTOOLS_URL", "https://s.example").set("SECUTOOLS_API_KEY", "");
    assert_eq!(off(empty), DelegationOff::NoKey);
    let no_credential = Home::new().set("CREDENTIALS_DIRECTORY", "HOME/none");
    assert_eq!(off(no_credential), DelegationOff::NotConfigured);
}

#[test]
fn a_key_file_that_others_may_read_is_refused() {
    for (mode, shown) in [(0o640, "0640"), (0o604, "0604"), (0o620, "0620"), (0o601, "0601")] {
        assert_eq!(
            with_key_file("k", mode).complaint(),
            format!(
                "the API key file HOME/.config/ccl/key: other users may read it (mode {shown}); \
                 run `chmod 600 HOME/.config/ccl/key`"
            )
        );
    }
    assert_eq!(key_of(&with_key_file("k", 0o400)), "k");
}

#[test]
fn a_key_file_that_holds_no_key_is_refused() {
    let odd = "holds something other than one word of printable ASCII";
    for (text, reason) in [
        ("", "is empty"),
        (" \n\n", "is empty"),
        ("one two", odd),
        ("one\ntwo", odd),
        ("schlüssel", odd),
        ("a\x1bb", odd),
    ] {
        let complaint = with_key_file(text, 0o600).complaint();
        assert_eq!(
            complaint,
            format!("the API key file HOME/.config/ccl/key: {reason}"),
            "{text:?}"
        );
    }
    assert_eq!(
        Home::with(URL).complaint(),
        "the API key file HOME/.config/ccl/key: it does not exist"
    );
    let directory = Home::with(URL);
    directory.project(".config/ccl/key");
    assert_eq!(
        directory.complaint(),
        "the API key file HOME/.config/ccl/key: it is not a regular file"
    );
    let fifo = Home::with(URL);
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mkfifoat(rustix::fs::CWD, fifo.path(".config/ccl/key"), mode).unwrap();
    assert_eq!(fifo.complaint(), "the API key file HOME/.config/ccl/key: it is not a regular file");
}

#[test]
fn the_key_is_never_shown() {
    let secret = "s3cr3t-k3y";
    let config = Home::new()
        .set("SECUTOOLS_URL", "https://s.example")
        .set("SECUTOOLS_API_KEY", secret)
        .load();
    let shown = format!("{config:?}");
    assert!(!shown.contains(secret), "{shown}");
    assert!(shown.contains("ApiKey(…)"), "{shown}");
    // Swapped by mistake.
    let complaint = Home::new().set("SECUTOOLS_URL", secret).complaint();
    assert!(!complaint.contains(secret), "{complaint}");
    let complaint = Home::new().set("SECUTOOLS_API_KEY", "s3cr3t k3y").complaint();
    assert_eq!(
        complaint,
        "SECUTOOLS_API_KEY: holds something other than one word of printable ASCII"
    );
    let environment = format!("{:?}", Home::new().set("SECUTOOLS_API_KEY", secret).environment());
    assert!(!environment.contains(secret), "{environment}");
}
