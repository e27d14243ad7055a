//! What is in a bucket.

use std::collections::BTreeMap;

use aws_config::SdkConfig;
use aws_sdk_s3::Client;

/// A bucket in an emulator.
pub struct Bucket {
    client: Client,
    name: String,
}

impl Bucket {
    /// The bucket of this name.
    pub fn new(config: &SdkConfig, name: &str) -> Self {
        Self { client: Client::new(config), name: name.to_owned() }
    }

    /// All keys that begin with `prefix`, each with its size.
    pub async fn keys(&self, prefix: &str) -> anyhow::Result<BTreeMap<String, u64>> {
        let mut keys = BTreeMap::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.name).prefix(prefix).into_paginator().send();
        while let Some(page) = pages.next().await {
            for object in page?.contents() {
                let size = u64::try_from(object.size().unwrap_or(0))?;
                keys.insert(object.key().unwrap_or_default().to_owned(), size);
            }
        }
        Ok(keys)
    }

    /// An object's bytes; `None` if it is not there.
    pub async fn object(&self, key: &str) -> anyhow::Result<Option<Vec<u8>>> {
        match self.client.get_object().bucket(&self.name).key(key).send().await {
            Ok(output) => Ok(Some(output.body.collect().await?.to_vec())),
            Err(error) if error.raw_response().is_some_and(|response| response.status().as_u16() == 404) => {
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}
