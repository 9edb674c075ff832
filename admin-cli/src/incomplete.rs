//! Versions that came back from cartridges and are not whole, and numbers of which no closing record tells.

use taf_proto::v1::{IncompleteVersion, ListIncompleteVersionsRequest};

use crate::client::{Client, all, read};
use crate::failure::Failure;
use crate::resource::{VersionText, version_text};

/// All of them.
pub async fn incomplete(client: &Client) -> Result<Vec<IncompleteVersion>, Failure> {
    all(async |page_token| {
        let request = ListIncompleteVersionsRequest {
            page_size: 1000,
            page_token,
        };
        let page = read(|| {
            let (mut versions, request) = (client.versions(), request.clone());
            async move { versions.list_incomplete_versions(request).await }
        })
        .await?;
        Ok((page.versions, page.next_page_token))
    })
    .await
}

/// Its number as people write it behind the plan's name.
pub fn number(version: &IncompleteVersion) -> String {
    let archive = if version.archive { "a" } else { "" };
    format!("{archive}{}", version.number)
}

/// The API's name of that which a person wrote, if it is one of them.
pub async fn named(client: &Client, text: &str) -> Result<Option<String>, Failure> {
    let VersionText::OfPlan(plan, Some(which)) = version_text(text)? else {
        return Ok(None);
    };
    let is = |version: &IncompleteVersion| {
        (&version.plan, version.archive, Some(version.number))
            == (&plan, which.archive, which.number)
    };
    let found = incomplete(client).await?.into_iter().find(is);
    Ok(found.map(|version| version.name))
}
