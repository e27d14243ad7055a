# Alarms. Each is on a metric that AWS or the programs emit, and each names its
# section in docs/operating.md, which has the commands. None fires on a healthy
# system that has nothing to do.

locals {
  contract = jsondecode(file("${path.module}/../../contract.json"))

  queue_dimensions = { for key, name in var.queue_names : key => { QueueName = name } }

  dead_letters = {
    for lane in ["small", "large"] : "${lane}-dead-letters" => {
      namespace  = "AWS/SQS"
      metric     = "ApproximateNumberOfMessagesVisible"
      dimensions = local.queue_dimensions["${lane}_dead_letters"]
      stat       = "Maximum"
      period     = 60
      threshold  = 0
      text       = "Bottles of the ${lane} queue were given up on. Look: bottles dead-letters list --stack ${var.name}"
    }
  }

  oldest_message = {
    for lane in ["small", "large"] : "${lane}-oldest-message" => {
      namespace   = "AWS/SQS"
      metric      = "ApproximateAgeOfOldestMessage"
      dimensions  = local.queue_dimensions[lane]
      stat        = "Maximum"
      period      = 300
      evaluations = 3
      threshold   = 3600 * var.oldest_message_hours
      text        = "A bottle has waited on the ${lane} queue for more than ${var.oldest_message_hours} hours. Look: bottles status --stack ${var.name}"
    }
  }

  failures = {
    failed-invocations = {
      namespace  = "AWS/SQS"
      metric     = "ApproximateNumberOfMessagesVisible"
      dimensions = local.queue_dimensions["failures"]
      stat       = "Maximum"
      period     = 60
      threshold  = 0
      text       = "A plan or an alarm for Slack failed for good; the queue ${var.queue_names.failures} says why."
    }
    scheduler-dead-letters = {
      namespace  = "AWS/SQS"
      metric     = "ApproximateNumberOfMessagesVisible"
      dimensions = local.queue_dimensions["scheduler_dead_letters"]
      stat       = "Maximum"
      period     = 60
      threshold  = 0
      text       = "The scheduler could not hand a plan or settle to Lambda; the queue ${var.queue_names.scheduler_dead_letters} says why. Plan by hand: bottles run --stack ${var.name}"
    }
  }

  # One failed settle is mended by the next; the others are worth a look at once.
  lambda_errors = {
    for key, function in var.functions : "${key}-errors" => {
      namespace   = "AWS/Lambda"
      metric      = "Errors"
      dimensions  = { FunctionName = function.name }
      stat        = "Sum"
      period      = 300
      evaluations = contains(["settle", "consumer"], key) ? 3 : 1
      breaching   = contains(["settle", "consumer"], key) ? 2 : 1
      threshold   = 0
      text        = "The function ${function.name} fails. Look: aws logs tail ${function.log_group} --since 1h"
    }
  }

  # A plan by hand may meet a scheduled one: Lambda tries again, and once is nothing.
  lambda_throttles = {
    for key, function in var.functions : "${key}-throttles" => {
      namespace   = "AWS/Lambda"
      metric      = "Throttles"
      dimensions  = { FunctionName = function.name }
      stat        = "Sum"
      period      = 300
      evaluations = 3
      threshold   = 0
      text        = "The function ${function.name} is refused by Lambda again and again: it runs already, or the account's concurrency is used up."
    }
  }

  lambda_duration = {
    for key, function in var.functions : "${key}-duration" => {
      namespace  = "AWS/Lambda"
      metric     = "Duration"
      dimensions = { FunctionName = function.name }
      stat       = "Maximum"
      period     = 300
      # In milliseconds.
      threshold   = 900 * function.timeout_seconds
      evaluations = key == "consumer" ? 3 : 1
      text        = "The function ${function.name} takes more than nine tenths of the ${function.timeout_seconds} s that it has."
    }
  }

  tasks = {
    stopped-tasks = {
      namespace  = "AWS/Events"
      metric     = "Invocations"
      dimensions = { RuleName = var.ecs.stopped_tasks.rule_name }
      stat       = "Sum"
      period     = 300
      threshold  = 0
      text       = "A task could not start, or ended by itself. Look: aws logs tail ${var.ecs.stopped_tasks.log_group_name} --since 1h"
    }
    tasks-cpu = {
      namespace   = "AWS/ECS"
      metric      = "CPUUtilization"
      dimensions  = { ClusterName = var.ecs.cluster_name, ServiceName = var.ecs.service_name }
      stat        = "Average"
      period      = 300
      evaluations = 12
      threshold   = 95
      text        = "Tasks have used all of their CPU for an hour: give them more (ecs_task_cpu), or more of them work (ecs_max_tasks)."
    }
    tasks-memory = {
      namespace   = "AWS/ECS"
      metric      = "MemoryUtilization"
      dimensions  = { ClusterName = var.ecs.cluster_name, ServiceName = var.ecs.service_name }
      stat        = "Maximum"
      period      = 300
      evaluations = 3
      threshold   = 90
      text        = "Tasks use more than nine tenths of their memory: give them more (ecs_task_memory). Beyond it they are killed."
    }
  }

  upstream = {
    for class in ["5xx", "429", "unreachable"] : "upstream-${class}" => {
      own        = true
      metric     = "UpstreamResponses"
      dimensions = { Environment = var.name, Outcome = class }
      stat       = "Sum"
      period     = 900
      threshold  = var.upstream_failures_per_quarter_hour
      text       = "Upstream answers ${class == "unreachable" ? "not at all" : "with ${class}"} more than ${var.upstream_failures_per_quarter_hour} times in fifteen minutes. Requests are tried again later by themselves."
    }
  }

  runs = {
    run-stalled = {
      own        = true
      metric     = "StalledRuns"
      dimensions = { Environment = var.name }
      stat       = "Maximum"
      period     = 900
      threshold  = 0
      text       = "A run has bottles left and makes no progress. Look: bottles status --stack ${var.name}"
    }
    no-settled-run = {
      own        = true
      metric     = "SecondsSinceSettledRun"
      dimensions = { Environment = var.name }
      stat       = "Maximum"
      period     = 1800
      threshold  = 3600 * var.settled_run_max_age_hours
      # Settle says it every few minutes. That it says nothing is told as well;
      # a system that is new has said nothing yet, and is in that state from the
      # beginning, which tells nobody.
      missing = "missing"
      text    = "No run has settled for more than ${var.settled_run_max_age_hours} hours, or settle says nothing any more: the mirror gets old. Look: bottles status --stack ${var.name}"
    }
    unreadable-receipts = {
      own        = true
      metric     = "UnreadableReceipts"
      dimensions = { Environment = var.name }
      stat       = "Maximum"
      period     = 300
      threshold  = 0
      text       = "A receipt in s3://${var.bucket_name}/_sync/ can't be read and was put aside; its bottles are planned again."
    }
  }

  all = merge(
    local.dead_letters, local.oldest_message, local.failures, local.lambda_errors, local.lambda_throttles,
    local.lambda_duration, local.tasks, local.upstream, local.runs,
  )
  alarms = { for key, alarm in local.all : key => alarm if var.enable_alarms }
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = "${each.value.text} Runbook: docs/operating.md#${each.key}"
  namespace           = try(each.value.own, false) ? local.contract.namespace : each.value.namespace
  metric_name         = each.value.metric
  dimensions          = each.value.dimensions
  statistic           = each.value.stat
  period              = each.value.period
  evaluation_periods  = try(each.value.evaluations, 1)
  datapoints_to_alarm = try(each.value.breaching, each.value.evaluations, 1)
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  treat_missing_data  = try(each.value.missing, "notBreaching")

  alarm_actions             = [var.topic_arn]
  ok_actions                = [var.topic_arn]
  insufficient_data_actions = try(each.value.missing, "") == "missing" ? [var.topic_arn] : []

  lifecycle {
    precondition {
      condition = !try(each.value.own, false) || try(
        toset(keys(each.value.dimensions)) == toset(local.contract.metrics[each.value.metric].dimensions), false
      )
      error_message = "The programs emit no metric ${each.value.metric} with these dimensions: see contract.json."
    }
  }
}

# Work waits, and nobody is at it: tasks can't be had, can't start, or were never
# asked for. Nothing in flight says it without a metric of tasks, which is not
# there when there are none.
resource "aws_cloudwatch_metric_alarm" "unattended" {
  count = var.enable_alarms ? 1 : 0

  alarm_name          = "${var.name}-large-unattended"
  alarm_description   = "Large bottles have waited for fifteen minutes and no task works on them. Look: aws ecs describe-services --cluster ${var.ecs.cluster_name} --services ${var.ecs.service_name} --query 'services[0].events[:5]' Runbook: docs/operating.md#large-unattended"
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  evaluation_periods  = 3
  datapoints_to_alarm = 3
  treat_missing_data  = "notBreaching"
  alarm_actions       = [var.topic_arn]
  ok_actions          = [var.topic_arn]

  metric_query {
    id          = "unattended"
    expression  = "IF(inflight == 0, visible, 0)"
    label       = "Bottles that wait while nobody works"
    return_data = true
  }

  metric_query {
    id = "visible"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesVisible"
      dimensions  = local.queue_dimensions["large"]
      period      = 300
      stat        = "Minimum"
    }
  }

  metric_query {
    id = "inflight"

    metric {
      namespace   = "AWS/SQS"
      metric_name = "ApproximateNumberOfMessagesNotVisible"
      dimensions  = local.queue_dimensions["large"]
      period      = 300
      stat        = "Maximum"
    }
  }
}

resource "aws_budgets_budget" "this" {
  count = var.monthly_budget_usd > 0 ? 1 : 0

  name         = "${var.name}-monthly"
  budget_type  = "COST"
  limit_amount = format("%.2f", var.monthly_budget_usd)
  limit_unit   = "USD"
  time_unit    = "MONTHLY"

  dynamic "cost_filter" {
    for_each = var.budget_scope == "stack" ? [var.name] : []

    content {
      name   = "TagKeyValue"
      values = [format("user:Stack$%s", cost_filter.value)]
    }
  }

  notification {
    notification_type         = "ACTUAL"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 80
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [var.topic_arn]
  }

  notification {
    notification_type         = "FORECASTED"
    comparison_operator       = "GREATER_THAN"
    threshold                 = 100
    threshold_type            = "PERCENTAGE"
    subscriber_sns_topic_arns = [var.topic_arn]
  }
}

# Saved queries of CloudWatch Logs Insights.

locals {
  log_groups = concat([for function in var.functions : function.log_group], [var.ecs.log_group_name])
  consumers  = [var.functions["consumer"].log_group, var.ecs.log_group_name]

  queries = {
    "What went wrong" = {
      groups = local.log_groups
      query  = "fields @timestamp, level, message, error, `bottle.digest`, `run.id`\n| filter level in [\"WARN\", \"ERROR\"]\n| sort @timestamp desc\n| limit 200"
    }
    "One bottle" = {
      groups = local.log_groups
      query  = "fields @timestamp, level, message, error, `run.id`, `message.id`\n| filter `bottle.digest` = \"put the digest here\"\n| sort @timestamp"
    }
    "One run" = {
      groups = local.log_groups
      query  = "fields @timestamp, level, message, formula, `bottle.digest`, reason, error\n| filter `run.id` = \"put the run here\"\n| sort @timestamp"
    }
    "Dead letters by reason" = {
      groups = local.consumers
      query  = "filter message like /dead-lettered/\n| stats count(*) as bottles by reason\n| sort bottles desc"
    }
    "Bottles given back" = {
      groups = local.consumers
      query  = "filter message = \"given back for a later try\"\n| stats count(*) as times, latest(error) as last_error by formula, `bottle.digest`\n| sort times desc\n| limit 100"
    }
    "Failed invocations" = {
      groups = [for function in var.functions : function.log_group]
      query  = "fields @timestamp, @log, error, `request.id`\n| filter message = \"the invocation failed\"\n| sort @timestamp desc\n| limit 100"
    }
    "Why tasks stopped" = {
      groups = [var.ecs.stopped_tasks.log_group_name]
      query  = "fields @timestamp, detail.stopCode, detail.stoppedReason, detail.containers.0.exitCode, detail.containers.0.reason\n| sort @timestamp desc\n| limit 50"
    }
  }
}

resource "aws_cloudwatch_query_definition" "this" {
  for_each = { for name, query in local.queries : name => query if var.enable_queries }

  name            = "${var.name}/${each.key}"
  log_group_names = each.value.groups
  query_string    = each.value.query
}

# The dashboard: rows of widgets, on a grid of 24 columns.

locals {
  ns    = local.contract.namespace
  own   = ["Environment", var.name]
  lanes = local.contract.queues

  rows = [
    [
      {
        title   = "Bottles on their way"
        stat    = "Maximum"
        metrics = [concat([local.ns, "RemainingBottles"], local.own)]
      },
      {
        title   = "Seconds since a run settled"
        stat    = "Maximum"
        metrics = [concat([local.ns, "SecondsSinceSettledRun"], local.own)]
      },
      {
        title = "Runs: seconds that they took, and stalled ones"
        stat  = "Maximum"
        metrics = [
          concat([local.ns, "RunSeconds"], local.own, [{ label = "seconds" }]),
          concat([local.ns, "StalledRuns"], local.own, [{ label = "stalled", yAxis = "right" }]),
        ]
      },
      {
        title = "Planned"
        stat  = "Sum"
        metrics = concat(
          [for lane in local.lanes : concat([local.ns, "PlannedBottles"], local.own, ["Queue", lane, { label = "${lane} bottles" }])],
          [
            concat([local.ns, "PlanProblems"], local.own, [{ label = "formulae with problems" }]),
            concat([local.ns, "PlansCompleted"], local.own, [{ label = "plans completed", yAxis = "right" }]),
          ],
        )
      },
    ],
    [
      {
        title = "Queues: waiting and in hand"
        stat  = "Maximum"
        metrics = concat(
          [for lane in local.lanes : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_names[lane], { label = "${lane}, waiting" }]],
          [for lane in local.lanes : ["AWS/SQS", "ApproximateNumberOfMessagesNotVisible", "QueueName", var.queue_names[lane], { label = "${lane}, in hand" }]],
        )
      },
      {
        title   = "Queues: seconds that the oldest has waited"
        stat    = "Maximum"
        metrics = [for lane in local.lanes : ["AWS/SQS", "ApproximateAgeOfOldestMessage", "QueueName", var.queue_names[lane], { label = lane }]]
      },
      {
        title = "Dead letters"
        stat  = "Maximum"
        metrics = [
          for queue, label in {
            small_dead_letters     = "small"
            large_dead_letters     = "large"
            failures               = "failed invocations"
            scheduler_dead_letters = "scheduler"
          } : ["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.queue_names[queue], { label = label }]
        ]
      },
      {
        title = "Tasks: running and desired"
        stat  = "Maximum"
        metrics = [
          ["AWS/ECS", "CPUUtilization", "ClusterName", var.ecs.cluster_name, "ServiceName", var.ecs.service_name, { label = "running", stat = "SampleCount", period = 60 }],
          ["ECS/ContainerInsights", "DesiredTaskCount", "ClusterName", var.ecs.cluster_name, "ServiceName", var.ecs.service_name, { label = "desired (Container Insights)" }],
        ]
      },
    ],
    [
      {
        title = "Bottles by what became of them"
        stat  = "Sum"
        metrics = flatten([
          for lane in local.lanes : [
            for outcome in local.contract.outcomes : {
              metric = concat([local.ns, "Bottles"], local.own, ["Queue", lane, "Outcome", outcome, { label = "${lane}, ${outcome}" }])
            }
          ]
        ])[*].metric
      },
      {
        title   = "Bytes that were mirrored"
        stat    = "Sum"
        metrics = [for lane in local.lanes : concat([local.ns, "Bytes"], local.own, ["Queue", lane, { label = lane }])]
      },
      {
        title = "Seconds for a bottle"
        stat  = "p50"
        metrics = concat(
          [for lane in local.lanes : concat([local.ns, "TransferSeconds"], local.own, ["Queue", lane, { label = "${lane}, half of them" }])],
          [for lane in local.lanes : concat([local.ns, "TransferSeconds"], local.own, ["Queue", lane, { label = "${lane}, all but 5 %", stat = "p95" }])],
        )
      },
      {
        title = "Upstream's answers"
        stat  = "Sum"
        metrics = concat(
          [for class in local.contract.upstream_classes : concat([local.ns, "UpstreamResponses"], local.own, ["Outcome", class, { label = class }])],
          [concat([local.ns, "UpstreamRetries"], local.own, [{ label = "tried again" }])],
        )
      },
    ],
    [
      {
        title   = "Functions: longest run in milliseconds"
        stat    = "Maximum"
        metrics = [for key, function in var.functions : ["AWS/Lambda", "Duration", "FunctionName", function.name, { label = key }]]
      },
      {
        title   = "Functions: at once"
        stat    = "Maximum"
        metrics = [for key, function in var.functions : ["AWS/Lambda", "ConcurrentExecutions", "FunctionName", function.name, { label = key }]]
      },
      {
        title = "Functions: errors and throttles"
        stat  = "Sum"
        metrics = concat(
          [for key, function in var.functions : ["AWS/Lambda", "Errors", "FunctionName", function.name, { label = "${key}, errors" }]],
          [for key, function in var.functions : ["AWS/Lambda", "Throttles", "FunctionName", function.name, { label = "${key}, throttles" }]],
        )
      },
      {
        title = "Tasks: CPU and memory in percent"
        stat  = "Average"
        metrics = [
          ["AWS/ECS", "CPUUtilization", "ClusterName", var.ecs.cluster_name, "ServiceName", var.ecs.service_name, { label = "CPU" }],
          ["AWS/ECS", "MemoryUtilization", "ClusterName", var.ecs.cluster_name, "ServiceName", var.ecs.service_name, { label = "memory" }],
        ]
      },
    ],
    # What costs: storage, functions' time, tasks' time, requests, NAT.
    [
      {
        title   = "Cost: bytes in the bucket, by day"
        stat    = "Average"
        period  = 86400
        metrics = [["AWS/S3", "BucketSizeBytes", "BucketName", var.bucket_name, "StorageType", "StandardStorage", { label = "standard" }], ["AWS/S3", "BucketSizeBytes", "BucketName", var.bucket_name, "StorageType", "IntelligentTieringFAStorage", { label = "tiered" }]]
      },
      {
        title   = "Cost: milliseconds of functions"
        stat    = "Sum"
        metrics = [for key, function in var.functions : ["AWS/Lambda", "Duration", "FunctionName", function.name, { label = key }]]
      },
      {
        title   = "Cost: minutes of tasks"
        stat    = "SampleCount"
        metrics = [["AWS/ECS", "CPUUtilization", "ClusterName", var.ecs.cluster_name, "ServiceName", var.ecs.service_name, { label = "minutes" }]]
      },
      {
        title = "Cost: messages, and bytes through the NAT"
        stat  = "Sum"
        metrics = concat(
          [for lane in local.lanes : ["AWS/SQS", "NumberOfMessagesSent", "QueueName", var.queue_names[lane], { label = "${lane} messages" }]],
          [for id in var.nat_gateway_ids : ["AWS/NATGateway", "BytesOutToSource", "NatGatewayId", id, { label = "bytes in by ${id}", yAxis = "right" }]],
        )
      },
    ],
  ]

  widgets = flatten([
    for row, widgets in local.rows : [
      for column, widget in widgets : {
        type   = "metric"
        x      = 6 * column
        y      = 6 * row
        width  = 6
        height = 6
        properties = {
          title   = widget.title
          region  = var.context.region
          view    = "timeSeries"
          stat    = widget.stat
          period  = try(widget.period, 300)
          metrics = widget.metrics
        }
      }
    ]
  ])

  # Of our own metrics on it: name, then dimensions and their values in turn.
  shown = [
    for metric in flatten([for widget in local.widgets : [for metric in widget.properties.metrics : { of = metric }]])[*].of :
    [for part in metric : part if can(tostring(part))] if metric[0] == local.ns
  ]
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = var.name
  dashboard_body = jsonencode({ widgets = local.widgets })

  lifecycle {
    precondition {
      condition = alltrue([
        for metric in local.shown : try(
          toset([for index in range(2, length(metric), 2) : metric[index]]) == toset(local.contract.metrics[metric[1]].dimensions), false
        )
      ])
      error_message = "The dashboard shows a metric that the programs don't emit, or not with these dimensions: see contract.json."
    }
  }
}
