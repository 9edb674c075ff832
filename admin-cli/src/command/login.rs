//! `taf login`, `taf logout`, `taf whoami`: the sign-in that all other commands use.

use std::path::PathBuf;

use jiff::Timestamp;
use taf_peer::authority::CERTIFICATE_FILE;
use taf_peer::tls::Trust;
use taf_peer::{config, material};
use taf_proto::v1::{Account, GetCallerRequest, LoginRequest, LogoutRequest};

use super::missing;
use crate::client::{Client, read};
use crate::failure::{Exit, Failure};
use crate::output::{Output, say};
use crate::resource::id;
use crate::{human, login, password};

/// Where a controller listens unless it was told otherwise.
const SERVER: &str = "127.0.0.1:8710";

/// Sign in at a controller, for the commands that follow
///
/// The controller is trusted by its authority's certificate (authority.pem in its home), which is kept with the sign-in.
/// Without --authority and --fingerprint that of the last sign-in at this server is taken, else that of a controller on
/// this host.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  taf login --server backup.example.org:8710 --authority authority.pem --user admin
  taf login --user admin                     (again, at the same server)
  taf login --server [2001:db8::7]:8710 --fingerprint 3f:86:… --user admin --password-file /run/secrets/taf

The sign-in is kept in $TAF_CONFIG, else $XDG_CONFIG_HOME/taf/login.toml.")]
pub struct Login {
    /// Where the controller is; that of the last sign-in, else 127.0.0.1:8710
    #[arg(long, value_name = "HOST:PORT")]
    server: Option<String>,
    /// Certificate of the controller's authority
    #[arg(long, value_name = "FILE", conflicts_with = "fingerprint")]
    authority: Option<PathBuf>,
    /// SHA-256 of that certificate, in place of the file
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Name of the account
    #[arg(long, value_name = "NAME")]
    user: String,
    #[command(flatten)]
    password: password::From,
}

impl Login {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let known = login::Login::load().ok();
        let server = self
            .server
            .clone()
            .or_else(|| known.as_ref().map(|known| known.server.clone()))
            .unwrap_or_else(|| SERVER.to_owned());
        let mut login = login::Login {
            server: server.clone(),
            user: self.user.clone(),
            token: String::new(),
            expires: None,
            authority_sha256: None,
            authority: None,
        };
        self.choose_authority(&mut login, known.filter(|known| known.server == server))?;
        let trust = login.trust()?;
        // Who can't be reached or believed is found out before a password is asked for.
        let client = Client::anonymous(&server, trust).await?;
        let password = self.password.read(&self.user, false)?;
        let request = LoginRequest {
            user: self.user,
            password: password.to_string(),
        };
        let answer = client.identity().login(request).await?.into_inner();
        let account = answer.account.ok_or_else(|| missing("account"))?;
        login.token = answer.token;
        login.expires = answer
            .expire_time
            .and_then(|t| Timestamp::new(t.seconds, t.nanos).ok())
            .map(|t| t.to_string());
        let path = login.store()?;
        if out.json() {
            out.message("Account", &account)?;
        } else {
            say(format!(
                "signed in at {server} as {}, who is {}, until {}; kept in {}",
                id(&account.name),
                role(&account),
                human::time(answer.expire_time.as_ref()),
                path.display()
            ));
        }
        Ok(Exit::Done)
    }

    fn choose_authority(
        &self,
        login: &mut login::Login,
        known: Option<login::Login>,
    ) -> Result<(), Failure> {
        if let Some(hex) = &self.fingerprint {
            login.authority_sha256 = Some(hex::encode(login::fingerprint(hex)?));
            return Ok(());
        }
        let local = config::home().join("controller").join(CERTIFICATE_FILE);
        let file = match (&self.authority, known) {
            (Some(file), _) => file.clone(),
            (None, Some(known)) => {
                login.authority = known.authority;
                login.authority_sha256 = known.authority_sha256;
                return Ok(());
            }
            (None, None) if local.exists() => local,
            (None, None) => {
                return Err(Failure::new(
                    "WRONG_AUTHORITY",
                    format!(
                        "it is not known which authority the controller at {} must have",
                        login.server
                    ),
                    "copy authority.pem from the controller's home and give --authority FILE, or give its --fingerprint",
                ));
            }
        };
        let pem = std::fs::read_to_string(&file).map_err(|error| {
            Failure::new(
                "WRONG_AUTHORITY",
                format!(
                    "the authority's certificate {} can't be read: {error}",
                    file.display()
                ),
                "copy authority.pem from the controller's home",
            )
        })?;
        let certificate = login::authority(pem.as_bytes())?;
        login.authority = Some(material::certificate_pem(&certificate));
        Ok(())
    }
}

/// End the sign-in: the token is revoked and removed from this host
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf logout")]
pub struct Logout {}

impl Logout {
    /// Runs it.
    pub async fn run(self, _: &mut Output) -> Result<Exit, Failure> {
        let ended = async {
            let client = Client::signed_in().await?;
            client.identity().logout(LogoutRequest {}).await?;
            Ok::<_, Failure>(())
        };
        match ended.await {
            Ok(()) => {
                login::forget()?;
                say("signed out");
                Ok(Exit::Done)
            }
            // There is nothing left to revoke.
            Err(failure)
                if matches!(
                    failure.reason.as_str(),
                    "SIGN_IN_REQUIRED" | "TOKEN_EXPIRED"
                ) =>
            {
                login::forget()?;
                say("nobody was signed in");
                Ok(Exit::Done)
            }
            Err(failure) => {
                login::forget()?;
                Err(Failure::new(
                    failure.reason,
                    format!(
                        "the token was removed from this host, but not revoked at the controller: {}",
                        failure.message
                    ),
                    "it ends by itself; an administrator can end it sooner",
                ))
            }
        }
    }
}

/// Show who is signed in, and where
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  taf whoami")]
pub struct Whoami {}

impl Whoami {
    /// Runs it.
    pub async fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let client = Client::signed_in().await?;
        let answer = read(|| {
            let mut identity = client.identity();
            async move { identity.get_caller(GetCallerRequest {}).await }
        })
        .await?;
        let account = answer.account.ok_or_else(|| missing("account"))?;
        if out.json() {
            out.message("Account", &account)?;
        } else {
            let login = login::Login::load()?;
            let believes = match login.trust()? {
                Trust::Authority(certificate) => material::fingerprint(&certificate),
                Trust::Fingerprint(fingerprint) => fingerprint,
            };
            out.line(format!("{}  {}", id(&account.name), role(&account)))?;
            out.line(format!("server     {}", login.server))?;
            out.line(format!("authority  {}", hex::encode(believes)))?;
        }
        Ok(Exit::Done)
    }
}

/// An account's role as people write it.
pub fn role(account: &Account) -> &'static str {
    use taf_proto::v1::Role;
    match account.role() {
        Role::Unspecified => "nobody",
        Role::Viewer => "viewer",
        Role::Operator => "operator",
        Role::Administrator => "administrator",
    }
}
