locals {
  topic_arn = "arn:${var.context.partition}:sns:${var.context.region}:${var.context.account_id}:${var.name}"
  slack     = var.enable_slack ? 1 : 0

  # A key of AWS's own (alias/aws/sns) can't be used by CloudWatch: its alarms
  # would be lost without a word.
  # https://docs.aws.amazon.com/sns/latest/dg/sns-key-management.html
  own_key     = var.kms_key_arn == "" ? 1 : 0
  kms_key_arn = var.kms_key_arn == "" ? one(aws_kms_key.this[*].arn) : var.kms_key_arn
}

resource "aws_kms_key" "this" {
  count = local.own_key

  description             = "The topic and the Slack secret of ${var.name}."
  enable_key_rotation     = true
  deletion_window_in_days = 7

  # In a key's policy the resource is the key itself: AWS knows no other than "*".
  # Whose alarms and budgets may publish is the topic's policy: AWS doesn't say
  # that CloudWatch names their account when it uses the key.
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "TheAccountDecides"
        Effect    = "Allow"
        Principal = { AWS = "arn:${var.context.partition}:iam::${var.context.account_id}:root" }
        Action    = "kms:*"
        Resource  = "*"
      },
      {
        Sid       = "AlarmsAndBudgetsPublish"
        Effect    = "Allow"
        Principal = { Service = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"] }
        Action    = ["kms:Decrypt", "kms:GenerateDataKey*"]
        Resource  = "*"
      },
    ]
  })
}

resource "aws_kms_alias" "this" {
  count = local.own_key

  name          = "alias/${var.name}-notifications"
  target_key_id = aws_kms_key.this[0].key_id
}

resource "aws_sns_topic" "this" {
  name              = var.name
  kms_master_key_id = local.kms_key_arn
}

# The producer's role publishes by its own policy.
resource "aws_sns_topic_policy" "this" {
  arn = aws_sns_topic.this.arn
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "AlarmsPublish"
        Effect    = "Allow"
        Principal = { Service = "cloudwatch.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = local.topic_arn
        Condition = { ArnLike = { "aws:SourceArn" = "arn:${var.context.partition}:cloudwatch:${var.context.region}:${var.context.account_id}:alarm:${var.name}-*" } }
      },
      {
        Sid       = "BudgetsPublish"
        Effect    = "Allow"
        Principal = { Service = "budgets.amazonaws.com" }
        Action    = "sns:Publish"
        Resource  = local.topic_arn
        Condition = { StringEquals = { "aws:SourceAccount" = var.context.account_id } }
      },
      {
        Sid       = "OnlyOverTls"
        Effect    = "Deny"
        Principal = "*"
        Action    = "sns:Publish"
        Resource  = local.topic_arn
        Condition = { Bool = { "aws:SecureTransport" = "false" } }
      },
    ]
  })
}

resource "aws_sns_topic_subscription" "email" {
  for_each = toset(var.email_addresses)

  topic_arn = aws_sns_topic.this.arn
  protocol  = "email"
  endpoint  = each.value
}

# The secret with Slack's webhook.

resource "aws_secretsmanager_secret" "slack" {
  #checkov:skip=CKV2_AWS_57:Slack can't rotate a webhook; a new one is made there and written by a higher slack_webhook_version.
  count = local.slack

  name                    = "${var.name}/slack"
  description             = "The URL of Slack's incoming webhook."
  kms_key_id              = local.kms_key_arn
  recovery_window_in_days = var.secret_recovery_window_days

  dynamic "replica" {
    for_each = var.replica_region == "" ? [] : [var.replica_region]

    content {
      # Encrypted there with AWS's own key: a key belongs to one region.
      region = replica.value
    }
  }
}

# Write-only: the value is in neither the plan nor the state.
resource "aws_secretsmanager_secret_version" "slack" {
  count = var.enable_slack && var.slack_webhook_version > 0 ? 1 : 0

  secret_id                = aws_secretsmanager_secret.slack[0].id
  secret_string_wo         = var.slack_webhook_url
  secret_string_wo_version = var.slack_webhook_version
}

# What others send goes to Slack by a function: alarms, the budget. It leaves out
# the producer's own notices, which are marked and have gone there already. Not by
# a filter policy: that an attribute is absent matches only where another one is
# there, and an alarm has none.
# https://docs.aws.amazon.com/sns/latest/dg/string-value-matching.html

resource "aws_sns_topic_subscription" "alarms" {
  count = local.slack

  topic_arn = aws_sns_topic.this.arn
  protocol  = "lambda"
  endpoint  = var.alarms_function.arn

  depends_on = [aws_lambda_permission.alarms]
}

resource "aws_lambda_permission" "alarms" {
  count = local.slack

  statement_id  = "AlarmsFromTheTopic"
  action        = "lambda:InvokeFunction"
  function_name = var.alarms_function.name
  principal     = "sns.amazonaws.com"
  source_arn    = aws_sns_topic.this.arn
}
