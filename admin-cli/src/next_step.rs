//! What to do next when the controller refuses something: by the reason, else by the code. A job's own fault brings its
//! next step along and does not come here.

use tonic::Code;

/// The sentence behind `next:`. `resource` is the name in question, as in `plans/daily`.
pub fn of(reason: &str, code: Code, resource: Option<&String>) -> String {
    by_reason(reason)
        .map(str::to_owned)
        .or_else(|| look_at(resource?, code))
        .unwrap_or_else(|| by_code(code).to_owned())
}

fn by_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "SIGN_IN_REQUIRED" | "TOKEN_EXPIRED" | "ACCOUNT_EXISTS" => "taf login --user NAME",
        "WRONG_PASSWORD" => "try again with the right user and password",
        "LOCKED_OUT" => "wait some minutes, then try again with the right password",
        "ROLE_TOO_LOW" => "sign in as somebody who may (taf login), or ask an administrator",
        "LOCAL_ONLY" => "run it on the controller's own host as root or as the controller's user",
        "PLAN_RUNNING" => "follow the job that runs (taf job list), or stop it: taf job cancel N",
        "SOURCE_IN_USE" => "delete the plans that name it first: taf plan list",
        "AGENT_NOT_CONNECTED" | "AGENT_LOST" | "AGENT_SILENT" => {
            "see that the agent runs and is connected: taf agent list"
        }
        "DUMPS_BUSY" => "see which are under way: taf job list --active",
        "NOT_ONE_FILE" => "leave --format out: a tree comes as a tar archive",
        "NO_VERSION_THEN" => "see when there were versions: taf versions --plan PLAN",
        "TOO_MANY_SEARCHES" => "try again in a while",
        "PATTERN_NOT_FOUND" => "try it first: taf find PATTERN --in PLAN",
        "PATH_NOT_FOUND" => "see what the version holds: taf ls PLAN /",
        "JOB_ENDED" => "see how it ended: taf job show N",
        "ETAG_MISMATCH" | "CONTENDED" | "REQUEST_IN_PROGRESS" => "try again",
        "VOLUME_HAS_PARTS" | "VOLUME_LABELLED" | "VOLUME_LABELLING" => {
            "take another cartridge; taf volume list shows what each one is"
        }
        "CARTRIDGE_NOT_IN_LIBRARY" | "VOLUME_NOT_IN_LIBRARY" => {
            "put it into the library; taf library list shows what is there"
        }
        "NO_VOLUME" => "label one: taf volume label BARCODE --pool POOL",
        "AGENT_NOT_A_SOURCE" | "NOT_A_SOURCE_AGENT" => "choose a source agent: taf agent list",
        "AGENT_ROLE_DIFFERS" => {
            "choose another id for this agent; taf agent list shows the taken ones"
        }
        "DATABASE_UNAVAILABLE" | "DATABASE_SLOW" => {
            "see that the controller's database runs, then try again; the controller's log has the cause"
        }
        _ => return None,
    })
}

/// The command that shows what there is of a resource's kind.
fn look_at(resource: &str, code: Code) -> Option<String> {
    let list = match resource.split('/').next()? {
        "plans" => "taf plan list",
        "sources" => "taf source list",
        "pools" => "taf pool list",
        "agents" => "taf agent list",
        "volumes" => "taf volume list",
        "drives" => "taf drive list",
        "jobs" => "taf job list",
        "lines" => "taf versions",
        "accounts" => "taf account list",
        _ => return None,
    };
    match code {
        Code::NotFound => Some(format!("see what there is: {list}")),
        Code::AlreadyExists => Some(format!("choose another name; see what there is: {list}")),
        _ => None,
    }
}

fn by_code(code: Code) -> &'static str {
    match code {
        Code::InvalidArgument | Code::OutOfRange => {
            "correct what is named above; --help has examples"
        }
        Code::NotFound => "see what there is with the list command of the same noun",
        Code::AlreadyExists => "choose another name",
        Code::PermissionDenied => "sign in as somebody who may: taf login --user NAME",
        Code::Unauthenticated => "taf login --user NAME",
        Code::Unavailable | Code::DeadlineExceeded => {
            "see that the controller is well, then try again; its log has more"
        }
        Code::Aborted | Code::Cancelled => "try again",
        Code::ResourceExhausted => "wait a little, then try again",
        Code::Unimplemented => "use a controller of the same version as this program",
        Code::FailedPrecondition => "see how things are: taf status",
        _ => "see the controller's log",
    }
}
