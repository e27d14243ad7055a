output "stack" {
  description = "The deployment's name, for bottles --stack."
  value       = local.name
}

output "bucket_name" {
  description = "The mirror's bucket."
  value       = module.s3.bucket_name
}

output "replica_bucket_name" {
  description = "Its copy in backup_region; empty where there is none."
  value       = module.s3.replica_bucket_name
}

output "queue_urls" {
  description = "The queues, and their dead-letter queues."
  value = {
    small                  = module.sqs.queues["small"].url
    small_dead_letters     = module.sqs.dead_letters["small"].url
    large                  = module.sqs.queues["large"].url
    large_dead_letters     = module.sqs.dead_letters["large"].url
    failed_invocations     = module.lambda.failures_queue.url
    scheduler_dead_letters = module.eventbridge.dead_letters.url
  }
}

output "function_names" {
  description = "The functions by what they do."
  value       = { for key, function in module.lambda.functions : key => function.name }
}

output "schedules" {
  description = "When the functions are invoked."
  value       = module.eventbridge.schedules
}

output "ecs" {
  description = "The cluster, and the service in it."
  value = {
    cluster = module.ecs.cluster_name
    service = module.ecs.service_name
  }
}

output "ecr_repository_url" {
  description = "Where scripts/deploy.sh pushes the image of consumer-ecs to."
  value       = module.ecs.repository_url
}

output "topic_arn" {
  description = "The topic of alarms and notices."
  value       = module.notifications.topic_arn
}

output "slack_secret_name" {
  description = "The secret with Slack's webhook; empty where Slack is not told."
  value       = module.notifications.slack_secret_name
}

output "dashboard_url" {
  description = "The dashboard."
  value       = module.monitoring.dashboard_url
}

output "nat_gateway_public_ips" {
  description = "The addresses that upstream sees of tasks behind a NAT."
  value       = module.network.nat_gateway_public_ips
}

locals {
  bucket_url = "https://${local.bucket_name}.s3.${local.context.region}.amazonaws.com"
  mirror_url = var.enable_cdn ? module.cdn[0].url : length(var.reader_vpc_endpoint_ids) > 0 ? local.bucket_url : ""
}

output "mirror_url" {
  description = "Where clients find the mirror; empty while neither enable_cdn nor reader_vpc_endpoint_ids lets anybody read."
  value       = local.mirror_url
}

output "brew_environment" {
  description = "What a client sets for brew to take its API files and bottles from the mirror."
  value = local.mirror_url == "" ? [] : [
    "export HOMEBREW_API_DOMAIN=${local.mirror_url}/api",
    "export HOMEBREW_ARTIFACT_DOMAIN=${local.mirror_url}",
    "export HOMEBREW_ARTIFACT_DOMAIN_NO_FALLBACK=1",
    "export HOMEBREW_DOCKER_REGISTRY_BASIC_AUTH_TOKEN=none",
  ]
}
