//! The files of a server's directory: configuration, keys, a certificate.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{SynapseOptions, Trust};

/// The configuration's name in the server's directory.
pub(super) const CONFIG_FILE: &str = "homeserver.yaml";
/// The log Synapse writes.
pub(super) const LOG_FILE: &str = "homeserver.log";
/// The database.
pub(super) const DATABASE_FILE: &str = "homeserver.db";
/// The modules of [`MODULES`].
const MODULE_FILE: &str = "testbed.py";

/// Modules that Synapse loads. `Unsynced` does not wait for the disk: what a killed server wrote is there all the
/// same, as the system has it; only the machine's own end would lose it, and the server with it. `Trusting`
/// takes two checks of what clients send out of the server.
const MODULES: &str = r"
class Module:
    def __init__(self, config, api):
        pass

    @staticmethod
    def parse_config(config):
        return config


class Unsynced(Module):
    @staticmethod
    def parse_config(config):
        from synapse.storage.engines.sqlite import Sqlite3Engine

        prepare = Sqlite3Engine.on_new_connection

        def on_new_connection(self, connection):
            prepare(self, connection)
            connection.execute('PRAGMA synchronous = OFF')

        Sqlite3Engine.on_new_connection = on_new_connection
        return config


async def believe(*_):
    pass


class Trusting(Module):
    def __init__(self, config, api):
        from synapse.events import validator
        from synapse.handlers.message import EventCreationHandler

        validator.POWER_LEVELS_SCHEMA = {}
        EventCreationHandler._validate_canonical_alias = believe
";
/// The certificate a federating server shows.
const CERTIFICATE_FILE: &str = "tls.crt";
/// Its private key.
const KEY_FILE: &str = "tls.key";

/// What a rate limit is set to where it shall not limit.
const NO_LIMIT: u32 = 100_000;

/// How long a federating server leaves one alone that did not answer, in milliseconds.
const PAUSE_MS: u32 = 100;

/// Prints a self-signed certificate for `localhost`, as JSON. In Python, since Synapse's environment
/// has the library that Synapse itself makes TLS with.
const MAKE_CERTIFICATE: &str = r#"
import datetime, json
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization as form
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
day = datetime.timedelta(days=1)
certificate = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now - day)
    .not_valid_after(now + day)
    .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    .sign(key, hashes.SHA256())
)
private = key.private_bytes(
    form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption()
)
print(json.dumps({
    "certificate": certificate.public_bytes(form.Encoding.PEM).decode(),
    "key": private.decode(),
}))
"#;

/// Where a server listens, on the loopback interface.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    /// Clients, over plain HTTP.
    pub(super) client: u16,
    /// Other servers, over TLS; `None` where none reach it.
    pub(super) federation: Option<u16>,
}

impl Ports {
    /// The part of ids after the colon; other servers find the port in it.
    pub(super) fn server_name(self) -> String {
        format!("localhost:{}", self.federation.unwrap_or(self.client))
    }
}

/// A certificate and its private key, as PEM.
struct Certificate {
    certificate: String,
    key: String,
}

/// Writes all files the server needs into its directory. JSON is YAML.
pub(super) fn write(dir: &Path, ports: Ports, options: &SynapseOptions, python: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    let write = |name: &str, text: &str| {
        std::fs::write(dir.join(name), text).expect("write the server's configuration");
    };
    let limit = json!({ "per_second": NO_LIMIT, "burst_count": NO_LIMIT });
    let mut config = json!({
        "server_name": ports.server_name(),
        "public_baseurl": format!("http://127.0.0.1:{}/", ports.client),
        "listeners": listeners(ports),
        "database": { "name": "sqlite3", "args": { "database": path(DATABASE_FILE) } },
        "log_config": path("log.yaml"),
        "media_store_path": path("media"),
        "signing_key_path": path("signing.key"),
        "registration_shared_secret": "registration",
        "macaroon_secret_key": "macaroons",
        "form_secret": "forms",
        "trusted_key_servers": [],
        "suppress_key_server_warning": true,
        "federation_verify_certificates": false,
        "ip_range_blacklist": [],
        "enable_registration": true,
        "enable_registration_without_verification": true,
        "bcrypt_rounds": 4,
        "report_stats": false,
        "url_preview_enabled": false,
        "presence": { "enabled": false },
        "room_list_publication_rules": [{ "action": "allow" }],
        // Timelines shall not have gaps.
        "filter_timeline_limit": -1,
        "rc_login": { "address": limit, "account": limit, "failed_attempts": limit },
        "rc_joins": { "local": limit, "remote": limit },
        "rc_invites": { "per_room": limit, "per_user": limit, "per_issuer": limit },
        "rc_3pid_validation": limit,
    });
    for key in [
        "rc_admin_redaction",
        "rc_delayed_event_mgmt",
        "rc_joins_per_room",
        "rc_key_requests",
        "rc_media_create",
        "rc_message",
        "rc_registration",
        "rc_registration_token_validity",
        "rc_reports",
        "rc_room_creation",
        "rc_third_party_invite",
        "rc_user_directory",
    ] {
        config[key] = limit.clone();
    }
    if ports.federation.is_some() {
        let certificate = certificate(python);
        write(CERTIFICATE_FILE, &certificate.certificate);
        write(KEY_FILE, &certificate.key);
        config["tls_certificate_path"] = path(CERTIFICATE_FILE).into();
        config["tls_private_key_path"] = path(KEY_FILE).into();
        config["allow_public_rooms_over_federation"] = true.into();
        config["federation"] = patience();
        config["rc_federation"] = json!({
            "sleep_limit": NO_LIMIT,
            "reject_limit": NO_LIMIT,
            "concurrent": NO_LIMIT,
        });
    }
    let trusting = (options.trust == Trust::Everything).then_some("testbed.Trusting");
    config["modules"] = ["testbed.Unsynced"]
        .into_iter()
        .chain(trusting)
        .map(|module| json!({ "module": module, "config": {} }))
        .collect();
    for (key, value) in &options.overrides {
        config[key] = value.clone();
    }
    write(CONFIG_FILE, &format!("{config:#}"));
    write(MODULE_FILE, MODULES);
    let log = json!({
        "version": 1,
        "formatters": { "line": {
            "format": "%(asctime)s %(levelname)s %(name)s %(request)s: %(message)s",
        } },
        "handlers": { "file": {
            "class": "logging.FileHandler",
            "filename": path(LOG_FILE),
            "formatter": "line",
        } },
        "root": { "level": "INFO", "handlers": ["file"] },
        "disable_existing_loggers": false,
    });
    write("log.yaml", &format!("{log:#}"));
    // 32 bytes in base64, others for each port: what they sign is thrown away with the server.
    let seed = format!("{:A<43}", ports.client);
    write("signing.key", &format!("ed25519 a_test {seed}\n"));
}

/// The listener for clients, behind the one for servers: once clients are served, servers are.
fn listeners(ports: Ports) -> Value {
    let listener = |port: u16, tls: bool| {
        json!({
            "type": "http",
            "port": port,
            "bind_addresses": ["127.0.0.1"],
            "tls": tls,
            "resources": [{ "names": ["client", "federation"], "compress": false }],
        })
    };
    let federation = ports.federation.map(|port| listener(port, true));
    federation
        .into_iter()
        .chain([listener(ports.client, false)])
        .collect()
}

/// How long to go on with a server that does not answer. By default Synapse tries for minutes, and
/// then leaves the server alone for ten: no test waits for that.
fn patience() -> Value {
    json!({
        "client_timeout": "10s",
        "max_short_retries": 1,
        "max_short_retry_delay": PAUSE_MS,
        "max_long_retries": 1,
        "max_long_retry_delay": PAUSE_MS,
        "destination_min_retry_interval": PAUSE_MS,
        "destination_retry_multiplier": 1,
        "destination_max_retry_interval": PAUSE_MS,
    })
}

/// The certificate of all servers of this process, made by the first.
fn certificate(python: &Path) -> &'static Certificate {
    static MADE: OnceLock<Certificate> = OnceLock::new();
    MADE.get_or_init(|| {
        let output = Command::new(python)
            .args(["-c", MAKE_CERTIFICATE])
            .output()
            .expect("run Synapse's Python");
        let pem: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        match (pem["certificate"].as_str(), pem["key"].as_str()) {
            (Some(certificate), Some(key)) => Certificate {
                certificate: certificate.into(),
                key: key.into(),
            },
            _ => panic!(
                "cannot make a certificate: {}",
                String::from_utf8_lossy(&output.stderr)
            ),
        }
    })
}
