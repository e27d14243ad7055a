output "repository_url" {
  description = "The repository that the image is pushed to."
  value       = aws_ecr_repository.this.repository_url
}

output "repository_arn" {
  description = "Its ARN."
  value       = aws_ecr_repository.this.arn
}

output "cluster_name" {
  description = "The cluster's name."
  value       = aws_ecs_cluster.this.name
}

output "service_name" {
  description = "The service's name."
  value       = aws_ecs_service.this.name
}

output "task_definition_arn" {
  description = "The task definition, with its revision."
  value       = aws_ecs_task_definition.this.arn
}

output "log_group_name" {
  description = "The log group of the service's programs."
  value       = aws_cloudwatch_log_group.this.name
}

output "stopped_tasks" {
  description = "What counts tasks that stop abnormally: the rule's name, and the log group that says why."
  value = {
    rule_name      = aws_cloudwatch_event_rule.stopped_tasks.name
    log_group_name = aws_cloudwatch_log_group.stopped_tasks.name
  }
}
