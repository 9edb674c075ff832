//! Signing in and out, and accounts.

use taf_proto::v1::identity_service_server::IdentityService;
use taf_proto::v1::{
    self, CreateAccountRequest, CreateAccountResponse, CreateFirstAdministratorRequest,
    CreateFirstAdministratorResponse, GetCallerRequest, GetCallerResponse, ListAccountsRequest,
    ListAccountsResponse, LoginRequest, LoginResponse, LogoutRequest, LogoutResponse, Role,
};
use tonic::{Code, Request, Response, Status};

use super::mutation::Mutation;
use super::paging::Page;
use super::status::{self, Violations};
use super::{PAGE_DEFAULT, PAGE_MOST, names, password, timestamp};
use crate::access::{Caller, token};
use crate::app::App;
use crate::store::accounts::{Account, Attempt};
use crate::store::{self, Store};

/// `taf.v1.IdentityService`.
#[derive(Debug, Clone)]
pub struct Identity(pub App);

fn message(account: &Account) -> v1::Account {
    v1::Account {
        name: names::account(&account.user),
        role: account.role.into(),
        create_time: Some(timestamp(account.created_at)),
    }
}

/// What an audit line is about, for a name that may be anything.
fn subject(user: &str) -> String {
    if names::is_id(user) {
        names::account(user)
    } else {
        "accounts/?".to_owned()
    }
}

fn check_new(user: &str, password: &str, bad: &mut Violations) {
    if !names::is_id(user) {
        bad.add("user", format!("must be {}", names::ID_RULE));
    }
    if let Some(complaint) = password::complaint(password) {
        bad.add("password", complaint);
    }
}

impl Identity {
    async fn make_first(
        &self,
        mutation: &Mutation,
        request: CreateFirstAdministratorRequest,
    ) -> Result<CreateFirstAdministratorResponse, Status> {
        let mut bad = Violations::new();
        check_new(&request.user, &request.password, &mut bad);
        bad.check()?;
        let hash = password::hash(request.password).await?;
        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        // Two at a time would both find no account.
        Store::installation_lock_on(&tx).await?;
        if Store::account_any_on(&tx).await? {
            return Err(status::precondition(
                "ACCOUNT_EXISTS",
                "there is an account already: sign in as an administrator and use taf account create",
            ));
        }
        let account = Store::account_create_on(&tx, &request.user, Role::Administrator, &hash)
            .await?
            .ok_or_else(|| status::already_exists(&names::account(&request.user)))?;
        let answer = CreateFirstAdministratorResponse {
            account: Some(message(&account)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn sign_in(
        &self,
        mutation: &Mutation,
        request: LoginRequest,
    ) -> Result<LoginResponse, Status> {
        let wrong = || {
            status::fault(
                Code::Unauthenticated,
                "WRONG_PASSWORD",
                "user or password is wrong: check both and try again",
            )
        };
        if request.password.len() > password::LONGEST || !names::is_id(&request.user) {
            return Err(wrong());
        }
        let store = &self.0.store;
        let (account, hash) = match store.account_attempt(&request.user).await? {
            Attempt::LockedUntil(until) => {
                let until = until.to_string();
                return Err(status::fault_with(
                    Code::ResourceExhausted,
                    "LOCKED_OUT",
                    format!(
                        "too many wrong passwords: nobody can sign in as this user before {until}"
                    ),
                    &[("until", &until)],
                ));
            }
            Attempt::UnknownUser => {
                password::verify(request.password, None).await?;
                return Err(wrong());
            }
            Attempt::Check {
                account,
                password_hash,
            } => (account, password_hash),
        };
        if !password::verify(request.password, Some(hash)).await? {
            return Err(wrong());
        }
        let text = token::generate();
        let mut client = store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        Store::account_signed_in_on(&tx, account.id).await?;
        let hash = token::hash(&text);
        let expires =
            Store::api_token_create_on(&tx, account.id, &hash, token::LIFETIME_SECONDS).await?;
        let mut answer = LoginResponse {
            token: String::new(),
            expire_time: Some(timestamp(expires)),
            account: Some(message(&account)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        answer.token = text.to_string();
        Ok(answer)
    }

    async fn create(
        &self,
        mutation: &Mutation,
        request: CreateAccountRequest,
    ) -> Result<CreateAccountResponse, Status> {
        let mut bad = Violations::new();
        check_new(&request.user, &request.password, &mut bad);
        let role = request.role();
        if role == Role::Unspecified {
            bad.add("role", "must be viewer, operator or administrator");
        }
        bad.check()?;
        let hash = password::hash(request.password).await?;
        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        if let Some(answer) = mutation.begin_on(&tx).await? {
            return Ok(answer);
        }
        let account = Store::account_create_on(&tx, &request.user, role, &hash)
            .await?
            .ok_or_else(|| status::already_exists(&names::account(&request.user)))?;
        let answer = CreateAccountResponse {
            account: Some(message(&account)),
        };
        mutation.finish_on(&tx, &answer).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(answer)
    }

    async fn sign_out(&self, mutation: &Mutation, token: i64) -> Result<LogoutResponse, Status> {
        let mut client = self.0.store.client().await?;
        let tx = client.transaction().await.map_err(store::Error::from)?;
        // Revoked before is revoked: nothing to complain about.
        Store::api_token_revoke_on(&tx, token).await?;
        mutation.finish_on(&tx, &LogoutResponse {}).await?;
        tx.commit().await.map_err(store::Error::from)?;
        Ok(LogoutResponse {})
    }
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn create_first_administrator(
        &self,
        request: Request<CreateFirstAdministratorRequest>,
    ) -> Result<Response<CreateFirstAdministratorResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "IdentityService.CreateFirstAdministrator",
            subject(&request.user),
            "",
            &(),
        )?;
        let outcome = self.make_first(&mutation, request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn login(
        &self,
        request: Request<LoginRequest>,
    ) -> Result<Response<LoginResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        let mutation = Mutation::new(
            &caller,
            "IdentityService.Login",
            subject(&request.user),
            "",
            &(),
        )?;
        let outcome = self.sign_in(&mutation, request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn logout(
        &self,
        request: Request<LogoutRequest>,
    ) -> Result<Response<LogoutResponse>, Status> {
        let caller = Caller::of(&request)?;
        let Caller::Account { token, .. } = caller else {
            return Err(status::precondition(
                "NOT_AN_ACCOUNT",
                "only a person can sign out",
            ));
        };
        let mutation = Mutation::new(caller, "IdentityService.Logout", caller.actor(), "", &())?;
        let outcome = self.sign_out(&mutation, *token).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn get_caller(
        &self,
        request: Request<GetCallerRequest>,
    ) -> Result<Response<GetCallerResponse>, Status> {
        let Caller::Account { user, .. } = Caller::of(&request)? else {
            return Err(status::precondition(
                "NOT_AN_ACCOUNT",
                "the caller is not a person",
            ));
        };
        let account = self
            .0
            .store
            .account_get(user)
            .await?
            .ok_or_else(|| status::not_found(&names::account(user)))?;
        Ok(Response::new(GetCallerResponse {
            account: Some(message(&account)),
        }))
    }

    async fn create_account(
        &self,
        request: Request<CreateAccountRequest>,
    ) -> Result<Response<CreateAccountResponse>, Status> {
        let caller = Caller::of(&request)?.clone();
        let request = request.into_inner();
        // Not the password: a plain hash of it must not be kept.
        let content = CreateAccountRequest {
            password: String::new(),
            ..request.clone()
        };
        let mutation = Mutation::new(
            &caller,
            "IdentityService.CreateAccount",
            subject(&request.user),
            &request.request_id,
            &content,
        )?;
        let outcome = self.create(&mutation, request).await;
        mutation.concluded(&self.0.store, outcome).await
    }

    async fn list_accounts(
        &self,
        request: Request<ListAccountsRequest>,
    ) -> Result<Response<ListAccountsResponse>, Status> {
        let request = request.into_inner();
        let page = Page::read(
            "accounts",
            request.page_size,
            &request.page_token,
            PAGE_DEFAULT,
            PAGE_MOST,
        )?;
        let mut rows = self
            .0
            .store
            .account_list(page.after_text()?, page.limit())
            .await?;
        let next_page_token = page.cut(&mut rows, |row| row.user.clone());
        Ok(Response::new(ListAccountsResponse {
            accounts: rows.iter().map(message).collect(),
            next_page_token,
        }))
    }
}
