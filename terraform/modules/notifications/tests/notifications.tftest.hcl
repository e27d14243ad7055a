mock_provider "aws" {
  mock_resource "aws_kms_key" {
    defaults = { arn = "arn:aws:kms:eu-west-1:123456789012:key/own" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-west-1:123456789012:bottles-test" }
  }
  mock_resource "aws_secretsmanager_secret" {
    defaults = { arn = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bottles-test/slack-AbCdEf", id = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:bottles-test/slack-AbCdEf" }
  }
}

variables {
  name    = "bottles-test"
  context = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  # Terraform 1.11's tests want a value for what is ephemeral, be it empty.
  slack_webhook_url = ""
  alarms_function   = { name = "bottles-test-alarms", arn = "arn:aws:lambda:eu-west-1:123456789012:function:bottles-test-alarms" }
}

run "alarms_can_be_published" {
  command = apply

  assert {
    condition     = aws_sns_topic.this.kms_master_key_id == "arn:aws:kms:eu-west-1:123456789012:key/own"
    error_message = "the topic is not encrypted with a key that CloudWatch can use"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_kms_key.this[0].policy).Statement :
      try(contains(statement.Principal.Service, "cloudwatch.amazonaws.com") && toset(statement.Action) == toset(["kms:Decrypt", "kms:GenerateDataKey*"]), false)
    ])
    error_message = "CloudWatch can't use the topic's key: alarms are lost without a word"
  }

  assert {
    condition = anytrue([
      for statement in jsondecode(aws_sns_topic_policy.this.policy).Statement :
      statement.Principal == { Service = "cloudwatch.amazonaws.com" } && statement.Action == "sns:Publish" && statement.Effect == "Allow"
    ])
    error_message = "CloudWatch may not publish"
  }
}

run "policies_are_for_this_account_and_topic" {
  command = apply

  assert {
    condition = { for statement in jsondecode(aws_sns_topic_policy.this.policy).Statement : statement.Sid => statement.Condition if statement.Effect == "Allow" } == {
      AlarmsPublish  = { ArnLike = { "aws:SourceArn" = "arn:aws:cloudwatch:eu-west-1:123456789012:alarm:bottles-test-*" } }
      BudgetsPublish = { StringEquals = { "aws:SourceAccount" = "123456789012" } }
    }
    error_message = "somebody else may publish"
  }

  assert {
    condition     = alltrue([for statement in jsondecode(aws_sns_topic_policy.this.policy).Statement : statement.Resource == "arn:aws:sns:eu-west-1:123456789012:bottles-test" && statement.Action == "sns:Publish"])
    error_message = "more than publishing to the topic is allowed"
  }

  assert {
    condition = { for statement in jsondecode(aws_kms_key.this[0].policy).Statement : statement.Sid => statement.Principal } == {
      TheAccountDecides       = { AWS = "arn:aws:iam::123456789012:root" }
      AlarmsAndBudgetsPublish = { Service = ["budgets.amazonaws.com", "cloudwatch.amazonaws.com"] }
    }
    error_message = "somebody else may use the key"
  }

  assert {
    condition     = aws_kms_key.this[0].enable_key_rotation
    error_message = "the key never changes"
  }
}

run "the_webhook_is_in_no_state" {
  command = apply

  variables {
    enable_slack          = true
    slack_webhook_url     = "https://hooks.slack.com/services/sesame"
    slack_webhook_version = 3
  }

  assert {
    condition     = aws_secretsmanager_secret_version.slack[0].secret_string_wo_version == 3
    error_message = "a higher version does not write the webhook"
  }

  assert {
    condition     = !strcontains(jsonencode([aws_secretsmanager_secret_version.slack, aws_secretsmanager_secret.slack]), "sesame")
    error_message = "the webhook is in the state"
  }

  assert {
    condition     = aws_secretsmanager_secret.slack[0].kms_key_id == "arn:aws:kms:eu-west-1:123456789012:key/own"
    error_message = "the secret is not encrypted with the key"
  }
}

run "alarms_go_to_slack" {
  command = apply

  variables {
    enable_slack = true
  }

  assert {
    condition     = aws_sns_topic_subscription.alarms[0].endpoint == var.alarms_function.arn
    error_message = "alarms go elsewhere"
  }

  # A filter on attributes would drop alarms, which have none.
  assert {
    condition     = aws_sns_topic_subscription.alarms[0].filter_policy == null
    error_message = "alarms may be dropped on their way"
  }

  assert {
    condition     = aws_lambda_permission.alarms[0].source_arn == aws_sns_topic.this.arn && aws_lambda_permission.alarms[0].principal == "sns.amazonaws.com"
    error_message = "the topic may not invoke the function, or others may"
  }

  assert {
    condition     = length(aws_secretsmanager_secret_version.slack) == 0
    error_message = "an empty webhook is written over one that was put by hand"
  }
}

run "without_slack_there_is_no_secret" {
  command = plan

  variables {
    email_addresses = ["team@example.com", "oncall@example.com"]
  }

  assert {
    condition     = length(aws_secretsmanager_secret.slack) == 0 && length(aws_sns_topic_subscription.alarms) == 0
    error_message = "there is a secret that nobody reads"
  }

  assert {
    condition     = toset([for subscription in aws_sns_topic_subscription.email : subscription.endpoint]) == toset(["team@example.com", "oncall@example.com"])
    error_message = "somebody is not told"
  }
}

run "a_copy_in_another_region" {
  command = plan

  variables {
    enable_slack   = true
    replica_region = "eu-central-1"
  }

  assert {
    condition     = one(aws_secretsmanager_secret.slack[0].replica).region == "eu-central-1"
    error_message = "the secret is not copied"
  }
}

run "a_copy_in_the_same_region_is_none" {
  command = plan

  variables {
    replica_region = "eu-west-1"
  }

  expect_failures = [var.replica_region]
}

run "what_is_no_address_and_no_window" {
  command = plan

  variables {
    email_addresses             = ["team"]
    secret_recovery_window_days = 3
  }

  expect_failures = [var.email_addresses, var.secret_recovery_window_days]
}
