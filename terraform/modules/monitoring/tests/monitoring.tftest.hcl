mock_provider "aws" {}

variables {
  name      = "bottles-test"
  context   = { partition = "aws", region = "eu-west-1", account_id = "123456789012" }
  topic_arn = "arn:aws:sns:eu-west-1:123456789012:bottles-test"
  queue_names = {
    small                  = "bottles-test-small"
    large                  = "bottles-test-large"
    small_dead_letters     = "bottles-test-small-dead-letters"
    large_dead_letters     = "bottles-test-large-dead-letters"
    failures               = "bottles-test-failed-invocations"
    scheduler_dead_letters = "bottles-test-scheduler-dead-letters"
  }
  functions = {
    plan     = { name = "bottles-test-plan", log_group = "/aws/lambda/bottles-test-plan", timeout_seconds = 900 }
    settle   = { name = "bottles-test-settle", log_group = "/aws/lambda/bottles-test-settle", timeout_seconds = 900 }
    consumer = { name = "bottles-test-consumer", log_group = "/aws/lambda/bottles-test-consumer", timeout_seconds = 300 }
    alarms   = { name = "bottles-test-alarms", log_group = "/aws/lambda/bottles-test-alarms", timeout_seconds = 60 }
  }
  ecs = {
    cluster_name   = "bottles-test"
    service_name   = "bottles-test-consumer"
    log_group_name = "/ecs/bottles-test-consumer"
    stopped_tasks  = { rule_name = "bottles-test-stopped-tasks", log_group_name = "/aws/events/bottles-test-stopped-tasks" }
  }
  bucket_name = "bottles-test-123456789012"
}

run "what_people_dread_has_an_alarm" {
  command = plan

  assert {
    condition = toset(keys(aws_cloudwatch_metric_alarm.this)) == toset([
      "small-dead-letters", "large-dead-letters", "small-oldest-message", "large-oldest-message",
      "failed-invocations", "scheduler-dead-letters",
      "plan-errors", "settle-errors", "consumer-errors", "alarms-errors",
      "plan-throttles", "settle-throttles", "consumer-throttles", "alarms-throttles",
      "plan-duration", "settle-duration", "consumer-duration", "alarms-duration",
      "stopped-tasks", "tasks-cpu", "tasks-memory",
      "upstream-5xx", "upstream-429", "upstream-unreachable",
      "run-stalled", "no-settled-run", "unreadable-receipts",
    ])
    error_message = "an alarm is missing, or there is one that this list doesn't know"
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.unattended) == 1
    error_message = "nobody is told that large bottles wait in vain"
  }
}

# Dimensions as AWS's services and the programs write them, letter by letter.
run "alarms_look_at_what_is_emitted" {
  command = plan

  assert {
    condition = {
      for key, alarm in aws_cloudwatch_metric_alarm.this :
      key => "${alarm.namespace} ${alarm.metric_name} ${join(" ", [for name, value in alarm.dimensions : "${name}=${value}"])} ${alarm.statistic} > ${alarm.threshold}"
      } == {
      small-dead-letters     = "AWS/SQS ApproximateNumberOfMessagesVisible QueueName=bottles-test-small-dead-letters Maximum > 0"
      large-dead-letters     = "AWS/SQS ApproximateNumberOfMessagesVisible QueueName=bottles-test-large-dead-letters Maximum > 0"
      small-oldest-message   = "AWS/SQS ApproximateAgeOfOldestMessage QueueName=bottles-test-small Maximum > 43200"
      large-oldest-message   = "AWS/SQS ApproximateAgeOfOldestMessage QueueName=bottles-test-large Maximum > 43200"
      failed-invocations     = "AWS/SQS ApproximateNumberOfMessagesVisible QueueName=bottles-test-failed-invocations Maximum > 0"
      scheduler-dead-letters = "AWS/SQS ApproximateNumberOfMessagesVisible QueueName=bottles-test-scheduler-dead-letters Maximum > 0"
      plan-errors            = "AWS/Lambda Errors FunctionName=bottles-test-plan Sum > 0"
      settle-errors          = "AWS/Lambda Errors FunctionName=bottles-test-settle Sum > 0"
      consumer-errors        = "AWS/Lambda Errors FunctionName=bottles-test-consumer Sum > 0"
      alarms-errors          = "AWS/Lambda Errors FunctionName=bottles-test-alarms Sum > 0"
      plan-throttles         = "AWS/Lambda Throttles FunctionName=bottles-test-plan Sum > 0"
      settle-throttles       = "AWS/Lambda Throttles FunctionName=bottles-test-settle Sum > 0"
      consumer-throttles     = "AWS/Lambda Throttles FunctionName=bottles-test-consumer Sum > 0"
      alarms-throttles       = "AWS/Lambda Throttles FunctionName=bottles-test-alarms Sum > 0"
      plan-duration          = "AWS/Lambda Duration FunctionName=bottles-test-plan Maximum > 810000"
      settle-duration        = "AWS/Lambda Duration FunctionName=bottles-test-settle Maximum > 810000"
      consumer-duration      = "AWS/Lambda Duration FunctionName=bottles-test-consumer Maximum > 270000"
      alarms-duration        = "AWS/Lambda Duration FunctionName=bottles-test-alarms Maximum > 54000"
      stopped-tasks          = "AWS/Events Invocations RuleName=bottles-test-stopped-tasks Sum > 0"
      tasks-cpu              = "AWS/ECS CPUUtilization ClusterName=bottles-test ServiceName=bottles-test-consumer Average > 95"
      tasks-memory           = "AWS/ECS MemoryUtilization ClusterName=bottles-test ServiceName=bottles-test-consumer Maximum > 90"
      upstream-5xx           = "Bottles UpstreamResponses Environment=bottles-test Outcome=5xx Sum > 200"
      upstream-429           = "Bottles UpstreamResponses Environment=bottles-test Outcome=429 Sum > 200"
      upstream-unreachable   = "Bottles UpstreamResponses Environment=bottles-test Outcome=unreachable Sum > 200"
      run-stalled            = "Bottles StalledRuns Environment=bottles-test Maximum > 0"
      no-settled-run         = "Bottles SecondsSinceSettledRun Environment=bottles-test Maximum > 691200"
      unreadable-receipts    = "Bottles UnreadableReceipts Environment=bottles-test Maximum > 0"
    }
    error_message = "an alarm looks at another metric, dimension or threshold"
  }
}

run "our_own_metrics_are_those_of_the_code" {
  command = plan

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.this :
      toset(keys(alarm.dimensions)) == toset(jsondecode(file("../../contract.json")).metrics[alarm.metric_name].dimensions)
      if alarm.namespace == jsondecode(file("../../contract.json")).namespace
    ])
    error_message = "an alarm has other dimensions than the metrics' table"
  }

  assert {
    condition = alltrue([
      for key in ["upstream-5xx", "upstream-429", "upstream-unreachable"] :
      contains(jsondecode(file("../../contract.json")).upstream_classes, aws_cloudwatch_metric_alarm.this[key].dimensions["Outcome"])
    ])
    error_message = "an alarm is about a class of answers that nobody counts"
  }
}

run "no_alarm_fires_on_a_system_that_rests" {
  command = plan

  # Queues that nobody uses, functions that don't run and tasks that aren't there
  # emit nothing.
  assert {
    condition     = alltrue([for key, alarm in aws_cloudwatch_metric_alarm.this : alarm.treat_missing_data == (key == "no-settled-run" ? "missing" : "notBreaching")])
    error_message = "an alarm takes silence for a fault"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.unattended[0].treat_missing_data == "notBreaching"
    error_message = "an empty queue counts as unattended"
  }
}

run "a_settle_that_says_nothing_is_told" {
  command = plan

  assert {
    condition     = aws_cloudwatch_metric_alarm.this["no-settled-run"].insufficient_data_actions == toset([var.topic_arn])
    error_message = "a mirror that silently stopped is silent"
  }
}

run "every_alarm_tells_somebody_and_what_to_do" {
  command = plan

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.this), aws_cloudwatch_metric_alarm.unattended) :
      alarm.alarm_actions == toset([var.topic_arn]) && alarm.ok_actions == toset([var.topic_arn])
    ])
    error_message = "an alarm goes nowhere"
  }

  assert {
    condition = alltrue([
      for alarm in concat(values(aws_cloudwatch_metric_alarm.this), aws_cloudwatch_metric_alarm.unattended) :
      endswith(alarm.alarm_description, "Runbook: docs/operating.md#${trimprefix(alarm.alarm_name, "bottles-test-")}") && length(alarm.alarm_description) <= 1024
    ])
    error_message = "an alarm doesn't name its runbook"
  }
}

run "the_dashboard_shows_the_system" {
  command = plan

  variables {
    nat_gateway_ids = ["nat-1"]
  }

  assert {
    condition = length(setsubtract(
      [
        "RemainingBottles", "SecondsSinceSettledRun", "Bottles", "Bytes", "UpstreamResponses", "ApproximateAgeOfOldestMessage",
        "DesiredTaskCount", "ConcurrentExecutions", "Duration", "BucketSizeBytes", "BytesOutToSource",
      ],
      flatten([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : [for metric in widget.properties.metrics : metric[1]]]),
    )) == 0
    error_message = "the dashboard lacks something"
  }

  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget.x + widget.width <= 24])
    error_message = "a widget is beyond the grid"
  }
}

run "queries_read_our_logs" {
  command = plan

  assert {
    condition = alltrue(flatten([
      for query in aws_cloudwatch_query_definition.this : [for group in query.log_group_names : strcontains(group, "bottles-test")]
    ]))
    error_message = "a query reads the logs of others"
  }
}

run "alarms_can_be_off" {
  command = plan

  variables {
    enable_alarms      = false
    monthly_budget_usd = 0
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.this) + length(aws_cloudwatch_metric_alarm.unattended) + length(aws_budgets_budget.this) == 0
    error_message = "there are alarms although they are off"
  }
}

run "a_budget_for_the_stack" {
  command = plan

  variables {
    monthly_budget_usd = 50
    budget_scope       = "stack"
  }

  assert {
    condition     = aws_budgets_budget.this[0].limit_amount == "50.00" && one(aws_budgets_budget.this[0].cost_filter).values == tolist(["user:Stack$bottles-test"])
    error_message = "the budget counts something else"
  }

  assert {
    condition     = alltrue([for notification in aws_budgets_budget.this[0].notification : notification.subscriber_sns_topic_arns == toset([var.topic_arn])])
    error_message = "a budget that is used up tells nobody"
  }
}

run "waiting_longer_than_the_queue_keeps" {
  command = plan

  variables {
    oldest_message_hours = 100
    budget_scope         = "team"
  }

  expect_failures = [var.oldest_message_hours, var.budget_scope]
}
