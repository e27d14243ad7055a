mock_provider "aws" {}

variables {
  name                     = "bottles-test"
  context                  = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  function_timeout_seconds = 300
}

run "a_message_outlives_its_run_and_no_longer_than_the_manifest_says" {
  command = plan

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.work : queue.message_retention_seconds == 4 * 24 * 3600])
    error_message = "work queues don't keep messages for four days"
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.dead_letters : queue.message_retention_seconds == 14 * 24 * 3600])
    error_message = "dead-letter queues don't keep letters for fourteen days"
  }
}

run "visibility_is_longer_than_the_work" {
  command = plan

  assert {
    condition     = aws_sqs_queue.work["small"].visibility_timeout_seconds == 6 * 300
    error_message = "the small queue's visibility is not six times the function's timeout"
  }

  assert {
    condition     = aws_sqs_queue.work["large"].visibility_timeout_seconds == 120
    error_message = "the large queue's visibility is not what the worker extends"
  }
}

run "redrive_is_the_backstop" {
  command = apply

  variables {
    most_receives = 3
  }

  assert {
    condition     = alltrue([for queue in aws_sqs_queue.work : jsondecode(queue.redrive_policy).maxReceiveCount > 3])
    error_message = "a message is redriven before the consumers give up on it and say why"
  }

  assert {
    condition = alltrue([
      for lane in ["small", "large"] :
      jsondecode(aws_sqs_queue.work[lane].redrive_policy).deadLetterTargetArn == aws_sqs_queue.dead_letters[lane].arn
    ])
    error_message = "a queue's dead letters go elsewhere"
  }

  assert {
    condition = alltrue([
      for lane in ["small", "large"] : jsondecode(aws_sqs_queue_redrive_allow_policy.this[lane].redrive_allow_policy) == {
        redrivePermission = "byQueue"
        sourceQueueArns   = ["arn:aws:sqs:eu-west-1:123456789012:bottles-test-${lane}"]
      }
    ])
    error_message = "a dead-letter queue takes from other queues than its own"
  }
}

run "encrypted_and_over_tls" {
  command = plan

  assert {
    condition     = alltrue([for queue in concat(values(aws_sqs_queue.work), values(aws_sqs_queue.dead_letters)) : queue.sqs_managed_sse_enabled])
    error_message = "a queue is not encrypted"
  }

  assert {
    condition = alltrue([
      for policy in concat(values(aws_sqs_queue_policy.work), values(aws_sqs_queue_policy.dead_letters)) :
      alltrue([for statement in jsondecode(policy.policy).Statement : statement.Effect == "Deny" && statement.Condition.Bool["aws:SecureTransport"] == "false"])
    ])
    error_message = "a queue's policy allows something, or lets plain HTTP pass"
  }
}

run "a_key_of_ones_own" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-west-1:123456789012:key/1"
  }

  assert {
    condition = alltrue([
      for queue in concat(values(aws_sqs_queue.work), values(aws_sqs_queue.dead_letters)) :
      queue.kms_master_key_id == "arn:aws:kms:eu-west-1:123456789012:key/1"
    ])
    error_message = "a queue is not encrypted with the key"
  }
}

run "lambda_runs_no_longer_than_fifteen_minutes" {
  command = plan

  variables {
    function_timeout_seconds = 901
  }

  expect_failures = [var.function_timeout_seconds]
}

run "an_alias_is_no_key" {
  command = plan

  variables {
    kms_key_arn = "alias/aws/sqs"
  }

  expect_failures = [var.kms_key_arn]
}
