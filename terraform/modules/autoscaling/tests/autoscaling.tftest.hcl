mock_provider "aws" {
  mock_resource "aws_appautoscaling_policy" {
    defaults = { arn = "arn:aws:autoscaling:eu-west-1:123456789012:scalingPolicy:1:resource/ecs/service/c/s:policyName/p" }
  }
}

variables {
  name             = "bottles-test"
  cluster_name     = "bottles-test"
  service_name     = "bottles-test-consumer"
  queue_name       = "bottles-test-large"
  max_tasks        = 4
  bottles_per_task = 25
}

run "from_none_to_the_bound" {
  command = plan

  assert {
    condition     = aws_appautoscaling_target.this.min_capacity == 0 && aws_appautoscaling_target.this.max_capacity == 4
    error_message = "the service has other bounds"
  }

  assert {
    condition     = aws_appautoscaling_target.this.resource_id == "service/bottles-test/bottles-test-consumer"
    error_message = "something else is scaled"
  }
}

run "scaling_out_never_takes_tasks_away" {
  command = plan

  assert {
    condition = alltrue([
      for step in one(aws_appautoscaling_policy.scale_out.step_scaling_policy_configuration).step_adjustment : step.scaling_adjustment > 0
    ]) && one(aws_appautoscaling_policy.scale_out.step_scaling_policy_configuration).adjustment_type == "ChangeInCapacity"
    error_message = "a queue that gets shorter would stop tasks"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration).disable_scale_in
    error_message = "the backlog takes tasks away that have bottles in hand"
  }
}

run "more_waits_more_tasks" {
  command = plan

  assert {
    condition = { for step in one(aws_appautoscaling_policy.scale_out.step_scaling_policy_configuration).step_adjustment : tostring(step.metric_interval_lower_bound) => step.scaling_adjustment } == {
      "0"  = 1
      "25" = 2
      "50" = 4
    }
    error_message = "the steps are others"
  }

  assert {
    condition     = one(aws_appautoscaling_policy.backlog.target_tracking_scaling_policy_configuration).target_value == 25
    error_message = "the target is not the backlog that a plan counts with"
  }
}

run "the_first_bottle_is_enough" {
  command = plan

  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_out.threshold == 1 && aws_cloudwatch_metric_alarm.scale_out.comparison_operator == "GreaterThanOrEqualToThreshold" && aws_cloudwatch_metric_alarm.scale_out.evaluation_periods == 1
    error_message = "one bottle that waits calls nobody"
  }
}

run "tasks_go_when_nothing_waits_or_is_in_flight" {
  command = plan

  assert {
    condition = toset([for query in aws_cloudwatch_metric_alarm.scale_in.metric_query : one(query.metric).metric_name if length(query.metric) > 0]) == toset([
      "ApproximateNumberOfMessagesVisible", "ApproximateNumberOfMessagesNotVisible", "CPUUtilization",
    ])
    error_message = "scaling in does not look at what is in flight, or at whether tasks run"
  }

  assert {
    condition     = one([for query in aws_cloudwatch_metric_alarm.scale_in.metric_query : query.expression if query.return_data == true]) == "IF((visible + inflight) == 0, tasks, 0)"
    error_message = "tasks are taken away from work"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_in.evaluation_periods == 10 && aws_cloudwatch_metric_alarm.scale_in.datapoints_to_alarm == 10
    error_message = "a short pause stops all tasks"
  }

  assert {
    condition = (
      one(aws_appautoscaling_policy.scale_in.step_scaling_policy_configuration).adjustment_type == "ExactCapacity" &&
      one(one(aws_appautoscaling_policy.scale_in.step_scaling_policy_configuration).step_adjustment).scaling_adjustment == 0
    )
    error_message = "tasks stay when there is nothing to do"
  }
}

run "a_system_that_rests_scales_nothing" {
  command = plan

  assert {
    condition     = alltrue([for alarm in [aws_cloudwatch_metric_alarm.scale_in, aws_cloudwatch_metric_alarm.scale_out] : alarm.treat_missing_data == "notBreaching"])
    error_message = "a queue that nobody uses emits no metrics, and would scale"
  }
}

run "the_right_queue_and_service" {
  command = apply

  assert {
    condition = alltrue(flatten([
      for alarm in [aws_cloudwatch_metric_alarm.scale_in, aws_cloudwatch_metric_alarm.scale_out] : [
        for query in alarm.metric_query : [
          for metric in query.metric : metric.dimensions == tomap(
            metric.namespace == "AWS/SQS" ? { QueueName = "bottles-test-large" } : { ClusterName = "bottles-test", ServiceName = "bottles-test-consumer" }
          )
        ]
      ]
    ]))
    error_message = "an alarm looks at another queue or service"
  }

  assert {
    condition     = aws_cloudwatch_metric_alarm.scale_out.alarm_actions == toset([aws_appautoscaling_policy.scale_out.arn])
    error_message = "the alarm scales nothing"
  }
}

run "half_a_task" {
  command = plan

  variables {
    max_tasks        = 0
    bottles_per_task = 2.5
    idle_minutes     = 1
    queue_name       = "https://sqs.eu-west-1.amazonaws.com/123456789012/large"
  }

  expect_failures = [var.max_tasks, var.bottles_per_task, var.idle_minutes, var.queue_name]
}
