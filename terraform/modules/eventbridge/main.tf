locals {
  contract         = jsondecode(file("${path.module}/../../contract.json"))
  dead_letters_arn = "arn:${var.context.partition}:sqs:${var.context.region}:${var.context.account_id}:${var.name}-scheduler-dead-letters"
}

# What could not be handed to Lambda. What Lambda took and failed at is kept by
# its own queue of failures.
resource "aws_sqs_queue" "dead_letters" {
  name                      = "${var.name}-scheduler-dead-letters"
  message_retention_seconds = local.contract.dead_letter_retention_seconds

  sqs_managed_sse_enabled           = var.queues_kms_key_arn == "" ? true : null
  kms_master_key_id                 = var.queues_kms_key_arn == "" ? null : var.queues_kms_key_arn
  kms_data_key_reuse_period_seconds = var.queues_kms_key_arn == "" ? null : 3600
}

resource "aws_sqs_queue_policy" "dead_letters" {
  queue_url = aws_sqs_queue.dead_letters.id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Sid       = "OnlyOverTls"
      Effect    = "Deny"
      Principal = "*"
      Action    = "sqs:*"
      Resource  = local.dead_letters_arn
      Condition = { Bool = { "aws:SecureTransport" = "false" } }
    }]
  })
}

resource "aws_scheduler_schedule_group" "this" {
  name = var.group_name
}

resource "aws_scheduler_schedule" "plan" {
  #checkov:skip=CKV_AWS_297:The event says which action to take, and nothing else.
  name                         = "plan"
  description                  = "Puts what upstream has and the mirror hasn't onto the queues."
  group_name                   = aws_scheduler_schedule_group.this.name
  schedule_expression          = var.plan_schedule
  schedule_expression_timezone = var.timezone
  state                        = var.state

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = var.plan_function_arn
    role_arn = var.role_arn
    input    = jsonencode(local.contract.events.plan)

    retry_policy {
      maximum_retry_attempts       = var.maximum_retry_attempts
      maximum_event_age_in_seconds = var.maximum_event_age_seconds
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead_letters.arn
    }
  }
}

resource "aws_scheduler_schedule" "settle" {
  #checkov:skip=CKV_AWS_297:The event says which action to take, and nothing else.
  name                = "settle"
  description         = "Folds what the consumers reported, and tells of runs."
  group_name          = aws_scheduler_schedule_group.this.name
  schedule_expression = var.settle_schedule

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = var.settle_function_arn
    role_arn = var.role_arn
    input    = jsonencode(local.contract.events.settle)

    # The next one comes in minutes.
    retry_policy {
      maximum_retry_attempts       = 1
      maximum_event_age_in_seconds = 300
    }

    dead_letter_config {
      arn = aws_sqs_queue.dead_letters.arn
    }
  }
}
