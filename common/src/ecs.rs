//! The ECS service that drains the large queue: how many tasks it has, and
//! asking for more.

use aws_config::SdkConfig;
use aws_sdk_ecs::Client;
use aws_sdk_ecs::error::{ProvideErrorMetadata, SdkError};
use serde::{Deserialize, Serialize};

use crate::aws::Fault;

/// One service.
#[derive(Clone)]
pub struct EcsService {
    client: Client,
    cluster: String,
    service: String,
}

/// How many tasks there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Tasks {
    /// Asked for.
    pub desired: u32,
    /// At work, or ready for it.
    pub running: u32,
    /// On their way.
    pub pending: u32,
}

/// A service that can't be looked at or changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the ECS service {service} in {cluster} can't be {done}: {cause}")]
pub struct EcsError {
    cluster: String,
    service: String,
    done: &'static str,
    cause: String,
}

impl EcsService {
    /// The service of this name in this cluster.
    pub fn new(config: &SdkConfig, cluster: &str, service: &str) -> Self {
        Self { client: Client::new(config), cluster: cluster.to_owned(), service: service.to_owned() }
    }

    /// How many tasks there are.
    pub async fn tasks(&self) -> Result<Tasks, EcsError> {
        let request = self.client.describe_services().cluster(&self.cluster).services(&self.service);
        let output = request.send().await.map_err(|error| self.failed("looked at", &error))?;
        let service = output.services().first().filter(|service| service.status() != Some("INACTIVE"));
        let service =
            service.ok_or_else(|| self.error("looked at", "there is none of this name".to_owned()))?;
        let count = |number: i32| u32::try_from(number).unwrap_or(0);
        Ok(Tasks {
            desired: count(service.desired_count()),
            running: count(service.running_count()),
            pending: count(service.pending_count()),
        })
    }

    /// Sees to it that at least `wanted` tasks are asked for. It never lowers
    /// their number: taking tasks away is the autoscaling's, which sees when the
    /// queue has been empty for long enough.
    pub async fn raise(&self, wanted: u32) -> Result<Raised, EcsError> {
        let before = self.tasks().await?.desired;
        if before >= wanted {
            return Ok(Raised { before, after: before });
        }
        let request = self.client.update_service().cluster(&self.cluster).service(&self.service);
        let request = request.desired_count(i32::try_from(wanted).unwrap_or(i32::MAX));
        request.send().await.map_err(|error| self.failed("raised", &error))?;
        Ok(Raised { before, after: wanted })
    }

    fn failed<E>(&self, done: &'static str, error: &SdkError<E>) -> EcsError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        self.error(done, Fault::of(error).text)
    }

    fn error(&self, done: &'static str, cause: String) -> EcsError {
        EcsError { cluster: self.cluster.clone(), service: self.service.clone(), done, cause }
    }
}

/// The desired count before and after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Raised {
    /// As it was found.
    pub before: u32,
    /// As it was left.
    pub after: u32,
}

/// How many tasks `bottles` large bottles are worth: one for each
/// `bottles_per_task`, and no more than `most_tasks`.
pub fn wanted_tasks(bottles: u64, bottles_per_task: u32, most_tasks: u32) -> u32 {
    let tasks = bottles.div_ceil(u64::from(bottles_per_task.max(1)));
    u32::try_from(tasks).unwrap_or(u32::MAX).min(most_tasks)
}

#[cfg(test)]
mod tests {
    use testbed::Emulator;

    use super::*;

    #[test]
    fn tasks_follow_the_bottles_up_to_the_bound() {
        assert_eq!([0, 1, 25, 26, 1000].map(|bottles| wanted_tasks(bottles, 25, 4)), [0, 1, 1, 2, 4]);
    }

    #[tokio::test]
    async fn the_desired_count_is_raised_and_never_lowered() {
        let emulator = Emulator::start().unwrap();
        let config = emulator.config();
        let client = Client::new(&config);
        client.create_cluster().cluster_name("c").send().await.unwrap();
        let container = aws_sdk_ecs::types::ContainerDefinition::builder().name("x").image("x").build();
        let definition = client.register_task_definition().family("f").container_definitions(container);
        definition.send().await.unwrap();
        let create =
            client.create_service().cluster("c").service_name("s").task_definition("f").desired_count(0);
        create.send().await.unwrap();

        let service = EcsService::new(&config, "c", "s");
        assert_eq!(service.raise(3).await.unwrap(), Raised { before: 0, after: 3 });
        assert_eq!(service.raise(1).await.unwrap(), Raised { before: 3, after: 3 });
        assert_eq!(service.tasks().await.unwrap().desired, 3);
        let error = EcsService::new(&config, "c", "other").tasks().await.unwrap_err().to_string();
        assert!(error.contains("service other in c"), "{error}");
    }
}
