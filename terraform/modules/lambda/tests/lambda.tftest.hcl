mock_provider "aws" {
  mock_resource "aws_sqs_queue" {
    defaults = {
      arn = "arn:aws:sqs:eu-west-1:123456789012:bottles-test-failed-invocations"
    }
  }
}

variables {
  name    = "bottles-test"
  context = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  # Any file does: a mocked Lambda doesn't read it.
  producer_zip_path = "main.tf"
  consumer_zip_path = "main.tf"
  role_arns = {
    producer = "arn:aws:iam::123456789012:role/producer"
    consumer = "arn:aws:iam::123456789012:role/consumer"
    alarms   = "arn:aws:iam::123456789012:role/alarms"
  }
  producer_environment = { BOTTLES_TO = "s3://bucket", BOTTLES_SELECTION = "tags = []" }
  consumer_environment = { BOTTLES_TO = "s3://bucket" }
  small_queue_arn      = "arn:aws:sqs:eu-west-1:123456789012:bottles-test-small"
}

run "one_writer" {
  command = plan

  assert {
    condition     = alltrue([for name in ["plan", "settle"] : aws_lambda_function.this[name].reserved_concurrent_executions == 1])
    error_message = "two plans, or two settles, could write the manifest at the same time"
  }

  assert {
    condition     = aws_lambda_function.this["consumer"].reserved_concurrent_executions == -1
    error_message = "the consumer's concurrency is reserved: its messages would be received in vain"
  }
}

run "the_small_queue_feeds_the_consumer" {
  command = plan

  assert {
    condition     = aws_lambda_event_source_mapping.consumer.function_response_types == toset(["ReportBatchItemFailures"])
    error_message = "one bad bottle brings back all of its batch"
  }

  assert {
    condition     = one(aws_lambda_event_source_mapping.consumer.scaling_config).maximum_concurrency == 10
    error_message = "nothing bounds the consumers"
  }

  assert {
    condition     = aws_lambda_event_source_mapping.consumer.event_source_arn == "arn:aws:sqs:eu-west-1:123456789012:bottles-test-small"
    error_message = "another queue feeds the consumer"
  }
}

run "failures_are_kept" {
  command = apply

  variables {
    enable_alarms = true
  }

  assert {
    condition = {
      for name, config in aws_lambda_function_event_invoke_config.this :
      name => [for to in config.destination_config : one(to.on_failure).destination]
      } == {
      plan   = [aws_sqs_queue.failures.arn]
      alarms = [aws_sqs_queue.failures.arn]
      settle = []
    }
    error_message = "asynchronous failures are lost, or a settle that the next one mended is kept"
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.this["plan"].maximum_retry_attempts == 2
    error_message = "a plan that failed is not tried again"
  }
}

run "logs_end" {
  command = plan

  variables {
    log_retention_days = 30
  }

  assert {
    condition = alltrue([
      for name, function in aws_lambda_function.this :
      one(function.logging_config).log_group == "/aws/lambda/bottles-test-${name}" &&
      aws_cloudwatch_log_group.this[name].name == "/aws/lambda/bottles-test-${name}" &&
      aws_cloudwatch_log_group.this[name].retention_in_days == 30
    ])
    error_message = "a function's logs are kept for ever, or go to a group that Lambda makes"
  }
}

run "alarms_have_a_function_where_they_are_asked_for" {
  command = plan

  assert {
    condition     = !contains(keys(aws_lambda_function.this), "alarms")
    error_message = "there is a function for alarms that go nowhere"
  }
}

run "packages_run_where_they_were_built_for" {
  command = plan

  variables {
    architecture = "arm64"
  }

  assert {
    condition     = alltrue([for function in aws_lambda_function.this : function.architectures == tolist(["arm64"]) && function.runtime == "provided.al2023" && function.handler == "bootstrap"])
    error_message = "a function has another architecture or runtime than its package"
  }
}

run "a_variable_that_the_program_does_not_know" {
  command = plan

  variables {
    producer_environment = { BOTTLES_TO = "s3://bucket", BOTTLES_VISIBILITY = "2m" }
  }

  expect_failures = [aws_lambda_function.this]
}

run "a_package_that_is_not_there" {
  command = plan

  variables {
    consumer_zip_path = "nowhere.zip"
  }

  expect_failures = [aws_lambda_function.this]
}

run "lambda_sets_the_region" {
  command = plan

  variables {
    consumer_environment = { AWS_REGION = "eu-west-1" }
  }

  expect_failures = [var.consumer_environment]
}

run "limits_of_lambda" {
  command = plan

  variables {
    consumer_timeout_seconds     = 1000
    consumer_maximum_concurrency = 1
    maximum_retry_attempts       = 3
    log_retention_days           = 10
    architecture                 = "arm"
  }

  expect_failures = [
    var.consumer_timeout_seconds,
    var.consumer_maximum_concurrency,
    var.maximum_retry_attempts,
    var.log_retention_days,
    var.architecture,
  ]
}
