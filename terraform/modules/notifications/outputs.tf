output "topic_arn" {
  description = "The topic of alarms and notices, once it takes them."
  value       = aws_sns_topic.this.arn

  # Who publishes before is refused.
  depends_on = [aws_sns_topic_policy.this]
}

output "slack_secret_name" {
  description = "The name of the secret with Slack's webhook; empty where Slack is not told."
  value       = var.enable_slack ? "${var.name}/slack" : ""
}

output "slack_secret_arn" {
  description = "Its ARN; empty where Slack is not told."
  value       = var.enable_slack ? aws_secretsmanager_secret.slack[0].arn : ""
}

output "kms_key_arn" {
  description = "The KMS key of the topic and the secret."
  value       = local.kms_key_arn
}
